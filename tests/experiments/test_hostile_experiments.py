"""Experiments made to deceive, to break the reader, or to reach what is not theirs: each is refused or harmless.

What is not here: ranges and cross-references of each kind's rows, in the kind's own tests, and `test_artifact` (hashes,
ids, counts, strange files).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import HOSTILE
from fake_experiments import SMALL

from rh_bench.experiments.artifact import experiment_id, recompute, validate_experiment
from rh_bench.experiments.kind import claim
from rh_bench.experiments.registry import kinds
from rh_bench.experiments.scorecard import scorecard_of
from rh_bench.leaderboard import build_site
from rh_bench.system.files import sha256_file
from rh_bench.system.schema import dump_json

SCRIPT = re.compile(
    r"<script(?![^>]* src=| [^>]*type=\"application/json\")|\son[a-z]+=\"|\sstyle=|javascript:", re.IGNORECASE
)


@pytest.fixture(params=sorted(SMALL))
def experiment(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """One of each kind, in a results repository with its runs."""
    return SMALL[request.param](tmp_path)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((folder / "experiment.json").read_text())
    change(document)
    (folder / "experiment.json").write_bytes(dump_json(document))


def seal(folder: Path) -> Path:
    """Hashes, counts and id made to fit, as by somebody who knows how."""
    document = json.loads((folder / "experiment.json").read_text())
    for name in document["files"]:
        document["files"][name] = sha256_file(folder / name)
        document["counts"][name.removesuffix(".parquet")] = pq.read_metadata(folder / name).num_rows
    parts = (document[name] for name in ("model", "runs", "data", "settings"))
    document["experiment_id"] = experiment_id(kinds()[document["kind"]], *parts)
    (folder / "experiment.json").write_bytes(dump_json(document))
    return folder.rename(folder.parent / f"{document['kind']}-{document['experiment_id']}")


def said(folder: Path) -> str:
    text = " | ".join(f"{p.file} {p.pointer} {p.message}" for p in validate_experiment(folder))
    assert text.isprintable()
    return text


def tables(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.parquet"))


def write(folder: Path, name: str, table: pa.Table) -> Path:
    pq.write_table(table, folder / name, compression="zstd")
    return seal(folder)


@pytest.mark.slow_but_first(2)
def test_small_ones_are_sound(experiment: Path) -> None:
    assert validate_experiment(experiment) == []
    assert said(seal(experiment)) == ""


# Names and paths


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("name", ["../../etc/passwd.parquet", "/etc/passwd", "C:\\x", "a\nb", "\x1b[31m"])
def test_paths_lead_nowhere(experiment: Path, name: str) -> None:
    edit(experiment, lambda d: d["files"].update({name: "0" * 64}))
    assert "/files" in said(experiment)
    for field in ("slug", "run_id"):
        run = {"slug": "acme__tiny", "run_id": "0" * 16, "run_sha256": "0" * 64, "origin": "measured", field: name}
        edit(experiment, lambda d, run=run: d.update(runs=[run]))  # type: ignore[misc]
        assert f"/runs/0/{field}" in said(experiment)


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("kind", ["fifo", "link", "folder"])
def test_what_is_no_plain_file_is_not_opened(experiment: Path, kind: str, tmp_path: Path) -> None:
    """A FIFO that were opened would wait for ever."""
    for name in (*tables(experiment), "experiment.json"):
        shutil.move(experiment / name, tmp_path / "elsewhere")
        if kind == "fifo":
            os.mkfifo(experiment / name)
        elif kind == "link":
            (experiment / name).symlink_to(tmp_path / "elsewhere")
        else:
            (experiment / name).mkdir()
        assert re.search("is not a plain file|is a symbolic link|unfinished", said(experiment)), name
        (experiment / name).rmdir() if kind == "folder" else (experiment / name).unlink()
        shutil.move(tmp_path / "elsewhere", experiment / name)
    assert said(experiment) == ""


@pytest.mark.slow_but_first(2)
def test_another_models_folder_is_caught(experiment: Path) -> None:
    copy = experiment.parents[1] / "famous__model" / experiment.name
    shutil.copytree(experiment, copy)
    assert "the folder above is called famous__model" in said(copy)
    edit(copy, lambda d: d["model"].update(slug="famous__model"))
    assert "the model's id gives" in said(copy)


# Documents


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ('{"a": 1, "a": 2}', "duplicate key"),
        ("[" * 100_000, "nested deeper than 64"),
        ('{"a": NaN}', "NaN is not a number"),
        ('{"a": 1e999}', "out of range"),
        ('{"a": "\\ud800"}', "half a surrogate"),
        ("[" + "[]," * 6_000_000 + "[]]", "larger than"),
        ("\xff", "acceptable"),
    ],
)
def test_hostile_json_is_refused_by_name(tmp_path: Path, raw: str, words: str) -> None:
    folder = SMALL["dynamic"](tmp_path)
    (folder / "experiment.json").write_text(raw, encoding="utf-8")
    assert words in said(folder)


def texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, str):
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from texts(child, (*path, key))


def put(document: Any, path: tuple[Any, ...], value: str) -> None:
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


@pytest.mark.slow
def test_markup_in_any_text_is_refused_or_harmless(experiment: Path, tmp_path: Path) -> None:
    original = (experiment / "experiment.json").read_bytes()
    free = []
    for path in texts(json.loads(original)):
        edit(experiment, lambda d, at=path: put(d, at, HOSTILE))  # type: ignore[misc]
        if validate_experiment(experiment) == []:
            free.append(path)
        (experiment / "experiment.json").write_bytes(original)
    edit(experiment, lambda d: [put(d, path, HOSTILE) for path in free])
    folder = seal(experiment)
    recompute(folder)
    assert said(folder) == ""
    build_site(tmp_path, tmp_path / "site")
    for page in (tmp_path / "site").rglob("*.html"):
        assert not SCRIPT.search(page.read_text(encoding="utf-8")), page.name


@pytest.mark.slow_but_first(2)
def test_results_that_were_made_up_are_found(experiment: Path, tmp_path: Path) -> None:
    def flatter(document: dict[str, Any]) -> None:
        for row in document["claims"]:
            row.update(verdict="holds", reason=None, n=10**6)
        document["claims"].append(claim("causal", "Heads cause it.", "holds", test="made up", n=10**6))

    edit(experiment, flatter)
    assert "/claims is not what the tables give" in said(experiment)
    (run,) = (tmp_path / "runs" / experiment.parent.name).iterdir()
    card = scorecard_of(run)
    assert [why for _, why in card.left_out] == ["is not what the tables give"]
    assert all(
        row.verdict == "not_enough_evidence" for row in card.rows if row.claim not in ("sparsity", "universality")
    )


# Tables


@pytest.mark.slow
def test_a_row_repeated_without_end_is_refused_before_it_is_read(experiment: Path) -> None:
    for name in tables(experiment):
        kind = kinds()[experiment.name.partition("-")[0]]
        table = pq.read_table(experiment / name)
        if len(table) and kind.most_rows <= 2_000_000:
            places = pa.array(np.zeros(kind.most_rows + 1, dtype=np.int64))
            experiment = write(experiment, name, table.slice(0, 1).take(places))
            assert f"at most {kind.most_rows} are read" in said(experiment)
            experiment = write(experiment, name, table)


@pytest.mark.slow_but_first(2)
def test_other_columns_and_cut_tables_are_refused(experiment: Path) -> None:
    for name in tables(experiment):
        table = pq.read_table(experiment / name)
        experiment = write(experiment, name, table.append_column("<script>\x1b", pa.array([0] * len(table))))
        assert "column '<script>\\x1b' is unknown" in said(experiment)
        experiment = write(experiment, name, table)
        data = (experiment / name).read_bytes()
        (experiment / name).write_bytes(data[: len(data) // 2])
        digest = {name: sha256_file(experiment / name)}
        edit(experiment, lambda d, found=digest: d["files"].update(found))  # type: ignore[misc]
        assert f"{name}  not a readable Parquet file" in said(experiment)
        (experiment / name).write_bytes(data)
        experiment = seal(experiment)


# Work


@pytest.mark.slow
def test_settings_that_make_computing_endless_are_refused(tmp_path: Path) -> None:
    """Layers and heads by the million, at a few bytes each in the document."""
    for kind in ("dynamic", "intrinsic", "chain_of_thought"):
        folder = SMALL[kind](tmp_path / kind)
        one = {"kind": "full", "query_heads": 32_000, "kv_heads": 1, "window": None}
        edit(folder, lambda d, layer=one: d["model"].update(layers=[{"index": i, **layer} for i in range(1000)]))  # type: ignore[misc]
        assert "have 32000000 heads" in said(seal(folder))
    for kind, name in (("dynamic", "contexts.parquet"), ("intrinsic", "samples.parquet")):
        folder = SMALL[kind](tmp_path / f"long {kind}")
        table = pq.read_table(folder / name)
        many = table.slice(0, 1).take(pa.array(np.zeros(200_001, dtype=np.int64)))
        assert f"{name}  has 200001" in said(write(folder, name, many))
    folder = SMALL["dynamic"](tmp_path / "more")
    few = {"kind": "full", "query_heads": 32_000, "kv_heads": 1, "window": None}
    edit(folder, lambda d: d["model"].update(layers=[{"index": i, **few} for i in range(4)]))
    edit(folder, lambda d: d["settings"].update(permutations=100_000))
    assert "/settings/permutations at most" in said(seal(folder))
    folder = SMALL["chain_of_thought"](tmp_path / "asked")
    edit(folder, lambda d: d["settings"].update(questions=200_000))
    assert "/settings/bootstrap/replicates is 1000: at most 83 can be verified" in said(seal(folder))


def test_intervals_are_made_as_the_protocol_says(experiment: Path) -> None:
    """Whoever could choose would choose intervals without width."""
    edit(experiment, lambda d: d["settings"].get("bootstrap", {}).update(replicates=1, confidence=1e-9))
    if "bootstrap" in json.loads((experiment / "experiment.json").read_text())["settings"]:
        words = said(seal(experiment))
        assert "/settings/bootstrap/replicates is 1, the protocol says 1000" in words
        assert "/settings/bootstrap/confidence is 1e-09, the protocol says 0.95" in words


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("settings", "permutations"), 10**9),
        (("settings", "bootstrap", "replicates"), 10**9),
        (("settings", "seed"), -1),
        (("runs",), [{}] * 100),
        (("claims",), [{}] * 100),
    ],
)
def test_numbers_out_of_range_are_refused_by_the_schema(experiment: Path, path: tuple[str, ...], value: Any) -> None:
    def change(document: dict[str, Any]) -> None:
        for key in path[:-1]:
            document = document.get(key, {})
        document[path[-1]] = value

    edit(experiment, change)
    # Settings that a kind does not have are refused where they stand.
    assert "/" + "/".join(path) in said(experiment) or f"('{path[-1]}' was unexpected)" in said(experiment)
