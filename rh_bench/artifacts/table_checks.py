"""What is wrong with the rows of a run's tables: ranges, cross-references, and what can be recomputed from one row.

Every check runs on whole columns, so that a million events take a second, and reports the first few rows that break it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rh_bench.artifacts.tables import SPELLING, THOUGHTS
from rh_bench.prompting.thoughts import ends_with
from rh_bench.records import IntArray, Json, Layer
from rh_bench.scores.rouge import rouge1_recall, succeeds
from rh_bench.system.files import shown

MOST = 20
"""Rows that one check lists; how many more there are follows in one line."""

Found = tuple[str, str]
"""(JSON pointer, message)."""
Mask = npt.NDArray[np.bool_]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TOLERANCE = 1e-9
_INTERVALS = (
    ("score", "score_low", "score_high"),
    ("events_score", "events_low", "events_high"),
    ("rank", "rank_low", "rank_high"),
)


@dataclass(frozen=True, slots=True, eq=False)
class _Lists:
    """A column of lists. One empty list follows the last row, so that place -1 is a row without items."""

    starts: npt.NDArray[np.int64]
    """int64 [rows + 1]: where each row's items begin in `values`."""
    lengths: npt.NDArray[np.int64]
    """int64 [rows + 1]."""
    values: IntArray

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> _Lists:
        lengths = np.append(pc.list_value_length(column).to_numpy().astype(np.int64), 0)
        return cls(np.cumsum(lengths) - lengths, lengths, pc.list_flatten(column).to_numpy())

    def lowest(self) -> npt.NDArray[np.int64]:
        """int64 [rows]: the smallest item of each row; 0 for a row without items."""
        lowest = np.zeros(len(self.lengths), dtype=np.int64)
        filled = self.lengths > 0
        if filled.any():
            lowest[filled] = np.minimum.reduceat(self.values, self.starts[filled])
        return lowest[:-1]


def listed(wrong: Mask, column: str, say: Callable[[int], str]) -> Iterator[Found]:
    """The rows where `wrong` holds: the first few of them, then how many more.

    Args:
        wrong: bool [rows].
        column: of the pointer.
        say: the message about a row.
    """
    rows = np.flatnonzero(wrong)
    yield from ((f"/{row}/{column}", say(int(row))) for row in rows[:MOST])
    if len(rows) > MOST:
        yield "", f"and {len(rows) - MOST} more rows with a wrong {column}"


def capped(found: Iterator[Found] | Sequence[Found]) -> Iterator[Found]:
    """The first few of what one check found, then how many more."""
    rest = iter(found)
    yield from islice(rest, MOST)
    more = sum(1 for _ in rest)
    if more:
        yield "", f"and {more} more problems"


# samples.parquet


def sample_problems(samples: pa.Table, run: Json | None) -> Iterator[Found]:
    """Everything wrong with samples.parquet.

    Args:
        samples: a table of `tables.SAMPLES`, with or without the columns of `tables.OPTIONAL`.
        run: a valid run.json, or None: then only what the table says itself is checked.
    """
    yield from _sample_ids(samples)
    yield from _sample_cells(samples)
    yield from _sample_spans(samples)
    yield from _sample_answers(samples)
    if SPELLING.names[0] in samples.column_names:
        yield from _sample_spelling(samples)
    if run is not None:
        yield from _sample_protocol(samples, run)
        yield from _sample_thoughts(samples, run["protocol"].get("thinking"))
        yield from _sample_grid(samples, run["protocol"]["grid"])


def _sample_ids(samples: pa.Table) -> Iterator[Found]:
    ids = samples.column("sample_id").to_pylist()
    first: dict[str, int] = {}
    twice = np.array([first.setdefault(name, row) != row for row, name in enumerate(ids)], dtype=bool)
    yield from listed(twice, "sample_id", lambda row: f"{_name(ids[row])} is also in row {first[ids[row]]}")
    for column in ("sample_id", "needle_id", "haystack_id"):
        empty = _strings(samples, column, lambda text: not text)
        yield from listed(empty, column, lambda row: "must not be empty")
    malformed = _strings(samples, "prompt_sha256", lambda text: not _SHA256.fullmatch(text))
    yield from listed(malformed, "prompt_sha256", lambda row: "must be a SHA-256 of 64 hexadecimal digits")


