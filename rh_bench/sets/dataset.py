"""Haystack sets on disk: their columns, and reading one that may have come from anywhere."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from rh_bench.artifacts.tables import read_table
from rh_bench.errors import InputError
from rh_bench.records import Haystack, Json, Needle, Problem, Sample
from rh_bench.sets.leaks import question_problem
from rh_bench.system.files import regular_file, sha256_file, shown
from rh_bench.system.schema import load_json, validate_document

MANIFEST = "manifest.json"
NEEDLES_FILE = "needles/needles.parquet"
HAYSTACKS_FILE = "haystacks/haystacks.parquet"
SAMPLES_FILE = "samples/samples.parquet"

_MOST = 20
"""Problems of one kind that are listed."""


def _column(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


NEEDLES = pa.schema(
    [
        _column("needle_id", pa.string()),
        _column("domain", pa.string()),
        _column("needle", pa.string()),
        _column("question", pa.string()),
        _column("answer", pa.string()),
        _column("answer_start", pa.int32()),
        _column("answer_end", pa.int32()),
        _column("haystack_id", pa.string()),
    ]
)
HAYSTACKS = pa.schema(
    [
        _column("haystack_id", pa.string()),
        _column("text", pa.string()),
        _column("source", pa.string()),
        _column("licence", pa.string()),
        _column("characters", pa.int64()),
        _column("sha256", pa.string()),
    ]
)
SAMPLES = pa.schema(
    [
        _column("sample_id", pa.string()),
        _column("needle_id", pa.string()),
        _column("haystack_id", pa.string()),
        _column("length", pa.int32()),
        _column("depth", pa.float64()),
    ]
)
PROMPTS = pa.schema(
    [
        *SAMPLES,
        _column("template", pa.string()),
        _column("question", pa.string()),
        _column("answer", pa.string()),
        _column("input_ids", pa.list_(pa.field("element", pa.int32(), nullable=False))),
        _column("span_start", pa.int32()),
        _column("span_length", pa.int32()),
        _column("prompt_sha256", pa.string()),
        _column("text", pa.string()),
    ]
)


@dataclass(frozen=True)
class HaystackSet:
    """A haystack set: needles to hide, texts to hide them in, and the samples that a grid makes of both.

    ```python
    haystacks.manifest["grid"]["lengths"], haystacks.needles[0].answer, len(haystacks.samples)
    ```
    """

    folder: Path
    manifest: Json
    manifest_sha256: str
    needles: tuple[Needle, ...]
    haystacks: tuple[Haystack, ...]
    samples: tuple[Sample, ...]

    @property
    def texts(self) -> dict[str, str]:
        """Text by haystack id."""
        return {haystack.haystack_id: haystack.text for haystack in self.haystacks}

    @property
    def needles_by_id(self) -> dict[str, Needle]:
        """Needles by their ids."""
        return {needle.needle_id: needle for needle in self.needles}


def is_set(folder: Path) -> bool:
    """Whether `folder` looks like a haystack set rather than a run."""
    return (folder / MANIFEST).exists()


def read_set(folder: Path) -> HaystackSet:
    """Read a haystack set after checking all of it.

    Raises:
        InputError: something is wrong with it; names the file, the place and the first problem.
    """
    if not folder.is_dir():
        raise InputError("no such folder", where=folder, hint="build a set with `rh-bench build`")
    if not is_set(folder):
        raise InputError(
            "there is no manifest.json, so this is not a haystack set",
            where=folder,
            hint="build one with `rh-bench build`",
        )
    reader = _Reader(folder)
    found = reader.read()
    if found is None:
        first = reader.problems[0]
        more = f" (and {len(reader.problems) - 1} more problems)" if len(reader.problems) > 1 else ""
        place = f"#{first.pointer}" if first.pointer else ""
        raise InputError(first.message + more, where=f"{shown(folder / first.file)}{place}")
    return found


def check_set(folder: Path) -> list[Problem]:
    """Every problem of a haystack set; none if it is sound. Nothing that the folder holds makes it raise."""
    reader = _Reader(folder)
    reader.read()
    return reader.problems


class _Reader:
    """Reads a set and collects all that is wrong with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[Problem] = []

    def read(self) -> HaystackSet | None:
        manifest = self._manifest()
        if manifest is None:
            return None
        self._files(manifest["files"])
        tables = [
            self._table(name, schema)
            for name, schema in ((NEEDLES_FILE, NEEDLES), (HAYSTACKS_FILE, HAYSTACKS), (SAMPLES_FILE, SAMPLES))
        ]
        for name in manifest["files"]:
            if name.endswith("/prompts.parquet"):
                self._table(name, PROMPTS)
        if any(table is None for table in tables):
            return None
        needle_rows, haystack_rows, sample_rows = (table.to_pylist() for table in tables if table is not None)
        self._rows(manifest, needle_rows, haystack_rows, sample_rows)
        if self.problems:
            return None
        return HaystackSet(
            folder=self.folder,
            manifest=manifest,
            manifest_sha256=sha256_file(self.folder / MANIFEST),
            needles=tuple(Needle(**{k: v for k, v in row.items() if k != "answer"}) for row in needle_rows),
            haystacks=tuple(
                Haystack(row["haystack_id"], row["text"], row["source"], row["licence"]) for row in haystack_rows
            ),
            samples=tuple(Sample(**row) for row in sample_rows),
        )

    def _add(self, file: str, pointer: str, message: str) -> None:
        self.problems.append(Problem(file, pointer, message))

    def _add_all(self, file: str, found: Iterable[tuple[str, str]]) -> None:
        """(pointer, message) of one file; only the first few, and how many more."""
        listed = list(found)
        for pointer, message in listed[:_MOST]:
            self._add(file, pointer, message)
        if len(listed) > _MOST:
            self._add(file, "", f"and {len(listed) - _MOST} more problems")

    def _manifest(self) -> Json | None:
        try:
            document = load_json(regular_file(self.folder, MANIFEST))
        except InputError as error:
            self._add(MANIFEST, "", error.problem)
            return None
        wrong = validate_document(document, "manifest")
        self._add_all(MANIFEST, wrong)
        return None if wrong else document

    def _files(self, files: Json) -> None:
        for name, claim in files.items():
            pointer = "/files/" + name.replace("/", "~1")
            try:
                path = regular_file(self.folder, name)
                if path.stat().st_size != claim["bytes"]:
                    self._add(MANIFEST, f"{pointer}/bytes", f"the file has {path.stat().st_size} bytes")
                elif sha256_file(path) != claim["sha256"]:
                    self._add(MANIFEST, f"{pointer}/sha256", "the file's hash differs: it was changed after the build")
            except InputError as error:
                self._add(name, "", error.problem)

    def _table(self, name: str, schema: pa.Schema) -> pa.Table | None:
        try:
            return read_table(regular_file(self.folder, name), schema)
        except InputError as error:
            if not any(problem.file == name for problem in self.problems):
                self._add(name, "", error.problem)
            return None

    def _rows(self, manifest: Json, needles: list[Json], haystacks: list[Json], samples: list[Json]) -> None:
        self._add_all(NEEDLES_FILE, _needle_problems(needles, {row["haystack_id"] for row in haystacks}))
        self._add_all(HAYSTACKS_FILE, _haystack_problems(haystacks))
        self._add_all(SAMPLES_FILE, _sample_problems(samples, {row["needle_id"]: row for row in needles}))
        for name, rows in (("needles", needles), ("haystacks", haystacks), ("samples", samples)):
            if manifest["counts"][name] != len(rows):
                self._add(MANIFEST, f"/counts/{name}", f"there are {len(rows)} rows")


