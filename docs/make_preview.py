"""Makes the picture that links to the site are shown with: `python docs/make_preview.py RUN`.

The heat map is that of a real run, its layers from left to right. A real Chromium draws the picture once, and the PNG
is kept in the repository: a build then needs neither fonts nor an imaging library, and gives the same bytes everywhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rh_bench.display.palette import preview_colours, score_level
from rh_bench.leaderboard.collect import collect
from rh_bench.leaderboard.screenshots import LAUNCH_ARGUMENTS, find_chromium

TARGET = Path(__file__).parents[1] / "leaderboard" / "assets" / "preview.png"
WIDTH, HEIGHT = 1200, 630


def picture(run: Path) -> str:
    """The picture as SVG."""
    entry = next(entry for entry in collect(run.parents[1]).entries if entry.run_id == run.name)
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in preview_colours()]
    layers, heads = max(head.layer for head in entry.heads) + 1, max(head.head for head in entry.heads) + 1
    cell = min((WIDTH - 160) // layers, 300 // heads)
    left, top = (WIDTH - cell * layers) // 2, HEIGHT - 70 - cell * heads
    cells = "".join(
        f'<rect x="{left + head.layer * cell}" y="{top + head.head * cell}" width="{cell - 3}" height="{cell - 3}"'
        f' rx="3" fill="{colours[1 + (score_level(head.score) or 0)]}"/>'
        for head in entry.heads
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">
<rect width="{WIDTH}" height="{HEIGHT}" fill="{colours[0]}"/>
<g font-family="Liberation Sans,DejaVu Sans,sans-serif" fill="#e4e7ea">
<text x="80" y="130" font-size="64" font-weight="700">Retrieval heads</text>
<text x="80" y="184" font-size="29" fill="#98a3ae">Which attention heads copy from far back in the context,</text>
<text x="80" y="224" font-size="29" fill="#98a3ae">measured reproducibly, with intervals.</text>
</g>{cells}</svg>"""


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(LAUNCH_ARGUMENTS))
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_content(f'<body style="margin:0">{picture(arguments.run)}')
        page.screenshot(path=TARGET)
        browser.close()


if __name__ == "__main__":
    main()