def _sample_cells(samples: pa.Table) -> Iterator[Found]:
    length, depth, seconds = (_numbers(samples, name) for name in ("length", "depth", "seconds"))
    yield from listed(length < 1, "length", lambda row: f"is {length[row]}, must be at least 1 token")
    # Written so that NaN is outside, too.
    outside = ~((depth >= 0) & (depth <= 100))
    yield from listed(outside, "depth", lambda row: f"is {depth[row]:g}, must be from 0 to 100 percent")
    endless = ~((seconds >= 0) & np.isfinite(seconds))
    yield from listed(endless, "seconds", lambda row: f"is {seconds[row]:g}, must be a finite number of at least 0")


def _sample_spans(samples: pa.Table) -> Iterator[Found]:
    length, insert_at, start = (
        _numbers(samples, name).astype(np.int64) for name in ("length", "insert_at", "span_start")
    )
    span, generated = (_Lists.of(samples.column(name)) for name in ("span_ids", "generated_ids"))
    end = start + span.lengths[:-1]
    yield from listed(insert_at < 0, "insert_at", lambda row: f"is {insert_at[row]}, must be at least 0")
    yield from listed(
        (insert_at >= 0) & (start < insert_at),
        "span_start",
        lambda row: f"is {start[row]}, before the needle at insert_at {insert_at[row]}",
    )
    yield from listed(span.lengths[:-1] == 0, "span_ids", lambda row: "must not be empty")
    yield from listed(
        (span.lengths[:-1] > 0) & (end > length),
        "span_ids",
        lambda row: f"the span ends at {end[row]}, after the prompt of {length[row]} tokens",
    )
    for name, lists in (("span_ids", span), ("generated_ids", generated)):
        yield from listed(lists.lowest() < 0, name, lambda row: "a token id must not be negative")


def _sample_answers(samples: pa.Table) -> Iterator[Found]:
    """ROUGE-1 recall and success, recomputed from the texts."""
    recall, success = _numbers(samples, "rouge1_recall"), _numbers(samples, "success")
    pairs = zip(samples.column("answer").to_pylist(), samples.column("text").to_pylist(), strict=True)
    found = np.array([_recall(answer, text) for answer, text in pairs], dtype=np.float64)
    wordless = np.isnan(found)
    yield from listed(wordless, "answer", lambda row: "has no words")
    differs = ~wordless & ~(np.abs(found - recall) <= _TOLERANCE)
    yield from listed(
        differs, "rouge1_recall", lambda row: f"is {recall[row]:g}, answer and text give {found[row]:.9g}"
    )
    flipped = ~wordless & (success != np.array([succeeds(recall) for recall in found], dtype=bool))
    yield from listed(
        flipped,
        "success",
        lambda row: f"is {str(bool(success[row])).lower()}, which contradicts the recall of {found[row]:.9g}",
    )


def _recall(answer: str, text: str) -> float:
    """NaN, which stays in this module, for an answer without words."""
    try:
        return rouge1_recall(answer, text)
    except ValueError:
        return np.nan


def _sample_spelling(samples: pa.Table) -> Iterator[Found]:
    """Every token has its place in its text, and the texts end with the last of them."""
    answers, spans, texts = (samples.column(name).to_pylist() for name in ("answer", "span_text", "text"))
    foreign = np.array([answer not in span for answer, span in zip(answers, spans, strict=True)], dtype=bool)
    yield from listed(foreign, "span_text", lambda row: "does not contain the answer")
    for ids, ends, whole in (("span_ids", "span_ends", spans), ("generated_ids", "generated_ends", texts)):
        tokens, places = _Lists.of(samples.column(ids)), _Lists.of(samples.column(ends))
        lengths = np.array([len(text) for text in whole], dtype=np.int64)
        many, found = tokens.lengths[:-1], places.lengths[:-1]
        uneven = many != found
        yield from listed(uneven, ends, lambda row: f"has {found[row]} places, {ids} has {many[row]} tokens")  # noqa: B023
        wrong = _misplaced(places, lengths) & ~uneven
        yield from listed(
            wrong,
            ends,
            lambda row: f"offsets must not decrease, and must end at the text's {lengths[row]} characters",  # noqa: B023
        )