def _needle_problems(rows: Sequence[Json], haystack_ids: set[str]) -> Iterator[tuple[str, str]]:
    yield from _twice(rows, "needle_id")
    for place, row in enumerate(rows):
        start, end = row["answer_start"], row["answer_end"]
        if not 0 <= start < end <= len(row["needle"]):
            yield f"/{place}/answer_end", f"characters {start} to {end} are not inside the needle"
        elif row["needle"][start:end] != row["answer"]:
            yield f"/{place}/answer", "differs from the needle's text at answer_start"
        else:
            given_away = question_problem(row["question"], row["answer"])
            if given_away:
                yield f"/{place}/question", given_away
        if row["haystack_id"] not in haystack_ids:
            yield f"/{place}/haystack_id", f"{shown(row['haystack_id'])!r} is not in {HAYSTACKS_FILE}"


def _haystack_problems(rows: Sequence[Json]) -> Iterator[tuple[str, str]]:
    yield from _twice(rows, "haystack_id")
    for place, row in enumerate(rows):
        if row["characters"] != len(row["text"]):
            yield f"/{place}/characters", f"the text has {len(row['text'])} characters"
        if row["sha256"] != text_sha256(row["text"]):
            yield f"/{place}/sha256", "the text's hash differs"


def _sample_problems(rows: Sequence[Json], needles: dict[str, Json]) -> Iterator[tuple[str, str]]:
    yield from _twice(rows, "sample_id")
    for place, row in enumerate(rows):
        needle = needles.get(row["needle_id"])
        if needle is None:
            yield f"/{place}/needle_id", f"{shown(row['needle_id'])!r} is not in {NEEDLES_FILE}"
        elif needle["haystack_id"] != row["haystack_id"]:
            yield f"/{place}/haystack_id", f"its needle belongs to haystack {shown(needle['haystack_id'])!r}"
        if row["length"] < 1:
            yield f"/{place}/length", "must be at least 1 token"
        if not 0 <= row["depth"] <= 100:
            yield f"/{place}/depth", "must be from 0 to 100 percent"


def _twice(rows: Sequence[Json], column: str) -> Iterator[tuple[str, str]]:
    counts = Counter(row[column] for row in rows)
    seen: set[str] = set()
    for place, row in enumerate(rows):
        if counts[row[column]] > 1 and row[column] in seen:
            yield f"/{place}/{column}", f"duplicate {shown(row[column])!r}"
        seen.add(row[column])


def text_sha256(*texts: str) -> str:
    """SHA-256 of texts, one after the other, as UTF-8."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode())
    return digest.hexdigest()


def rows_to_table(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schema)
