"""The validator: nothing wrong with a sound run, and a named problem for each way in which one can be wrong."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rh_bench.artifacts.run import RUN_FILES
from rh_bench.artifacts.table_checks import MOST
from rh_bench.artifacts.tables import EVENTS, SAMPLES, table_bytes
from rh_bench.artifacts.validate import validate_path
from rh_bench.records import Problem
from rh_bench.system.files import sha256_file
from rh_bench.system.schema import dump_json
from tests.fake_runs import make_run


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def run(sound: Path, tmp_path: Path) -> Path:
    """A copy of a sound run to damage."""
    folder = tmp_path / sound.parent.name / sound.name
    shutil.copytree(sound, folder)
    return folder


def change(run: Path, edit: Callable[[dict[str, Any]], object], name: str = "run.json") -> None:
    document = json.loads((run / name).read_text())
    edit(document)
    (run / name).write_bytes(dump_json(document))


def seal(run: Path) -> None:
    """Hashes of the files as they are now: what somebody who edits a run on purpose would do."""
    change(run, lambda d: d.update(files={name: sha256_file(run / name) for name in RUN_FILES}))


def change_rows(run: Path, name: str, edit: Callable[[list[dict[str, Any]]], object]) -> None:
    table = pq.read_table(run / name)
    rows = table.to_pylist()
    edit(rows)
    schema = {"samples.parquet": SAMPLES, "events.parquet": EVENTS}.get(name, table.schema)
    (run / name).write_bytes(table_bytes(pa.Table.from_pylist(rows, schema=schema)))
    seal(run)


def places(problems: list[Problem]) -> set[tuple[str, str]]:
    return {(problem.file, problem.pointer) for problem in problems}


def test_a_sound_run_has_no_problems(sound: Path) -> None:
    assert validate_path(sound) == []


@pytest.mark.parametrize("n_samples", [1, 2])
def test_few_samples_are_no_problem(tmp_path: Path, n_samples: int) -> None:
    assert validate_path(make_run(tmp_path, n_samples=n_samples)) == []


def test_an_unfinished_run_is_called_so(run: Path) -> None:
    (run / "run.json").unlink()
    assert validate_path(run) == [Problem("run.json", "", "missing: the run is unfinished")]


@pytest.mark.parametrize("name", RUN_FILES)
def test_each_file_is_needed_and_hashed(run: Path, name: str) -> None:
    data = (run / name).read_bytes()
    (run / name).unlink()
    assert (name, "") in places(validate_path(run))
    (run / name).write_bytes(data + b" ")
    assert ("run.json", f"/files/{name}") in places(validate_path(run))
    (run / name).unlink()
    (run / name).symlink_to("/etc/hostname")
    assert (name, "") in places(validate_path(run))


def test_a_strange_file_is_named(run: Path) -> None:
    (run / "weights.bin").write_bytes(b"x")
    (run / "evil\x1b[31m").write_bytes(b"x")
    found = validate_path(run)
    assert {problem.file for problem in found} == {"weights.bin", "evil\\u001b[31m"}


DOCUMENT_CHANGES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda d: d["model"].update(revision="d" * 40), "/run_id"),
    (lambda d: d["protocol"].update(max_new_tokens=10), "/run_id"),
    (lambda d: d.update(run_id="0" * 16), "/run_id"),
    (lambda d: d["model"].update(slug="other"), "/model/slug"),
    (lambda d: d["counts"].update(samples=1), "/counts/samples"),
    (lambda d: d["counts"].update(counted=1), "/counts/counted"),
    (lambda d: d["counts"].update(failed=99), "/counts/failed"),
    (lambda d: d["counts"].update(events=1), "/counts/events"),
    (lambda d: d["counts"].update(heads=1), "/counts/heads"),
    (lambda d: d["model"]["layers"][1].update(index=5), "/model/layers/1/index"),
    (lambda d: d["model"]["layers"][1].update(query_heads=0), "/model/layers/1/query_heads"),
    (lambda d: d["model"]["layers"][1].update(kv_heads=3), "/model/layers/1/kv_heads"),
    (lambda d: d["model"]["layers"][1].update(kind="sliding"), "/model/layers/1/window"),
    (lambda d: d["model"]["layers"][1].update(kind="mamba"), "/model/layers/1/query_heads"),
    (lambda d: d["model"].pop("revision"), "/model"),
    (lambda d: d.update(extra=1), ""),
    (lambda d: d.update(schema_version="1.9"), "/schema_version"),
    (lambda d: d.update(schema_version="2.0"), "/schema_version"),
    (lambda d: d["model"].update(window="8192"), "/model/window"),
]


@pytest.mark.parametrize(("edit", "pointer"), DOCUMENT_CHANGES)
def test_a_changed_document_is_found(run: Path, edit: Callable[[dict[str, Any]], object], pointer: str) -> None:
    change(run, edit)
    assert ("run.json", pointer) in places(validate_path(run))


def test_a_newer_version_is_refused_by_name(run: Path) -> None:
    change(run, lambda d: d.update(schema_version="1.7"))
    message = next(p.message for p in validate_path(run) if p.pointer == "/schema_version")
    assert "1.7" in message
    assert "upgrade" in message


@pytest.mark.parametrize(
    ("edit", "pointer"),
    [
        (lambda d: d.update(run_id="0" * 16), "/run_id"),
        (lambda d: d.update(n_samples=3), "/n_samples"),
        (lambda d: d.update(n_counted=3), "/n_counted"),
        (lambda d: d.update(heads=3), "/heads"),
        (lambda d: d.pop("sparsity"), ""),
    ],
)
def test_a_changed_summary_is_found(run: Path, edit: Callable[[dict[str, Any]], object], pointer: str) -> None:
    change(run, edit, "summary.json")
    seal(run)
    assert ("summary.json", pointer) in places(validate_path(run))


SAMPLE_CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"sample_id": ""}, "sample_id"),
    ({"needle_id": ""}, "needle_id"),
    ({"prompt_sha256": "A" * 64}, "prompt_sha256"),
    ({"length": 0}, "length"),
    ({"length": 9000}, "length"),
    ({"depth": 101.0}, "depth"),
    ({"depth": float("nan")}, "depth"),
    ({"seconds": float("inf")}, "seconds"),
    ({"insert_at": -1}, "insert_at"),
    ({"span_start": 3}, "span_start"),
    ({"span_ids": []}, "span_ids"),
    ({"span_start": 511}, "span_ids"),
    ({"generated_ids": [-1]}, "generated_ids"),
    ({"generated_ids": [1] * 51}, "generated_ids"),
    ({"answer": "..."}, "answer"),
    ({"rouge1_recall": 0.25}, "rouge1_recall"),
    ({"success": False}, "success"),
]


@pytest.mark.parametrize(("cells", "column"), SAMPLE_CHANGES)
def test_a_changed_sample_is_found(run: Path, cells: dict[str, Any], column: str) -> None:
    change_rows(run, "samples.parquet", lambda rows: rows[0].update(cells))
    assert ("samples.parquet", f"/0/{column}") in places(validate_path(run))


def test_a_recall_of_exactly_half_is_no_success(run: Path) -> None:
    """The gate is open above one half: a run that counts the half itself is not valid."""

    def half(success: bool) -> list[tuple[str, str]]:
        said = {"answer": "two words", "text": "two of them", "rouge1_recall": 0.5, "success": success}
        change_rows(run, "samples.parquet", lambda rows: rows[0].update(said))
        return places(validate_path(run))

    assert ("samples.parquet", "/0/success") in half(True)
    assert ("samples.parquet", "/0/success") not in half(False)


SPELLING_CHANGES = [
    ({"span_text": "a slow waltz"}, {"span_text", "span_ends"}),
    ({"span_ends": [1, 2, 3]}, {"span_ends"}),
    ({"span_ends": [6, 1, 12, 16, 20, 25, 30]}, {"span_ends"}),
    ({"span_ends": [-1, 6, 12, 16, 20, 25, 30]}, {"span_ends"}),
    ({"generated_ends": [1, 6, 12, 16, 20, 25, 31]}, {"generated_ends"}),
    ({"generated_ends": []}, {"generated_ends"}),
]


@pytest.mark.parametrize(("cells", "columns"), SPELLING_CHANGES)
def test_a_token_without_its_place_in_the_text_is_found(
    tmp_path: Path, cells: dict[str, Any], columns: set[str]
) -> None:
    run = make_run(tmp_path / "runs", spell=True)
    assert validate_path(run) == []
    table = pq.read_table(run / "samples.parquet")
    rows = table.to_pylist()
    rows[0].update(cells)
    (run / "samples.parquet").write_bytes(table_bytes(pa.Table.from_pylist(rows, schema=table.schema)))
    seal(run)
    assert places(validate_path(run)) == {("samples.parquet", f"/0/{column}") for column in columns}


def test_some_of_the_columns_of_spelling_are_not_enough(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", spell=True)
    table = pq.read_table(run / "samples.parquet").drop_columns(["span_ends"])
    (run / "samples.parquet").write_bytes(table_bytes(table))
    seal(run)
    assert [problem.message for problem in validate_path(run) if problem.file == "samples.parquet"] == [
        "column 'span_ends' is missing"
    ]


def test_a_sample_twice_is_found(run: Path) -> None:
    change_rows(run, "samples.parquet", lambda rows: rows.append(rows[0]))
    found = places(validate_path(run))
    assert ("samples.parquet", "/12/sample_id") in found
    assert ("run.json", "/counts/samples") in found


EVENT_CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"sample_id": "nobody"}, "sample_id"),
    ({"layer": 4}, "layer"),
    ({"layer": -1}, "layer"),
    ({"head": 4}, "head"),
    ({"step": 7}, "step"),
    ({"step": -1}, "step"),
    ({"span_offset": 7}, "span_offset"),
    ({"span_offset": 6, "step": 0}, "span_offset"),
]


@pytest.mark.parametrize(("cells", "column"), EVENT_CHANGES)
def test_a_changed_event_is_found(run: Path, cells: dict[str, Any], column: str) -> None:
    change_rows(run, "events.parquet", lambda rows: rows[0].update(cells))
    assert ("events.parquet", f"/0/{column}") in places(validate_path(run))


def test_events_out_of_order_and_twice(run: Path) -> None:
    change_rows(run, "events.parquet", lambda rows: rows.insert(1, rows[0]))
    assert ("events.parquet", "/1/head") in places(validate_path(run))
    change_rows(run, "events.parquet", lambda rows: rows.reverse())
    assert any(problem.message.startswith("events must be sorted") for problem in validate_path(run))


HEAD_CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"layer": 1}, "layer"),
    ({"head": 1}, "head"),
    ({"n": 3}, "n"),
    ({"score": 1.5}, "score"),
    ({"score": None}, "score"),
    ({"score": float("nan")}, "score"),
    ({"score_low": 0.99}, "score_low"),
    ({"score_high": -0.5}, "score_high"),
    ({"rank": 0}, "rank"),
    ({"rank_high": 17}, "rank_high"),
    ({"activation_frequency": 1.01}, "activation_frequency"),
    ({"events_score": float("inf")}, "events_score"),
]


@pytest.mark.parametrize(("cells", "column"), HEAD_CHANGES)
def test_a_changed_head_is_found(run: Path, cells: dict[str, Any], column: str) -> None:
    change_rows(run, "heads.parquet", lambda rows: rows[0].update(cells))
    assert ("heads.parquet", f"/0/{column}") in places(validate_path(run))


def test_a_missing_head_is_found(run: Path) -> None:
    change_rows(run, "heads.parquet", lambda rows: rows.pop())
    assert any("has 15 rows" in problem.message for problem in validate_path(run))


def test_every_problem_is_reported_at_once(run: Path) -> None:
    change_rows(run, "samples.parquet", lambda rows: rows[0].update(length=0))
    change_rows(run, "events.parquet", lambda rows: rows[0].update(head=99))
    change(run, lambda d: d["counts"].update(failed=99))
    (run / "stranger").touch()
    assert {problem.file for problem in validate_path(run)} >= {
        "samples.parquet",
        "events.parquet",
        "run.json",
        "stranger",
    }


def test_a_long_list_is_cut_and_counted(run: Path) -> None:
    change_rows(run, "events.parquet", lambda rows: [row.update(head=99) for row in rows])
    found = [p for p in validate_path(run) if p.file == "events.parquet" and p.pointer.endswith("/head")]
    assert len(found) == MOST
    assert any("more rows with a wrong head" in problem.message for problem in validate_path(run))


def test_columns_and_damage_are_named(run: Path) -> None:
    table = pq.read_table(run / "events.parquet")
    (run / "events.parquet").write_bytes(table_bytes(table.drop_columns("step")))
    seal(run)
    assert any("'step' is missing" in problem.message for problem in validate_path(run))
    data = (run / "samples.parquet").read_bytes()
    (run / "samples.parquet").write_bytes(data[: len(data) // 2])
    assert ("run.json", "/files/samples.parquet") in places(validate_path(run))
    seal(run)
    assert ("samples.parquet", "") in places(validate_path(run))


@pytest.mark.slow
def test_random_damage_never_escapes(run: Path) -> None:
    """Bytes flipped, cut and swapped anywhere, resealed or not: a list of problems, never an exception."""
    chance = random.Random(0)
    originals = {name: (run / name).read_bytes() for name in (*RUN_FILES, "run.json")}
    for _ in range(150):
        name = chance.choice(list(originals))
        data = bytearray(originals[name])
        for _ in range(chance.choice([1, 3, 30])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.3:
            data = data[: chance.randrange(len(data))]
        (run / name).write_bytes(bytes(data))
        if name != "run.json" and chance.random() < 0.7:
            seal(run)
        changed = (run / name).read_bytes() != originals[name]
        problems = validate_path(run)
        assert all("\n" not in p.message and p.message.isprintable() for p in problems)
        assert problems or not changed or name != "run.json" or json.loads((run / name).read_text())
        for each, original in originals.items():
            (run / each).write_bytes(original)


@pytest.mark.slow
def test_random_values_in_the_document_never_escape(run: Path) -> None:
    chance = random.Random(1)
    original = json.loads((run / "run.json").read_text())
    strange: list[Any] = [None, -1, 2**62, 1e300, "", "\u202e../../x", [], {}, [[]], True, [None] * 3, {"a": 1}]

    def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [path] * bool(path) + [leaf for key, child in children for leaf in leaves(child, (*path, key))]

    for path in leaves(original):
        document = json.loads(json.dumps(original))
        at = document
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = chance.choice(strange)
        (run / "run.json").write_bytes(dump_json(document))
        validate_path(run)


@pytest.mark.slow
def test_a_million_events_are_checked_in_columns(run: Path) -> None:
    """Large tables are checked without a loop over rows: a loop of a million would not end within the time limit."""
    table = pq.read_table(run / "events.parquet")
    rows = np.repeat(np.arange(len(table)), 1_000_000 // len(table) + 1)
    (run / "events.parquet").write_bytes(table_bytes(table.take(pa.array(rows)).cast(EVENTS)))
    seal(run)
    found = validate_path(run)
    assert any("a second event of this head" in problem.message for problem in found)
    assert len(found) < 3 * MOST