def _misplaced(places: _Lists, lengths: npt.NDArray[np.int64]) -> Mask:
    """Rows whose ends of tokens are not those of a text of so many characters."""
    found = places.lengths[:-1]
    row = np.repeat(np.arange(len(found)), found)
    falls = (np.diff(places.values) < 0) & (row[1:] == row[:-1])
    wrong: Mask = (found == 0) & (lengths > 0)
    wrong[row[1:][falls]] = True
    filled = np.flatnonzero(found)
    firsts, lasts = places.starts[filled], places.starts[filled] + found[filled] - 1
    wrong[filled] |= (places.values[firsts] < 0) | (places.values[lasts] != lengths[filled])
    return wrong


def _sample_protocol(samples: pa.Table, run: Json) -> Iterator[Found]:
    generated = _Lists.of(samples.column("generated_ids")).lengths[:-1]
    most, window, length = run["protocol"]["max_new_tokens"], run["model"]["window"], _numbers(samples, "length")
    yield from listed(
        generated > most, "generated_ids", lambda row: f"has {generated[row]} tokens, the protocol allows {most}"
    )
    if window is not None:
        yield from listed(
            length > window, "length", lambda row: f"is {length[row]}, beyond the model's window of {window} tokens"
        )


def _sample_thoughts(samples: pa.Table, thinking: Json | None) -> Iterator[Found]:
    """Thoughts are there where the protocol says that the model thinks, no longer than it allows, and one that did not
    end has no answer after it."""
    limit = None if thinking is None else thinking["limit"]
    name = THOUGHTS.names[0]
    if (limit is not None) != (name in samples.column_names):
        there = "must not be there: the protocol has no thoughts" if limit is None else "is missing"
        yield "", f"column {name!r} {there}"
        return
    if thinking is None or limit is None:
        return
    thoughts = _Lists.of(samples.column(name))
    sizes = thoughts.lengths[:-1]
    yield from listed(thoughts.lowest() < 0, name, lambda row: "a token id must not be negative")
    yield from listed(sizes > limit, name, lambda row: f"has {sizes[row]} tokens, the protocol allows {limit}")
    generated, closing = _Lists.of(samples.column("generated_ids")).lengths[:-1], thinking["closing_ids"] or []
    ids = samples.column(name).to_pylist()
    unended = np.array([not ends_with(thought, closing) for thought in ids], dtype=bool)
    yield from listed(
        unended & (generated > 0), "generated_ids", lambda row: "must be empty if the thought did not end"
    )


def _sample_grid(samples: pa.Table, grid: Json) -> Iterator[Found]:
    for column, name in (("needle_id", "needles"), ("length", "lengths"), ("depth", "depths")):
        if grid[name] is not None:
            known = frozenset(grid[name])
            values = samples.column(column).to_pylist()
            strange = np.array([value not in known for value in values], dtype=bool)
            yield from listed(strange, column, lambda row: f"is not in the {name} of the protocol's grid")  # noqa: B023


# events.parquet


