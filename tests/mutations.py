"""Damaged artifacts by the thousand, each put before the code that reads submissions.

    python -m mutations --seed 0 --cases 6000 --work FOLDER

A campaign is decided by its seed. It prints one JSON object: how many cases of each kind, which of them broke a rule,
the slowest case, and the peak memory of this process, which did nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when the library is imported

import pyarrow as pa
import pyarrow.parquet as pq
from fake_experiments import SMALL
from fake_runs import make_run

from rh_bench.artifacts.results_repo import RUNS, Layout
from rh_bench.artifacts.run import RUN_FILES, compute_run_id
from rh_bench.artifacts.validate import validate_path
from rh_bench.artifacts.verification_record import read_verification, verification_document
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.errors import CheckFailed, InputError
from rh_bench.experiments.artifact import experiment_id, read_experiment, recompute, validate_experiment
from rh_bench.experiments.record import experiment_record, read_experiment_record
from rh_bench.experiments.registry import kinds
from rh_bench.interchange.audit import audit_file
from rh_bench.interchange.folder import check_import, import_file
from rh_bench.sets.dataset import HAYSTACKS_FILE, NEEDLES_FILE, SAMPLES_FILE, check_set, read_set
from rh_bench.sets.grids import Grid
from rh_bench.submissions.attest_order import new_order, read_order
from rh_bench.submissions.judgement import Submission, decided, make_draw, make_verdict, open_judgement, read_judgement
from rh_bench.submissions.place import find_place
from rh_bench.system.files import sha256_file
from rh_bench.system.schema import dump_json
from rh_bench.verification.verify import verify_run

SLOWEST_ALLOWED = 5.0
MARK = "@@raw@@"

RAW = (
    *("null", "true", "false", "0", "-1", "1.5", "1e308", "1e999", "-1e999", "NaN", "Infinity", "-Infinity", '""'),
    *("{}", "[]", "[[]]", "[null]", '{"": null}', "2147483648", "9223372036854775807", "9223372036854775808"),
    *("9" * 400, "9" * 5000, "-" + "9" * 30, "0." + "1" * 1000, "1e" + "9" * 50, "01", "0x10", "'x'"),
    *("[" * 60 + "]" * 60, "[" * 100_000 + "]" * 100_000, '{"a":' * 3000 + "1" + "}" * 3000),
    *('"' + "x" * 100_000 + '"', '"' + "\\u0000" * 50 + '"', '"\\u001b[2J\\u0007"', '"\\u202e\\u200b"', '"\\ud800"'),
    *('"../../etc/passwd"', '"/etc/passwd"', '"C:\\\\x"', '"a\\nb"', '"<script>alert(1)</script>"', '"\\ud83d\\ude00"'),
    *("[" + "1," * 20_000 + "1]", "[" + '{"a":1},' * 5_000 + '"b"]', "[" + '"eos",' * 9 + '"eos"]'),
)
"""What stands in a JSON text in place of a value."""

# Texts and bytes


def mutate_bytes(chance: random.Random, data: bytes) -> bytes:
    """One to a few flips, deletions, insertions, cuts or splices."""
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        place = chance.randrange(len(data)) if data else 0
        length = chance.choice((1, 1, 2, 8, 100))
        way = chance.randrange(6)
        if way == 0 and data:
            data = data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]
        elif way == 1:
            data = data[:place] + data[place + length :]
        elif way == 2:
            data = data[:place] + chance.randbytes(length) + data[place:]
        elif way == 3 and chance.random() < 0.3:
            data = data[:place]
        elif way == 4:
            other = chance.randrange(len(data)) if data else 0
            data = data[:place] + data[other : other + length] + data[place:]
        else:
            data = data[:place] + chance.randbytes(1) + data[place + 1 :]
    return data


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside a JSON document, its own, empty one first."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places_in(child, (*path, key))


def mutate_json(chance: random.Random, data: bytes) -> bytes:
    """A value replaced, a key dropped, added, renamed or doubled, an item repeated: one to three times."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return data
        data = _mutated_once(chance, document)
    return data


