"""Pictures of a built site: `python -m rh_bench.leaderboard.screenshots SITE OUT`. Needs Playwright and a Chromium."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from rh_bench.errors import InputError

LAUNCH_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCREENS = {"desktop": (1280, 900), "phone": (390, 844)}


def find_chromium() -> str | None:
    """Path of the Chromium to drive: RH_BENCH_CHROMIUM, or the first `chromium` on the PATH."""
    return os.environ.get("RH_BENCH_CHROMIUM") or shutil.which("chromium")


def kinds(site: Path) -> dict[str, tuple[Path, str]]:
    """One page of every kind that the site has: its file, and what its address says after the #.

    Pages across runs go by the names of their files; of pages of single runs, the first stands for all.
    """
    found = {path.stem: (path, "") for path in sorted(site.glob("*.html"))}
    found["overview"] = found.pop("index")
    runs = sorted((site / "models").glob("*/*.html"))
    if runs:
        found["model"] = (runs[0], "")
    if "compare" in found and len(runs) > 1:
        keys = [path.relative_to(site / "models").with_suffix("").as_posix() for path in runs[:2]]
        found["compare"] = (found["compare"][0], "runs=" + ",".join(keys))
    for path in sorted(site.glob("models/*/*/*.html")):
        found.setdefault(path.stem, (path, ""))
    for path in sorted(site.glob("imports/*/*.html"))[:1]:
        found["imported"] = (path, "")
    return dict(sorted(found.items()))


def take(site: Path, out: Path) -> list[Path]:
    """Whole-page pictures of a page of every kind, light and dark, on a desktop and a phone.

    Raises:
        InputError: `site` is not a built site, or there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    if not (site / "index.html").is_file():
        raise InputError("holds no index.html", where=site, hint="build it with rh-bench leaderboard RUNS --out SITE")
    chromium = find_chromium()
    if chromium is None:
        raise InputError("no Chromium found", hint="install Debian's chromium or set RH_BENCH_CHROMIUM to its path")
    pages = kinds(site)
    out.mkdir(parents=True, exist_ok=True)
    pictures = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(LAUNCH_ARGUMENTS))
        for screen, (width, height) in SCREENS.items():
            for theme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=2)
                for name, (path, state) in pages.items():
                    page.goto("about:blank")
                    page.goto(f"{path.resolve().as_uri()}#{'&'.join(filter(None, (state, f'theme={theme}')))}")
                    pictures.append(out / f"{name}-{screen}-{theme}.png")
                    page.screenshot(path=pictures[-1], full_page=True)
                page.close()
        browser.close()
    return pictures


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 the input is wrong."""
    parser = argparse.ArgumentParser(prog="python -m rh_bench.leaderboard.screenshots", description=__doc__)
    parser.add_argument("site", type=Path, help="folder of a built site")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    options = parser.parse_args(arguments)
    try:
        pictures = take(options.site, options.out)
    except InputError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    print(*pictures, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