def event_problems(events: pa.Table, samples: pa.Table, layers: Sequence[Layer] | None) -> Iterator[Found]:
    """Everything wrong with events.parquet.

    Args:
        events: a table of `tables.EVENTS`.
        samples: a table of `tables.SAMPLES`.
        layers: of the model, or None if run.json does not say.
    """
    ids = samples.column("sample_id").combine_chunks()
    places = pc.index_in(events.column("sample_id"), value_set=ids)
    place = pc.fill_null(places, -1).to_numpy()
    layer, head, step, offset = (_numbers(events, name) for name in ("layer", "head", "step", "span_offset"))
    known = place >= 0
    yield from listed(
        ~known, "sample_id", lambda row: f"{_name(events.column('sample_id')[row].as_py())} is not in samples.parquet"
    )
    heads_exist = np.ones(len(events), dtype=bool)
    if layers is not None:
        heads_exist = yield from _event_heads(layer, head, layers)
    span, generated = (_Lists.of(samples.column(name)) for name in ("span_ids", "generated_ids"))
    step_exists = (step >= 0) & (step < generated.lengths[place])
    yield from listed(
        known & ~step_exists,
        "step",
        lambda row: f"is {step[row]}, the sample generated {generated.lengths[place[row]]} tokens",
    )
    offset_exists = (offset >= 0) & (offset < span.lengths[place])
    yield from listed(
        known & ~offset_exists,
        "span_offset",
        lambda row: f"is {offset[row]}, the sample's span has {span.lengths[place[row]]} tokens",
    )
    yield from _event_copies(np.flatnonzero(known & step_exists & offset_exists), place, step, offset, generated, span)
    yield from _event_order(
        np.flatnonzero(known & heads_exist & (layer >= 0) & (head >= 0) & (step >= 0)), place, step, layer, head
    )


def _event_heads(layer: IntArray, head: IntArray, layers: Sequence[Layer]) -> Generator[Found, None, Mask]:
    """Yields what is wrong and returns, as a mask, which events name a scored head."""
    heads = np.zeros(max((x.index for x in layers), default=-1) + 2, dtype=np.int64)
    for x in layers:
        heads[x.index] = x.query_heads if x.scored else 0
    # Whatever is out of range looks at the last place, which has no heads.
    available = heads[np.where((layer >= 0) & (layer < len(heads)), layer, len(heads) - 1)]
    yield from listed(
        available == 0, "layer", lambda row: f"layer {layer[row]} is not a layer with softmax attention of this model"
    )
    exists = (head >= 0) & (head < available)
    yield from listed(
        (available > 0) & ~exists,
        "head",
        lambda row: f"is {head[row]}, layer {layer[row]} has {available[row]} query heads",
    )
    return np.asarray(exists, dtype=bool)


def _event_copies(
    rows: npt.NDArray[np.int64], place: IntArray, step: IntArray, offset: IntArray, generated: _Lists, span: _Lists
) -> Iterator[Found]:
    """A copy event says that the token produced is the one looked at."""
    produced = generated.values[generated.starts[place[rows]] + step[rows]]
    looked_at = span.values[span.starts[place[rows]] + offset[rows]]
    wrong = np.zeros(len(place), dtype=bool)
    wrong[rows[produced != looked_at]] = True

    def say(row: int) -> str:
        at = int(np.searchsorted(rows, row))
        return f"step {step[row]} produced token {produced[at]}, the span has {looked_at[at]} there: no copy"

    yield from listed(wrong, "span_offset", say)


def _event_order(
    rows: npt.NDArray[np.int64], place: IntArray, step: IntArray, layer: IntArray, head: IntArray
) -> Iterator[Found]:
    """Events are sorted by sample, step, layer, head, and a head looks at one position a step."""
    # 15 bits each hold an int16 that is not negative; what is left is enough for the samples that a table may have.
    key = place[rows].astype(np.int64)
    for column in (step, layer, head):
        key = (key << 15) | column[rows]
    late, twice = np.zeros(len(place), dtype=bool), np.zeros(len(place), dtype=bool)
    late[rows[1:][np.diff(key) < 0]] = True
    order = np.argsort(key, kind="stable") if late.any() else np.arange(len(key))
    twice[rows[order[1:][np.diff(key[order]) == 0]]] = True
    yield from listed(
        twice, "head", lambda row: "a second event of this head at this step; a head looks at one position per step"
    )
    yield from listed(
        late, "sample_id", lambda row: "events must be sorted by sample (as in samples.parquet), step, layer, head"
    )


# heads.parquet


