"""Runs on disk: an id that follows from what was measured, bytes that follow from the events."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rh_bench.artifacts.run import RUN_FILES, compute_run_id, model_slug, read_run, rescore
from rh_bench.artifacts.tables import EVENTS, SAMPLES, read_table, table_bytes
from rh_bench.errors import InputError
from rh_bench.system.faults import explain
from tests.fake_runs import make_run

IDENTITY = {
    "model_revision": "c" * 40,
    "manifest_sha256": "b" * 64,
    "protocol": {"dtype": "float32"},
    "engine_name": "fast",
    "engine_version": 1,
}


@given(st.text())
def test_any_name_becomes_a_safe_folder(name: str) -> None:
    slug = model_slug(name)
    assert slug
    assert "/" not in slug
    assert not slug.startswith(".")
    assert slug.isascii()


def test_the_id_follows_from_each_input() -> None:
    first = compute_run_id(**IDENTITY)  # type: ignore[arg-type]
    assert first == compute_run_id(**IDENTITY)  # type: ignore[arg-type]
    changes = [{"model_revision": "d" * 40}, {"manifest_sha256": "e" * 64}, {"protocol": {"dtype": "float16"}}]
    changes += [{"engine_name": "reference"}, {"engine_version": 2}]  # type: ignore[list-item]
    others = [compute_run_id(**{**IDENTITY, **change}) for change in changes]  # type: ignore[arg-type]
    assert len({first, *others}) == 6


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    for name in (*RUN_FILES, "run.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    run = read_run(folder)
    assert len(run.results) == run.document["counts"]["samples"] == 12
    assert sum(len(result.events) for result in run.results) == run.document["counts"]["events"]


def test_what_tokens_spell_is_kept_and_runs_without_it_are_read(tmp_path: Path) -> None:
    spelt, plain = make_run(tmp_path / "spelt", spell=True), make_run(tmp_path / "plain")
    first = read_run(spelt).results[0].spelling
    assert first is not None and first.span_text[first.span_ends[0] : first.span_ends[1]] == " slow"
    assert all(result.spelling is None for result in read_run(plain).results)
    assert pq.read_schema(plain / "samples.parquet").names == SAMPLES.names
    before = (spelt / "samples.parquet").read_bytes()
    assert rescore(spelt) == [] and (spelt / "samples.parquet").read_bytes() == before


def test_rescore_changes_nothing_and_mends_what_was_changed(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    before = {name: (folder / name).read_bytes() for name in (*RUN_FILES, "run.json")}
    assert rescore(folder) == []
    summary = json.loads(before["summary.json"])
    summary["heads"] = 3
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "heads.parquet").unlink()
    assert rescore(folder) == ["heads.parquet", "summary.json"]
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    (folder / "run.json").unlink()
    with pytest.raises(InputError, match=r"no run\.json"):
        read_run(folder)


def test_too_little_memory_calls_no_sound_table_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a machine that is short of memory would leave sound runs out of a leaderboard. What asks for more than any
    sound table holds is refused as before: a forged page does."""
    path = make_run(tmp_path) / "events.parquet"

    def reads(self: object, **options: object) -> pa.Table:
        raise error

    monkeypatch.setattr("pyarrow.parquet.ParquetFile.read", reads)
    for error in (
        pa.ArrowMemoryError("malloc of size 4096 failed"),
        pa.ArrowException("Unknown error: Failed to launch worker thread: Resource temporarily unavailable"),
        MemoryError(),
    ):
        with pytest.raises(type(error)):
            read_table(path, EVENTS)
        said = explain(error)
        assert said is not None and str(said).startswith("memory: there is not enough"), "the command line's one line"
    error = pa.ArrowMemoryError("malloc of size 2147483648 failed")
    with pytest.raises(InputError, match="not a readable Parquet file .malloc of size 2147483648 failed"):
        read_table(path, EVENTS)


def test_tables_that_differ_are_refused(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    events = pq.read_table(folder / "events.parquet")
    for table, why in (
        (events.drop_columns("step"), "'step' is missing"),
        (events.append_column("more", pa.array([0] * len(events))), "'more' is unknown"),
        (events.select(["layer", "sample_id", "head", "step", "span_offset"]), "in this order"),
        (events.set_column(3, "step", events.column("step").cast(pa.int64())), "'step' is int64"),
    ):
        (folder / "events.parquet").write_bytes(table_bytes(table))
        with pytest.raises(InputError, match=why):
            read_table(folder / "events.parquet", EVENTS)


def test_large_claims_are_refused_before_they_are_read(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    with pytest.raises(InputError, match="at most 3 are read"):
        read_table(folder / "samples.parquet", SAMPLES, max_rows=3)
    with pytest.raises(InputError, match="at most 1000 are read"):
        read_table(folder / "samples.parquet", SAMPLES, max_bytes=1000)
    column = pa.chunked_array([pa.array(["x" * 1_000_000]).dictionary_encode().take(pa.array([0] * 5000))])
    rows = pa.table({"sample_id": column, **{n: pa.array([0] * 5000, pa.int16()) for n in EVENTS.names[1:]}})
    bomb = tmp_path / "bomb.parquet"
    pq.write_table(rows, bomb, store_schema=False)
    assert bomb.stat().st_size < 10_000_000
    with pytest.raises(InputError, match=r"bytes of text|uncompressed|not a readable"):
        read_table(bomb, EVENTS.set(0, EVENTS.field(0)), max_bytes=1 << 30)
