"""Makes the README's pictures from a run and a site: `python docs/make_pictures.py RUN SITE`.

The terminal is what `rh-bench show RUN` prints, as SVG; the site is photographed by a real Chromium.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

from rich.console import Console

from leaderboard.screenshots import take
from rh_bench.show import show

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("site", type=Path)
    arguments = parser.parse_args()
    console = Console(record=True, width=76, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    show(arguments.run, console, top=10)
    console.save_svg(str(IMAGES / "show.svg"), title="rh-bench show")
    with tempfile.TemporaryDirectory() as folder:
        for picture in take(arguments.site, Path(folder)):
            if picture.stem == "overview-desktop-light":
                (IMAGES / picture.name).write_bytes(picture.read_bytes())


if __name__ == "__main__":
    main()