def head_problems(heads: pa.Table, layers: Sequence[Layer] | None, counted: int | None) -> Iterator[Found]:
    """Everything wrong with heads.parquet, short of computing it again.

    Args:
        heads: a table of `tables.HEADS`.
        layers: of the model, or None if run.json does not say.
        counted: samples that count, or None if samples.parquet does not say.
    """
    if layers is not None:
        yield from _head_grid(heads, layers)
    if counted is not None:
        yield from _head_presence(heads, counted)
    for value, low, high in _INTERVALS:
        yield from _head_interval(heads, value, low, high)
    share = {"score": 1.0, "score_low": 1.0, "score_high": 1.0, "activation_frequency": 1.0}
    for name in ("activation_frequency", *(name for names in _INTERVALS for name in names)):
        lowest = 1 if name.startswith("rank") else 0
        highest = share.get(name, len(heads) if name.startswith("rank") else np.inf)
        yield from _head_range(heads, name, lowest, highest)


def _head_grid(heads: pa.Table, layers: Sequence[Layer]) -> Iterator[Found]:
    scored = [layer for layer in layers if layer.scored]
    # Counted before the grid is made: run.json may claim more heads than there is memory for.
    expected = sum(layer.query_heads for layer in scored)
    if len(heads) != expected:
        yield "", f"has {len(heads)} rows, the layers in run.json have {expected} heads to score"
        return
    layer, head = _numbers(heads, "layer"), _numbers(heads, "head")
    sizes = [x.query_heads for x in scored]
    wanted_layer = np.repeat(np.array([x.index for x in scored], dtype=np.int64), sizes)
    wanted_head = np.concatenate([np.empty(0, dtype=np.int64), *(np.arange(size) for size in sizes)])
    yield from listed(layer != wanted_layer, "layer", lambda row: f"is {layer[row]}, expected {wanted_layer[row]}")
    yield from listed(head != wanted_head, "head", lambda row: f"is {head[row]}, expected {wanted_head[row]}")


def _head_presence(heads: pa.Table, counted: int) -> Iterator[Found]:
    """A number is null exactly where it cannot be computed."""
    n = _numbers(heads, "n")
    yield from listed(n != counted, "n", lambda row: f"is {n[row]}, samples.parquet has {counted} samples that count")
    needs = {"activation_frequency": 1}
    for value, low, high in _INTERVALS:
        needs |= {value: 1, low: 2, high: 2}
    for name, least in needs.items():
        null = _nulls(heads, name)
        if counted >= least:
            yield from listed(null, name, lambda row: f"is null although {counted} samples count")
        else:
            yield from listed(~null, name, lambda row: f"must be null if {counted} samples count")


def _head_interval(heads: pa.Table, value: str, low: str, high: str) -> Iterator[Found]:
    middle, bottom, top = (_numbers(heads, name) for name in (value, low, high))
    below = ~_nulls(heads, value) & ~_nulls(heads, low) & ~(bottom <= middle)
    yield from listed(below, low, lambda row: f"is {bottom[row]:g}, above the {value} of {middle[row]:g}")
    above = ~_nulls(heads, value) & ~_nulls(heads, high) & ~(top >= middle)
    yield from listed(above, high, lambda row: f"is {top[row]:g}, below the {value} of {middle[row]:g}")


def _head_range(heads: pa.Table, name: str, lowest: float, highest: float) -> Iterator[Found]:
    values = _numbers(heads, name)
    wrong = ~_nulls(heads, name) & ~((values >= lowest) & (values <= highest) & np.isfinite(values))
    allowed = f"from {lowest:g} to {highest:g}" if np.isfinite(highest) else f"a finite number of at least {lowest:g}"
    yield from listed(wrong, name, lambda row: f"is {values[row]:g}, must be {allowed}")


# Columns


def _numbers(table: pa.Table, name: str) -> Any:
    """A column as NumPy has it; nulls become NaN."""
    return table.column(name).to_numpy()


def _nulls(table: pa.Table, name: str) -> Any:
    return table.column(name).is_null().to_numpy()


def _strings(table: pa.Table, name: str, wrong: Callable[[str], bool]) -> Mask:
    return np.array([wrong(text) for text in table.column(name).to_pylist()], dtype=bool)


def _name(text: str) -> str:
    return repr(shown(text if len(text) <= 80 else text[:79] + "…"))
