"""Makes the README's pictures from a run and a site: `python docs/make_pictures.py RUN SITE`.

The terminal is what `rh-bench show RUN` prints, as SVG; the site is photographed by a real Chromium. The causal curves
are those of the real models, whose site `benchmarks/results/models/README.md` says how to build: `--causal SITE`.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

from rich.console import Console

from rh_bench.cli.show import show
from rh_bench.leaderboard.screenshots import LAUNCH_ARGUMENTS, find_chromium, take

IMAGES = Path(__file__).parent / "images"


def causal_curves(site: Path, out: Path) -> None:
    """The first curves on the page of experiments, as a PNG."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(LAUNCH_ARGUMENTS))
        page = browser.new_page(viewport={"width": 1280, "height": 900}, device_scale_factor=2)
        page.goto(f"{(site / 'experiments.html').resolve().as_uri()}#theme=light")
        boxes = [figure.bounding_box() for figure in page.locator("figure.experiment:has(svg.causal)").all()[:2]]
        left, top = min(box["x"] for box in boxes if box), min(box["y"] for box in boxes if box)
        right = max(box["x"] + box["width"] for box in boxes if box)
        bottom = max(box["y"] + box["height"] for box in boxes if box)
        clip = {"x": left - 12, "y": top - 12, "width": right - left + 24, "height": bottom - top + 24}
        page.screenshot(path=out, full_page=True, clip=clip)
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("site", type=Path)
    parser.add_argument("--causal", type=Path, help="site with causal experiments")
    arguments = parser.parse_args()
    console = Console(record=True, width=76, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    show(arguments.run, console, top=10)
    console.save_svg(str(IMAGES / "show.svg"), title="rh-bench show")
    with tempfile.TemporaryDirectory() as folder:
        for picture in take(arguments.site, Path(folder)):
            if picture.stem == "overview-desktop-light":
                (IMAGES / picture.name).write_bytes(picture.read_bytes())
    if arguments.causal:
        causal_curves(arguments.causal, IMAGES / "causal.png")


if __name__ == "__main__":
    main()
