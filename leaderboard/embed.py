"""What other pages can show of a run: a badge and a card as SVG, and the picture that a link to it is shown with.

A badge and a card have their looks in attributes, since they are shown where the site's sheets are not. Sites that
preview links want PNG with a whole address, so that picture is made only where the site's own address is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rh_bench.display import formatting as words
from rh_bench.display.palette import preview_colours, score_level
from rh_bench.leaderboard.badges import badge_of
from rh_bench.leaderboard.briefs import RunBrief
from rh_bench.leaderboard.open_run import OpenRun
from rh_bench.leaderboard.png import indexed_png
from rh_bench.leaderboard.render import Document, Frame, environment
from rh_bench.leaderboard.universality_charts import curve_points, layers_of
from rh_bench.stats.bootstrap import NANO

BADGE_COLOURS = {"valid": "#56606a", "recomputed": "#1b5f99", "rerun": "#1d6b4f", "failed": "#a03a1c"}
"""White text on each has a contrast above 4.5."""
PREVIEW = (630, 1200)
"""Height and width that previews of links are cut to."""
_LABEL = "retrieval heads"
_NAME = 42
"""Characters of a model's name on a card."""
_NARROW, _WIDE = frozenset("fijlrt.,:;|!'()[]· "), frozenset("mwMW%@")
_LEAST_DECADE = -3.0


@dataclass(frozen=True, slots=True)
class BadgeView:
    """Two fields with text, in pixels."""

    label: str
    message: str
    label_width: int
    message_width: int
    colour: str


@dataclass(frozen=True, slots=True)
class CardView:
    name: str
    about: str
    share: str
    sentence: str
    interval: str
    line: str
    threshold_y: float
    success: str
    badge: str
    colour: str


def documents(run: OpenRun, frame: Frame) -> Iterator[Document]:
    """The badge, the card and, where the site has an address, the preview of a run."""
    brief = run.brief
    stem = brief.page.removesuffix(".html")
    yield f"{stem}.badge.svg", environment().get_template("badge.svg").render(view=badge_view(brief))
    yield f"{stem}.card.svg", environment().get_template("card.svg").render(view=card_view(brief))
    if frame.url:
        yield f"{stem}.preview.png", preview(brief)


def badge_view(brief: RunBrief) -> BadgeView:
    """Share of retrieval heads and how far that is verified."""
    share = words.figure(brief.share, words.percent)
    name = badge_of(brief.badge).name
    scored = "not scored" if share.reason and not share.sort_key else share.text
    message = " · ".join([scored, *([] if brief.coverage.whole else [brief.coverage.mark]), name])
    return BadgeView(_LABEL, message, _width(_LABEL) + 12, _width(message) + 12, BADGE_COLOURS[name])


def card_view(brief: RunBrief) -> CardView:
    share = words.figure(brief.share, words.percent)
    success = words.figure(brief.success, words.percent)
    name = words.visible(brief.model)
    scored = bool(share.sort_key)
    return CardView(
        name=name if len(name) <= _NAME else name[: _NAME - 1] + "…",
        about=" · ".join(
            (
                f"{words.parameters(brief.parameters)} parameters",
                f"{brief.shape} heads",
                _short(words.visible(brief.set_name)),
            )
        ),
        share=share.text if scored else "–",
        sentence=f"of {brief.heads:,} heads are retrieval heads" if scored else "no sample counted",
        interval=f"95% interval {share.interval}" if share.interval else "",
        line=_sparkline(brief),
        threshold_y=round(100 * (1 - brief.threshold), 1),
        success=" · ".join(
            [
                *([f"{success.text} of the needles found"] if success.sort_key else []),
                *([] if brief.coverage.whole else [f"{brief.coverage.mark}, not ranked"]),
            ]
        ),
        badge=badge_of(brief.badge).name,
        colour=BADGE_COLOURS[brief.badge],
    )


def _short(text: str, most: int = 28) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _width(text: str) -> int:
    """Pixels of a text at 11 pixels: the exact width does not matter, since the text is fitted to it."""
    return round(sum(3.9 if char in _NARROW else 9.6 if char in _WIDE else 6.8 for char in text))


def _sparkline(brief: RunBrief) -> str:
    """Scores over normalised rank on a plane of 190 × 100."""
    rows = brief.cross.rows()
    if rows is None:
        return ""
    points = [
        (round(190 * (1 - max(float(np.log10(share)), _LEAST_DECADE) / _LEAST_DECADE), 1), round(100 * (1 - score), 1))
        for share, score in curve_points(rows)
    ]
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def preview(brief: RunBrief) -> bytes:
    """The heat map of a run, its layers from left to right, and below it all scores from the strongest to the
    weakest. There are no words in it: sites show the page's title beside it. Colours are those of the dark pages."""
    height, width = PREVIEW
    pixels = np.zeros(PREVIEW, dtype=np.uint8)
    rows = brief.cross.rows()
    if rows is None or not len(rows):
        return indexed_png(pixels, preview_colours())
    levels = np.array([1 + (score_level(int(score) / NANO) or 0) for score in rows.tolist()], dtype=np.uint8)
    layers = layers_of(brief.cross)
    heads = np.concatenate([np.arange(count) for _, count in brief.cross.layers])
    grid = np.zeros((int(heads.max()) + 1, max(brief.cross.depth, 1)), dtype=np.uint8)
    grid[heads, layers] = levels
    _draw(pixels, grid, 60, height - 170, width)
    ordered = np.sort(levels)[::-1]
    places = np.arange(width - 120) * len(ordered) // (width - 120)
    pixels[height - 90 : height - 50, 60 : width - 60] = ordered[places]
    return indexed_png(pixels, preview_colours())


def _draw(pixels: npt.NDArray[np.uint8], grid: npt.NDArray[np.uint8], top: int, most: int, width: int) -> None:
    """Cells of one whole size, as large as fit, in the middle; a gap between them where there is room."""
    rows, columns = grid.shape
    tall, wide = max(most // rows, 1), max((width - 120) // columns, 1)
    tall, wide = min(tall, wide * 2), min(wide, tall * 3)
    picture = np.repeat(np.repeat(grid, tall, axis=0), wide, axis=1)
    if tall > 5 and wide > 5:
        picture[tall - 2 :: tall] = picture[tall - 1 :: tall] = 0
        picture[:, wide - 2 :: wide] = 0
        picture[:, wide - 1 :: wide] = 0
    picture = picture[: pixels.shape[0] - top, : width - 120]
    left = (width - picture.shape[1]) // 2
    down = top + max(most - picture.shape[0], 0) // 2 - 10
    pixels[down : down + picture.shape[0], left : left + picture.shape[1]] = picture
