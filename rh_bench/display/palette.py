"""The colour scale of scores and rates: one class name per level, and the CSS that gives each level its colours.

Levels are classes rather than inline colours because the pages' Content-Security-Policy allows no inline style, and
because a class can have one colour on light paper and another on dark. Both scales change steadily in
lightness, so that they can be read without telling hues apart. Light: ColorBrewer's YlGnBu. Dark: matplotlib's viridis.
"""

from __future__ import annotations

import math

LEVELS = 24
"""Levels above zero; level 0 is exactly zero and has a neutral colour of its own."""

_LIGHT = ("#f3f8d6", "#d5eeb3", "#a9ddb7", "#73c9bd", "#45b4c2", "#2897bf", "#2073b2", "#234ea0", "#1c3185", "#081d58")
_DARK = ("#3d1a54", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725")
_INK, _PAPER = "#0d1117", "#ffffff"

Rgb = tuple[float, float, float]


def score_level(score: float | None) -> int | None:
    """Level of a retrieval score. The scale is a square root over [0, 1], the same for every model: most heads score
    near zero, and a linear scale would show them all alike."""
    return None if score is None else _level(math.sqrt(min(max(score, 0.0), 1.0)))


def rate_level(rate: float | None) -> int | None:
    """Level of a rate in [0, 1], linear."""
    return None if rate is None else _level(min(max(rate, 0.0), 1.0))


def _level(share: float) -> int:
    return 0 if share == 0 else max(1, math.ceil(share * LEVELS))


def scale_css() -> str:
    """CSS of the classes `v0` to `v24`: `--cell` is the colour of the level, `--on` that of text on it."""
    lines = []
    for level in range(1, LEVELS + 1):
        position = (level - 1) / (LEVELS - 1)
        light, dark = _at(_LIGHT, position), _at(_DARK, position)
        lines.append(
            f".v{level}{{--cell:light-dark({_hex(light)},{_hex(dark)});"
            f"--on:light-dark({_text_on(light)},{_text_on(dark)})}}"
        )
    return "\n".join(lines) + "\n"


DIFFERENCE_LEVELS = 8
"""Levels of a difference in each direction; no difference has no level."""

_UP_LIGHT, _UP_DARK = ("#fde3cf", "#f3a167", "#c7500b", "#7a2c00"), ("#43291a", "#8a4a20", "#dd7f3d", "#ffc79c")
_DOWN_LIGHT, _DOWN_DARK = ("#d8e8f6", "#86b8e0", "#2b74b3", "#0b3a66"), ("#16293c", "#24507a", "#4f97d6", "#b4dcff")


def difference_class(difference: float) -> str:
    """Class of a difference of two scores, in [-1, 1]: orange where it is positive, blue where it is negative; on a
    square root, as scores are, so that small ones can be seen. Empty for none."""
    if difference == 0:
        return ""
    level = max(1, math.ceil(math.sqrt(min(abs(difference), 1.0)) * DIFFERENCE_LEVELS))
    return f"{'up' if difference > 0 else 'down'}{level}"


def difference_css() -> str:
    """CSS of the classes `up1` to `up8` and `down1` to `down8`."""
    lines = []
    for name, light, dark in (("up", _UP_LIGHT, _UP_DARK), ("down", _DOWN_LIGHT, _DOWN_DARK)):
        for level in range(1, DIFFERENCE_LEVELS + 1):
            position = (level - 1) / (DIFFERENCE_LEVELS - 1)
            lines.append(
                f".{name}{level}{{--cell:light-dark({_hex(_at(light, position))},{_hex(_at(dark, position))})}}"
            )
    return "\n".join(lines) + "\n"


def preview_colours() -> list[tuple[int, int, int]]:
    """Paper, then the levels from zero on, of dark pages: red, green, blue from 0 to 255."""
    ramp = [_at(_DARK, (level - 1) / (LEVELS - 1)) for level in range(1, LEVELS + 1)]
    colours = [_rgb("#0f1317"), _rgb("#1d242b"), *ramp]
    return [(round(red * 255), round(green * 255), round(blue * 255)) for red, green, blue in colours]


def contrast(first: Rgb, second: Rgb) -> float:
    """WCAG 2 contrast ratio of two sRGB colours with channels in [0, 1]."""
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)


def _text_on(colour: Rgb) -> str:
    return max((_INK, _PAPER), key=lambda text: contrast(_rgb(text), colour))


def _luminance(colour: Rgb) -> float:
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _at(ramp: tuple[str, ...], position: float) -> Rgb:
    """Colour at `position` in [0, 1] of a ramp of evenly spaced colours."""
    place = position * (len(ramp) - 1)
    index = min(int(place), len(ramp) - 2)
    start, end = _rgb(ramp[index]), _rgb(ramp[index + 1])
    red, green, blue = (a + (b - a) * (place - index) for a, b in zip(start, end, strict=True))
    return red, green, blue


def _rgb(colour: str) -> Rgb:
    return int(colour[1:3], 16) / 255, int(colour[3:5], 16) / 255, int(colour[5:7], 16) / 255


def _hex(colour: Rgb) -> str:
    return "#" + "".join(f"{round(channel * 255):02x}" for channel in colour)