def _mutated_once(chance: random.Random, document: Any) -> bytes:
    path = chance.choice(list(places_in(document)))
    raw = chance.choice(RAW)
    if not path:
        return raw.encode()
    parent, key = document, path[-1]
    for step in path[:-1]:
        parent = parent[step]
    way = chance.randrange(6)
    if way == 1:
        del parent[key]
        raw = ""
    elif way == 2 and isinstance(parent, dict):
        parent[MARK] = 0
        raw = json.dumps(key)  # the key stands twice
    elif way == 3 and isinstance(parent, dict):
        parent[chance.choice(("", "extra", "\x1b[31m", "<b>", "../x", "__proto__"))] = parent.pop(key)
        raw = ""
    elif way == 4 and isinstance(parent, list):
        parent *= chance.choice((2, 50))
        raw = ""
    else:
        parent[key] = MARK
    text = json.dumps(document, ensure_ascii=chance.random() < 0.5, indent=chance.choice((None, 1)))
    return text.replace(f'"{MARK}"', raw).encode("utf-8", "surrogatepass")


# Tables

EXTREME: dict[str, tuple[Any, ...]] = {
    "int": (-1, 0, 1, 2, 3, 50, 99, 32767, -32768, 2**31 - 1, -(2**31), 2**63 - 1),
    "double": (float("nan"), float("inf"), -float("inf"), -1.0, -0.0, 0.5, 1.0, 1.5, 1e308, 5e-324),
    "string": ("", "x", "nobody", "x" * 100_000, "\x00", "\x1b[2J", "\u202e", "a" * 64, "<img src=x>", "../../x"),
    "bool": (True, False),
}


def mutate_table(chance: random.Random, table: pa.Table) -> pa.Table:
    way = chance.choice((_dropped, _renamed, _retyped, _rows, _cells, _cells, _cells, _cells, _nulls, _extra))
    return way(chance, table)


def _dropped(chance: random.Random, table: pa.Table) -> pa.Table:
    names = table.column_names
    if chance.random() < 0.5:
        return table.remove_column(chance.randrange(len(names)))
    return table.select(chance.sample(range(len(names)), len(names)))


def _renamed(chance: random.Random, table: pa.Table) -> pa.Table:
    names = list(table.column_names)
    names[chance.randrange(len(names))] = chance.choice(("other", "", "\x1b", names[0], "x" * 10_000))
    return table.rename_columns(names)


def _extra(chance: random.Random, table: pa.Table) -> pa.Table:
    return table.append_column(chance.choice(("extra", "<b>", "\x1b[2J")), pa.array([None] * len(table), pa.int8()))


def _retyped(chance: random.Random, table: pa.Table) -> pa.Table:
    place = chance.randrange(table.num_columns)
    kinds = (pa.int8(), pa.int64(), pa.uint32(), pa.float32(), pa.string(), pa.large_string(), pa.binary(), pa.bool_())
    kind = chance.choice((*kinds, pa.list_(pa.int64()), pa.null(), pa.dictionary(pa.int32(), pa.string())))
    column = pa.array([None] * len(table), type=kind)
    with contextlib.suppress(pa.ArrowException):
        column = table.column(place).cast(kind, safe=False)
    return table.set_column(place, table.column_names[place], column)


def _rows(chance: random.Random, table: pa.Table) -> pa.Table:
    order = list(range(len(table)))
    way = chance.randrange(5)
    if way == 0:
        chance.shuffle(order)
    elif way == 1:
        order = []
    elif way == 2 and order:
        order.insert(chance.randrange(len(order)), chance.choice(order))
    elif way == 3 and order:
        order.pop(chance.randrange(len(order)))
    else:
        order = order * 20
    return table.take(pa.array(order, type=pa.int64()))


def _cells(chance: random.Random, table: pa.Table) -> pa.Table:
    """A cell, or a whole column, out of range."""
    place = chance.randrange(table.num_columns)
    field_ = table.schema.field(place)
    values = table.column(place).to_pylist()
    at = range(len(values)) if chance.random() < 0.2 else chance.sample(range(len(values)), min(1, len(values)))
    value = _extreme(chance, field_.type)
    for row in at:
        values[row] = value
    try:
        column = pa.array(values, type=field_.type)
    except (pa.ArrowException, OverflowError):  # a value that the type cannot hold: a wider type
        column = pa.array(values)
    return table.set_column(place, field_.name, column)


