"""The heads of a run as files beside its page: all columns as TSV and JSON, and what other formats can carry."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rh_bench.artifacts.coverage import Coverage
from rh_bench.display import formatting as words
from rh_bench.errors import InputError
from rh_bench.interchange.formats import Written, write
from rh_bench.interchange.records import HeadList
from rh_bench.interchange.reports import kv_heads, list_of_heads
from rh_bench.leaderboard.activity import Activity
from rh_bench.leaderboard.collect import Entry
from rh_bench.records import Json, Layer

MOST_SCORES = 100_000
"""Scores of single samples that a file is made of without being asked for; a run of the paper's size has five times as
many, and the file would be larger than all the rest of its pages."""

_FORMATS = (
    ("seed", "Retrieval_Head", "the score of each counted sample, as the paper released them"),
    ("profile", "retrieval-head-profile", "all scores, and the heads above the threshold"),
    ("duo", "DuoAttention", "one number per key/value head"),
    ("qrhead", "QRHead", "the heads above the threshold, in order"),
)


_SAMPLE_COLUMNS = ("sample_id", "needle_id", "length", "depth", "counted", "answer_tokens")


@dataclass(frozen=True, slots=True)
class Link:
    """A file to download."""

    href: str
    """Relative to the page."""
    name: str
    size: str


@dataclass(frozen=True, slots=True)
class Offer:
    """The heads in one format."""

    format: str
    about: str
    links: tuple[Link, ...]
    lost: str
    """What the format cannot carry."""
    reason: str
    """Why there is no file, where there is none."""
    command: str
    """What makes the file, where there is none but could be."""


@dataclass(frozen=True, slots=True)
class HeadFiles:
    files: tuple[tuple[str, bytes], ...]
    """Path below the site's root, and content."""
    offers: tuple[Offer, ...]


def head_files(entry: Entry, activity: Activity | None, folder: str, href: str) -> HeadFiles:
    """
    Args:
        activity: of the run; without it there are no scores of single samples.
        folder: where the files go, below the site's root.
        href: the same, relative to the page that offers them.
    """
    files: list[tuple[str, bytes]] = []

    def linked(contents: dict[str, bytes], prefix: str = "") -> tuple[Link, ...]:
        files.extend((f"{folder}/{prefix}{name}", data) for name, data in contents.items())
        return tuple(Link(f"{href}/{prefix}{name}", name, _size(len(data))) for name, data in contents.items())

    offers, heads = [], _head_list(entry)
    if entry.folder is not None:
        table = pq.read_table(entry.folder / "heads.parquet")
        about = "every column of heads.parquet"
        offers = [
            Offer("TSV", about, linked({"heads.tsv": tsv(table)}), "", "", ""),
            Offer("JSON", about, linked({"heads.json": as_json(table, entry.run, entry.coverage)}), "", "", ""),
        ]
    for format, project, about in _FORMATS:
        command = f"rh-bench export runs/{entry.slug}/{entry.run_id} --format {format} --out heads"
        try:
            written = _written(entry, activity, format, heads)
        except InputError as error:
            offers.append(Offer(project, about, (), "", words.visible(error.problem), ""))
            continue
        if written is None:
            reason = f"more than {MOST_SCORES:,} scores of single samples; this makes the file from the run:"
            offers.append(Offer(project, about, (), "", reason, words.visible(command)))
            continue
        lost = words.visible("; ".join(written.losses))
        offers.append(Offer(project, about, linked(written.files, f"{format}-"), lost, "", ""))
    return HeadFiles(tuple(files), tuple(offers))


def _head_list(entry: Entry) -> HeadList | None:
    """The scores of all heads; None if no sample counted."""
    means = [head.score for head in entry.heads if head.score is not None]
    if not means:
        return None
    layers = [Layer(**layer) for layer in entry.run["model"]["layers"]]
    threshold = entry.run["protocol"]["head_threshold"]
    return list_of_heads(entry.run["model"]["id"], layers, means, threshold=threshold)


def _written(entry: Entry, activity: Activity | None, format: str, heads: HeadList | None) -> Written | None:
    """The files of one format, the same that `rh-bench export` writes; None if they would be too large.

    Raises:
        InputError: the format cannot carry this run.
    """
    if heads is None:
        raise InputError("no sample counts, so no head has a score", where=entry.run_id)
    if format == "seed":
        if activity is None or activity.shares.size > MOST_SCORES:
            return None
        heads = replace(heads, instances=tuple(map(tuple, np.round(activity.shares, 9).T.tolist())))
    groups = None
    if format == "duo":
        groups = kv_heads([Layer(**layer) for layer in entry.run["model"]["layers"]], entry.run_id)
    return write(heads, format, kv_heads=groups)


def tsv(table: pa.Table) -> bytes:
    """A table of numbers as tab-separated text, a missing number empty, every digit kept."""
    columns = [table.column(name).to_pylist() for name in table.column_names]
    lines = ["\t".join(table.column_names), *_lines(columns)]
    return ("\n".join(lines) + "\n").encode()


def _lines(columns: list[list[object]]) -> Iterator[str]:
    texts = [["" if value is None else repr(value) for value in column] for column in columns]
    return map("\t".join, zip(*texts, strict=True))


def as_json(table: pa.Table, run: Json, covered: Coverage) -> bytes:
    """The same numbers by column, and what they are of."""
    document = {
        "model": run["model"]["id"],
        "revision": run["model"]["revision"],
        "run_id": run["run_id"],
        "measured_on": covered.words,
        "columns": {name: table.column(name).to_pylist() for name in table.column_names},
    }
    return (json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n").encode()


def activity_table(activity: Activity, names: Sequence[str]) -> bytes:
    """Tab-separated text, a row per sample: answer tokens that each of some heads copied in it.

    Args:
        names: of the heads, layer.head.
    """
    places = {f"{layer}.{head}": place for place, (layer, head) in enumerate(activity.heads)}
    lines = ["\t".join([*_SAMPLE_COLUMNS, *names])]
    copied = activity.copied[:, [places[name] for name in names]].tolist()
    for sample, row in zip(activity.samples, copied, strict=True):
        # What cannot be seen is written out, tabs and newlines among it.
        about = (words.visible(sample.sample_id), words.visible(sample.needle_id), sample.length, repr(sample.depth))
        lines.append("\t".join(map(str, (*about, int(sample.success), sample.span, *row))))
    return ("\n".join(lines) + "\n").encode()


def _size(number: int) -> str:
    return f"{number:,} bytes" if number < 1000 else f"{number / 1000:,.0f} KB"
