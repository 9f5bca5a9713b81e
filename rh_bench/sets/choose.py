"""Which samples of a set are measured, and how a document says which they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rh_bench.artifacts.coverage import WHOLE_GRID
from rh_bench.errors import InputError
from rh_bench.records import Json, Needle, Sample
from rh_bench.sets.dataset import HaystackSet
from rh_bench.sets.grids import make_samples, spread
from rh_bench.system.files import shown


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Samples of a set: those of its own grid, or of a grid made of other lengths or depths; all of them, or a part."""

    lengths: tuple[int, ...] | None = None
    depths: tuple[float, ...] | None = None
    needles: tuple[str, ...] | None = None
    limit: int | None = None
    """This many of them, evenly spaced."""

    @property
    def made(self) -> bool:
        """Whether the grid is another than the set's own."""
        return self.lengths is not None or self.depths is not None


def choice_of(grid: Json) -> Choice:
    """The choice that the `grid` of a document names."""

    def chosen(name: str) -> tuple[Any, ...] | None:
        return None if grid[name] is None else tuple(grid[name])

    return Choice(lengths=chosen("lengths"), depths=chosen("depths"), needles=chosen("needles"), limit=grid["limit"])


def choose_samples(haystacks: HaystackSet, choice: Choice, where: str | None = None) -> tuple[tuple[Sample, ...], Json]:
    """The chosen samples, and the `grid` object of a document that says which they are.

    Args:
        where: what an error calls the set; its folder without it.

    Raises:
        InputError: a needle is not in the set, or nothing is left.
    """
    needles = _chosen_needles(haystacks, choice.needles)
    if choice.made:
        samples = make_samples(needles, *_lengths_and_depths(haystacks, choice))
    else:
        names = {needle.needle_id for needle in needles}
        samples = tuple(sample for sample in haystacks.samples if sample.needle_id in names)
    if not samples:
        place = haystacks.folder if where is None else where
        raise InputError("no samples are left to measure", where=place, hint="choose other --needles")
    chosen = spread(samples, choice.limit)
    if set(chosen) == set(haystacks.samples):  # one choice in other words is not another run
        return haystacks.samples, dict(WHOLE_GRID)
    return chosen, grid_in_words(haystacks, choice)


def grid_in_words(haystacks: HaystackSet, choice: Choice) -> Json:
    """The `grid` object of a choice in its own words, as versions before schema 1.4 wrote it also where no sample is
    taken away."""
    lengths, depths = _lengths_and_depths(haystacks, choice)
    return {
        "kind": "made" if choice.made else "set",
        "lengths": list(lengths) if choice.made else None,
        "depths": [float(depth) for depth in depths] if choice.made else None,
        "needles": sorted(set(choice.needles)) if choice.needles else None,
        "limit": choice.limit,
    }


def _lengths_and_depths(haystacks: HaystackSet, choice: Choice) -> tuple[tuple[int, ...], tuple[float, ...]]:
    grid = haystacks.manifest["grid"]
    return choice.lengths or tuple(grid["lengths"]), choice.depths or tuple(grid["depths"])


def _chosen_needles(haystacks: HaystackSet, wanted: tuple[str, ...] | None) -> tuple[Needle, ...]:
    if not wanted:
        return haystacks.needles
    unknown = [name for name in wanted if name not in haystacks.needles_by_id]
    if unknown:
        known = ", ".join(list(haystacks.needles_by_id)[:12])
        raise InputError(f"the set has no needle {shown(unknown[0])!r}", where="--needles", hint=f"it has {known}")
    return tuple(needle for needle in haystacks.needles if needle.needle_id in wanted)


def refuse_beyond_window(samples: Sequence[Sample], window: int | None, max_new_tokens: int, model: str) -> None:
    """Refuse, by name, lengths that leave no room for the answer in the model's window.

    Raises:
        InputError: names the model, its window and the lengths.
    """
    if window is None:
        return
    beyond = sorted({sample.length for sample in samples if sample.length + max_new_tokens > window})
    if beyond:
        listed = ", ".join(str(length) for length in beyond[:8]) + (" …" if len(beyond) > 8 else "")
        raise InputError(
            f"its window of {window} tokens is too small for the lengths {listed} plus {max_new_tokens} new tokens",
            where=model,
            hint=f"give --lengths of at most {window - max_new_tokens}, or --window N if the model supports more",
        )