def _extreme(chance: random.Random, kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        length = chance.choice((0, 1, 2, 60, 5000))
        value = _extreme(chance, kind.value_type)
        return [value] * (min(length, 60) if isinstance(value, str) else length)  # texts may be long themselves
    for name, values in EXTREME.items():
        if str(kind).startswith(name):
            return chance.choice(values)
    return None


def _nulls(chance: random.Random, table: pa.Table) -> pa.Table:
    place = chance.randrange(table.num_columns)
    field_ = table.schema.field(place)
    values = table.column(place).to_pylist()
    for row in chance.sample(range(len(values)), min(chance.choice((1, 1000)), len(values))):
        values[row] = [None] if pa.types.is_list(field_.type) and chance.random() < 0.5 else None
    kind = pa.list_(field_.type.value_type) if pa.types.is_list(field_.type) else field_.type
    return table.set_column(place, pa.field(field_.name, kind), pa.array(values, type=kind))


def mutate_parquet(chance: random.Random, data: bytes) -> bytes:
    """Bytes damaged, or a table that is sound as a file and wrong in what it says."""
    if chance.random() < 0.3:
        return mutate_bytes(chance, data)
    table = pq.read_table(pa.BufferReader(data))
    for _ in range(chance.choice((1, 1, 2))):
        if table.num_columns:
            table = mutate_table(chance, table)
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(
            table,
            sink,
            compression=chance.choice(("none", "zstd", "snappy", "gzip")),
            use_dictionary=chance.random() < 0.5,
            row_group_size=chance.choice((1, 7, 1 << 20)),
        )
    except (pa.ArrowException, ValueError):  # a table that Parquet cannot carry
        return mutate_bytes(chance, data)
    return bytes(sink.getvalue())


# The campaign


@dataclass
class Subject:
    """A sound artifact, its files to damage, and what a reader must make of it."""

    folder: Path
    files: tuple[str, ...]
    seal: Callable[[random.Random, Path], Path]
    """Make the hashes right, and return where the artifact lies now: a run whose id changes has another folder."""
    read: Callable[[Path], bool]
    """Whether it was found sound. Raises InputError or CheckFailed, or there is a hole."""
    hashed: Callable[[str], bool] = field(default=lambda name: False)
    originals: dict[str, bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.originals = {name: (self.folder / name).read_bytes() for name in self.files}


def printable(problems: Any) -> bool:
    """Whether there is no problem; each must be one line that drives no terminal."""
    for problem in problems:
        for text in (problem.file, problem.pointer, problem.message):
            assert text.isprintable(), f"not printable: {text!r:.200}"
    return not problems


def read_a_run(folder: Path) -> bool:
    sound = printable(validate_path(folder))
    report = verify_run(folder)
    assert report.levels[0].reached is sound
    assert report.levels[1].reached is not True, "nothing was at hand to reproduce prompts with"
    report.to_markdown()
    return sound


def seal_run(chance: random.Random, folder: Path) -> Path:
    """Hashes, and mostly counts and the run's id: what somebody does who knows how a run is put together."""
    try:
        document = json.loads((folder / "run.json").read_bytes())
        if chance.random() < 0.7:
            _seal_counts(folder, document)
            model, engine, old = document["model"], document["engine"], document["run_id"]
            document["run_id"] = compute_run_id(
                model_revision=model["revision"],
                manifest_sha256=document["haystack"]["manifest_sha256"],
                protocol=document["protocol"],
                engine_name=engine["name"],
                engine_version=engine["version"],
            )
            if document["run_id"] != old:
                summary = (folder / "summary.json").read_bytes()
                (folder / "summary.json").write_bytes(summary.replace(old.encode(), document["run_id"].encode()))
        document["files"] = {name: sha256_file(folder / name) for name in RUN_FILES}
        (folder / "run.json").write_bytes(dump_json(document))
        return folder.rename(folder.parent / document["run_id"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return folder  # too broken to be made to fit


def _seal_counts(folder: Path, document: Any) -> None:
    try:
        for name in ("samples", "events", "heads"):
            document["counts"][name] = pq.read_metadata(folder / f"{name}.parquet").num_rows
        counted = sum(pq.read_table(folder / "samples.parquet", columns=["success"]).column(0).to_pylist())
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError):
        return
    document["counts"] |= {"counted": counted, "failed": document["counts"]["samples"] - counted}


def seal_set(_chance: random.Random, folder: Path) -> Path:
    try:
        document = json.loads((folder / "manifest.json").read_bytes())
        for name in document["files"]:
            path = folder / name
            document["files"][name] |= {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        (folder / "manifest.json").write_bytes(dump_json(document))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError, InputError):
        pass
    return folder


def read_a_set(folder: Path) -> bool:
    if not printable(check_set(folder)):
        try:
            read_set(folder)
        except InputError:
            return False
        raise AssertionError("a set with problems was read")
    read_set(folder)
    return True


def seal_import(_chance: random.Random, folder: Path) -> Path:
    try:
        document = json.loads((folder / "import.json").read_bytes())
        document["files"] = {name: sha256_file(folder / name) for name in document["files"]}
        (folder / "import.json").write_bytes(dump_json(document))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InputError):
        pass
    return folder


def read_an_import(folder: Path) -> bool:
    sound = printable(check_import(folder))
    report = verify_run(folder)
    assert report.levels[0].reached is sound
    return sound


def seal_experiment(chance: random.Random, folder: Path) -> Path:
    """Hashes, counts, the id, and mostly results, too: all that follows from what was changed."""
    try:
        document = json.loads((folder / "experiment.json").read_bytes())
        for name in document["files"]:
            document["files"][name] = sha256_file(folder / name)
            document["counts"][name.removesuffix(".parquet")] = pq.read_metadata(folder / name).num_rows
        kind = kinds()[document["kind"]]
        parts = (document[name] for name in ("model", "runs", "data", "settings"))
        document["experiment_id"] = experiment_id(kind, *parts)
        (folder / "experiment.json").write_bytes(dump_json(document))
        folder = folder.rename(folder.parent / f"{kind.name}-{document['experiment_id']}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InputError, OSError):
        return folder  # too broken to be made to fit
    with contextlib.suppress(InputError):
        if chance.random() < 0.7:
            recompute(folder)
    return folder


def read_an_experiment(folder: Path) -> bool:
    sound = printable(validate_experiment(folder))
    if sound:
        read_experiment(folder)
        assert recompute(folder) == [], "a sound experiment was rewritten"
    return sound


def unsealed(_chance: random.Random, folder: Path) -> Path:
    return folder


def reads_foreign(name: str, out: Path) -> Callable[[Path], bool]:
    def read(folder: Path) -> bool:
        path = folder if name == "." else folder / name
        audit = audit_file(path)
        assert all(finding.message.isprintable() for finding in audit.findings), "a finding is not printable"
        made = import_file(path, out)
        problems = check_import(made)
        assert not problems, f"an import that is not sound: {problems[0]}"
        return True

    return read


SEED = {"0-0": [0, 0.5], "0-1": [0.25, 0], "1-0": [0, 0], "1-1": [1, 0.75]}
PROFILE = {
    "model": "tiny",
    "hf_id": "org/tiny",
    "n_layers": 2,
    "n_heads": 2,
    "argmax_heads": [[1, 1], [0, 1]],
    "argmax_scores": [[0.0, 0.2], [0.05, 0.9]],
    "copy_heads": [[0, 0]],
}
PAIRS = [[[1, 1], 0.94], [[0, 1], 0.5], [[1, 0], 0.125], [[0, 0], 0]]
ATLAS = {"model_id": "org/tiny", "n_layers": 2, "n_heads": 2, "avg_mass": [[0.0002, 0.1337], [0.0, 0.4539]]}
QRHEAD = 'attn_head_set: "13-18,8-11,13-1" # top3\nmodel_base_class: "Tiny"\nmodel_name_or_path: "org/tiny"\n'
DUO = "1.0e+00\t-2.2e-05\n5.0e-01\t0.0e+00\n"


def make_subjects(work: Path) -> dict[str, Subject]:
    run = make_run(work / "runs", layers=2, heads=2, kv_heads=1, n_samples=3)
    build_set(Recipe(parse_source("synthetic"), Grid("custom", (300, 400), (0.0, 100.0), 2, 2)), work / "set")
    foreign = work / "foreign"
    foreign.mkdir()
    (foreign / "seed.json").write_text(json.dumps(SEED))
    (foreign / "profile.json").write_text(json.dumps(PROFILE))
    (foreign / "pairs.json").write_text(json.dumps(PAIRS))
    (foreign / "atlas.json").write_text(json.dumps(ATLAS))
    (foreign / "q.yaml").write_text(QRHEAD)
    (foreign / "full.yaml").write_text('attn_head_set: "full_heads"\nmodel_name_or_path: "org/tiny"\n')
    (foreign / "duo").mkdir()
    (foreign / "duo" / "full_attention_heads.tsv").write_text(DUO)
    (foreign / "duo" / "config.json").write_text(json.dumps({"model_name": "org/tiny", "sink_size": 64}))
    imported = import_file(foreign / "seed.json", work / "imports")
    out = work / "out"
    tables = tuple(name for name in RUN_FILES if name.endswith(".parquet"))
    subjects = {
        "run.json": Subject(run, ("run.json",), seal_run, read_a_run),
        "summary.json": Subject(run, ("summary.json",), seal_run, read_a_run, lambda name: True),
        **{name: Subject(run, (name,), seal_run, read_a_run, lambda name: True) for name in tables},
        "import": Subject(
            imported,
            ("import.json", "heads.parquet", "instances.parquet"),
            seal_import,
            read_an_import,
            lambda name: name.endswith(".parquet"),
        ),
        "verification.json": _verification(work, run),
        "attestation": _order(work),
        "judgement": _judgement(work, run),
        "manifest.json": Subject(work / "set", ("manifest.json",), unsealed, read_a_set),
        "set tables": Subject(
            work / "set", (NEEDLES_FILE, HAYSTACKS_FILE, SAMPLES_FILE), seal_set, read_a_set, lambda name: True
        ),
        "duo": Subject(foreign / "duo", ("full_attention_heads.tsv", "config.json"), unsealed, reads_foreign(".", out)),
    }
    for kind, make in SMALL.items():
        made = make(work / kind)
        files = ("experiment.json", *(f"{table}.parquet" for table in kinds()[kind].tables))
        subjects[kind] = Subject(
            made, files, seal_experiment, read_an_experiment, lambda name: name.endswith(".parquet")
        )
        if kind == "dynamic":
            subjects["experiment verification"] = _experiment_record(work, made)
    names = ("seed.json", "pairs.json", "profile.json", "atlas.json", "q.yaml", "full.yaml")
    for kind, name in ((name.partition(".")[0], name) for name in names):
        subjects[kind] = Subject(foreign, (name,), unsealed, reads_foreign(name, out))
    return subjects


def _experiment_record(work: Path, made: Path) -> Subject:
    """The record of an experiment, which must be of its bytes."""
    name = f"{made.parent.name}/{made.name}.json"
    path = work / "records" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(dump_json(experiment_record(verify_run(made), author="somebody", pull_request=3)))

    def read(folder: Path) -> bool:
        return read_experiment_record(work / "records", made) is not None

    return Subject(work / "records", (name,), unsealed, read)


def _verification(work: Path, run: Path) -> Subject:
    """A record of the run, which is believed only where it names the run's very bytes."""
    name = f"{run.parent.name}/{run.name}.json"
    path = work / "verification" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(dump_json(verification_document(verify_run(run), author="somebody", pull_request=3)))
    layout = Layout(work / "runs", work / "verification")
    return Subject(work / "verification", (name,), unsealed, lambda folder: read_verification(layout, run) is not None)


def _order(work: Path) -> Subject:
    """An order of an attested run; one that is none of ours is refused by name."""
    commits = {"model": ("org/tiny", "c" * 40), "haystack": ("org/set", "d" * 40)}
    rest = {"requirements": None, "flavor": "cpu-basic", "timeout": 60}
    order = new_order(repo="org/results", namespace="org", image=f"org/image@sha256:{'e' * 64}", **commits, **rest)  # type: ignore[arg-type]
    path = work / order.path
    path.parent.mkdir(parents=True)
    path.write_bytes(dump_json(order.to_json()))
    return Subject(work, (order.path,), unsealed, lambda folder: read_order(folder / order.path, order.path) == order)


def _judgement(work: Path, run: Path) -> Subject:
    """The record of a submission, with its draw and its verdict; one that is none of ours is refused by name."""
    place = find_place(f"{RUNS}/{run.parent.name}/{run.name}/run.json")
    assert place is not None
    submission = Submission(place, sha256_file(run / "run.json"), "somebody", 3, "c" * 40, ("org/tiny", "d" * 40), 3)
    found = verify_run(run)
    record = replace(open_judgement(submission), draw=make_draw(submission, (), 2, "salt"))
    record = decided(record, make_verdict("refused", ("rerun: no",), found, "rerun"))
    path = work / record.path
    path.parent.mkdir(parents=True)
    path.write_bytes(dump_json(record.to_json()))

    def read(folder: Path) -> bool:
        return read_judgement(folder / record.path, record.path).verdict is not None

    return Subject(work, (record.path,), unsealed, read)


WEIGHTS = {
    "run.json": 4,
    "samples.parquet": 3,
    "events.parquet": 3,
    "heads.parquet": 3,
    "manifest.json": 2,
    "import": 2,
}
"""How often a kind comes, where it is not once."""


def mutate(chance: random.Random, name: str, data: bytes) -> bytes:
    if name.endswith(".parquet"):
        return mutate_parquet(chance, data)
    if name.endswith(".json") and chance.random() < 0.7:
        return mutate_json(chance, data)
    return mutate_bytes(chance, data)


def play(chance: random.Random, subject: Subject, case: str) -> tuple[str | None, bool]:
    """One case: damage, read, repair. Returns what rule was broken, if one was, and whether it was found sound."""
    name = chance.choice(subject.files)
    original = subject.originals[name]
    data = mutate(chance, name, original)
    (subject.folder / name).write_bytes(data)
    sealed = chance.random() < 0.75
    kept = {p: p.read_bytes() for p in subject.folder.iterdir() if p.is_file()} if sealed else {}
    folder = subject.seal(chance, subject.folder) if sealed else subject.folder
    broken, sound = None, False
    try:
        sound = subject.read(folder)
        if sound and not sealed and data != original and subject.hashed(name):
            broken = "changed without its hash, and found sound"
    except (InputError, CheckFailed) as error:
        if not str(error).isprintable():
            broken = f"not printable: {str(error)!r:.300}"
    except Exception:
        broken = traceback.format_exc()[-1500:]
    if folder != subject.folder:
        folder.rename(subject.folder)
    for path, content in kept.items():
        path.write_bytes(content)
    (subject.folder / name).write_bytes(original)
    return (f"{case}: {broken}" if broken else None), sound


def campaign(seed: int, cases: int, work: Path) -> dict[str, Any]:
    subjects = make_subjects(work)
    kinds = [kind for kind in subjects for _ in range(WEIGHTS.get(kind, 1))]
    counts = dict.fromkeys(subjects, 0)
    sound = dict.fromkeys(subjects, 0)
    broken: list[str] = []
    slowest = (0.0, "")
    started = time.perf_counter()
    for number in range(cases):
        kind = kinds[number % len(kinds)]
        chance = random.Random(f"{seed}/{number}")
        case = f"{kind}, seed {seed}, case {number}"
        since = time.process_time()  # of this process alone: others on the machine must not decide
        found, was_sound = play(chance, subjects[kind], case)
        sound[kind] += was_sound
        slowest = max(slowest, (time.process_time() - since, case))
        counts[kind] += 1
        broken += [found] if found else []
    return {
        "cases": sum(counts.values()),
        "kinds": counts,
        "sound": sound,
        "broken": broken,
        "slowest": slowest,
        "seconds": round(time.perf_counter() - started, 1),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def no_network(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "os.system", "subprocess.Popen"):
        raise RuntimeError(f"{event} {arguments!r:.100}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=6000)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    sys.addaudithook(no_network)
    os.fsync = lambda handle: None  # nothing made here must outlive a crash, and waiting for the disk takes most time
    print(json.dumps(campaign(arguments.seed, arguments.cases, arguments.work)))


if __name__ == "__main__":
    main()
