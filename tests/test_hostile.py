"""Submissions made to deceive, to break the reader, or to reach what is not theirs: each is refused or harmless.

What is not here: `test_validate` (ranges, cross-references, hashes, events outside the span), `test_sets` (paths and
links in manifests), `test_schema` and `test_files` (JSON and names by themselves), `test_interchange` (YAML aliases and
tags), `test_reproduce` (other sets and models, made-up events), and, for results copied from another submitter byte for
byte, `test_review.py::test_a_copy_of_another_run_is_named`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import HOSTILE
from damage import edit, footer_changed, lost_histogram, seal, varint
from fake_runs import make_run

from rh_bench.artifacts.parquet_footer import column_values
from rh_bench.artifacts.run import RUN_FILES, compute_run_id
from rh_bench.artifacts.tables import EVENTS, SAMPLES
from rh_bench.artifacts.validate import validate_path
from rh_bench.errors import InputError
from rh_bench.interchange.folder import check_import, import_file
from rh_bench.interchange.formats import MOST_JSON, plain_yaml
from rh_bench.leaderboard import build_site
from rh_bench.records import Problem
from rh_bench.system.files import sha256_file
from rh_bench.system.schema import dump_json
from rh_bench.verification.verify import verify_run

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = re.compile(
    r"<script(?!( defer)? src=| type=\"application/json\" id=\"overview-data\">)|\son[a-z]+=\"|\sstyle=|javascript:",
    re.IGNORECASE,
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs", layers=2, heads=2, kv_heads=1, n_samples=3)


def refile(run: Path) -> Path:
    """The run's id and both folders made to fit, as by somebody who knows how."""
    document = json.loads((run / "run.json").read_text())
    document["run_id"] = compute_run_id(
        model_revision=document["model"]["revision"],
        manifest_sha256=document["haystack"]["manifest_sha256"],
        protocol=document["protocol"],
        engine_name=document["engine"]["name"],
        engine_version=document["engine"]["version"],
    )
    (run / "run.json").write_bytes(dump_json(document))
    edit(run, lambda d: d.update(run_id=document["run_id"]), "summary.json")
    seal(run)
    target = run.parent.parent / document["model"]["slug"] / document["run_id"]
    target.parent.mkdir(exist_ok=True)
    return run.rename(target)


def said(run: Path) -> str:
    return " | ".join(f"{p.file} {p.pointer} {p.message}" for p in validate_path(run))


# Names and paths


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "C:\\x", "a\nb", "\x1b[31m"])
@pytest.mark.parametrize("field", ["files", "slug", "run_id"])
def test_paths_in_run_json_lead_nowhere(run: Path, field: str, name: str) -> None:
    changes: dict[str, Callable[[dict[str, Any]], object]] = {
        "files": lambda d: d["files"].update({name: "0" * 64}),
        "slug": lambda d: d["model"].update(slug=name),
        "run_id": lambda d: d.update(run_id=name),
    }
    edit(run, changes[field])
    pointer = {"files": "/files", "slug": "/model/slug", "run_id": "/run_id"}[field]
    assert pointer in {problem.pointer for problem in validate_path(run)}
    assert said(run).isprintable()


@pytest.mark.parametrize("name", [*RUN_FILES, "run.json"])
@pytest.mark.parametrize("kind", ["fifo", "link", "folder"])
def test_what_is_no_plain_file_is_not_opened(run: Path, name: str, kind: str, tmp_path: Path) -> None:
    """A FIFO that were opened would wait for ever."""
    shutil.move(run / name, tmp_path / "elsewhere")
    if kind == "fifo":
        os.mkfifo(run / name)
    elif kind == "link":
        (run / name).symlink_to(tmp_path / "elsewhere")
    else:
        (run / name).mkdir()
    assert re.search("is not a plain file|is a symbolic link|unfinished", said(run))
    assert verify_run(run).levels[0].reached is False


def test_a_linked_folder_is_the_folder_that_it_leads_to(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "runs" / "famous__model"
    other.mkdir()
    (other / "0123456789abcdef").symlink_to(run)
    assert validate_path(other / "0123456789abcdef") == [], "judged by its own names, whatever the link is called"
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "linked").symlink_to(tmp_path / "runs")
    moved = run.rename(run.parent / "0123456789abcdef")
    assert "the folder is called 0123456789abcdef" in said(tmp_path / "b" / "linked" / moved.parent.name / moved.name)


def test_a_folder_with_control_characters_is_written_out(run: Path) -> None:
    assert "\\u001b[2J" in said(run.rename(run.parent / "\x1b[2J"))


# Markup


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
@pytest.mark.parametrize("name", ["run.json", "summary.json"])
def test_markup_in_any_text_is_refused_or_harmless(run: Path, name: str, tmp_path: Path) -> None:
    original = json.loads((run / name).read_bytes())
    taken = []
    for path in texts(original):
        edit(run, lambda d, at=path: put(d, at, HOSTILE), name)  # type: ignore[misc]
        if name != "run.json":
            seal(run)
        report = verify_run(run)
        inside = [line for line in report.to_markdown().splitlines() if "<script" in line]
        assert all(line.startswith("* `") and line.endswith("`") for line in inside)
        if report.levels[0].reached:
            taken.append(path)
        (run / name).write_bytes(dump_json(original))
    assert taken, "some texts are free"
    edit(run, lambda d: [put(d, path, HOSTILE) for path in taken], name)
    seal(run)
    assert validate_path(run) == []
    build_site(run.parents[1], tmp_path / "site")
    for page in (tmp_path / "site").rglob("*.html"):
        assert not SCRIPT.search(page.read_text(encoding="utf-8")), page.name


# Documents


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ('{"a": 1, "a": 2}', "duplicate key"),
        ("[" * 100_000, "nested deeper than 64"),
        ('{"a": %s}' % ("9" * 5000), "beyond 64 bits"),
        ('{"a": NaN}', "NaN is not a number"),
        ('{"a": -Infinity}', "-Infinity is not a number"),
        ('{"a": 1e999}', "out of range"),
        ('{"a": "\\ud800"}', "half a surrogate"),
        ("[" + "[]," * 6_000_000 + "[]]", "larger than"),
        ("\xff", "must be an object|acceptable"),
    ],
)
@pytest.mark.parametrize("name", ["run.json", "summary.json"])
def test_hostile_json_is_refused_by_name(run: Path, name: str, raw: str, words: str) -> None:
    (run / name).write_text(raw, encoding="utf-8")
    if name == "summary.json":
        seal(run)
    assert re.search(words, said(run)), said(run)


LARGEST = MOST_JSON - 64
IMPORTING = """
import resource, sys
from pathlib import Path
from rh_bench.errors import InputError
from rh_bench.interchange.folder import import_file
try:
    print(import_file(Path(sys.argv[1]), Path(sys.argv[2])).name)
except InputError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("1.5", None),
        ("[]", "more than 2000000 strings"),
        ('"ab"', "more than 2000000 strings"),
    ],
)
def test_json_that_grows_in_memory_is_refused_or_fits(tmp_path: Path, item: str, words: str | None) -> None:
    """As large as a foreign file may be, of one list of the smallest items."""
    text = '{"0-0":[' + f"{item}," * (LARGEST // (len(item) + 1) - 1) + f"{item}]}}"
    (tmp_path / "x.json").write_text(text)
    # Through a shell: a process takes over the peak memory of the one that it was forked from.
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", IMPORTING]
    done = subprocess.run([*command, tmp_path / "x.json", tmp_path / "out"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    said, peak = done.stdout.splitlines()
    assert words in said if words else re.fullmatch("[0-9a-f]{16}", said)
    assert int(peak) < 1 << 20, "KiB"
    (tmp_path / "x.json").write_text(text + " " * 100)
    with pytest.raises(InputError, match="is larger than"):
        import_file(tmp_path / "x.json", tmp_path / "out")


@pytest.mark.parametrize("text", ["[" * 60_000, "- " * 60_000, "{a: " * 60_000, "k: 1\n" * 60_000])
def test_yaml_that_takes_for_ever_is_refused_at_once(text: str) -> None:
    """60,000 brackets took half a minute: the scanner's time grows with the square of the nesting."""
    started = time.perf_counter()
    with pytest.raises(InputError, match="nested deeper|longer than"):
        plain_yaml(text, "x.yaml")
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("score", [1e308, float("inf"), float("-inf"), float("nan")])
def test_scores_too_large_to_add_up_are_refused(tmp_path: Path, score: float) -> None:
    """Found by fuzzing: their sum was an OverflowError."""
    foreign = tmp_path / "seed.json"
    foreign.write_text(json.dumps({"0-0": [1.0, 0.5], "0-1": [0.0, 0.25]}))
    folder = import_file(foreign, tmp_path / "imports")
    table = pq.read_table(folder / "instances.parquet")
    scores = pa.array([score] * len(table), type=pa.float64())
    pq.write_table(table.set_column(3, table.schema.field("score"), scores), folder / "instances.parquet")
    edit(folder, lambda d: d["files"].update({n: sha256_file(folder / n) for n in d["files"]}), "import.json")
    assert "must be finite, and small enough to add up" in [problem.message for problem in check_import(folder)]
    foreign.write_text(json.dumps({"0-0": [score, score]}))
    with pytest.raises(InputError):
        import_file(foreign, tmp_path / "imports")


# Tables


def write(run: Path, name: str, table: pa.Table, **options: Any) -> None:
    pq.write_table(table, run / name, compression="zstd", **options)
    seal(run)


def repeated(run: Path, name: str, times: int) -> pa.Table:
    return pq.read_table(run / name).slice(0, 1).take(pa.array(np.zeros(times, dtype=np.int64)))


def test_a_row_repeated_without_end_is_refused_before_it_is_read(run: Path) -> None:
    write(run, "samples.parquet", repeated(run, "samples.parquet", 200_000).cast(SAMPLES))
    assert (run / "samples.parquet").stat().st_size < 100_000
    assert "claims 200000 rows, at most 100000 are read" in said(run)


@pytest.mark.slow
def test_a_long_list_in_a_small_file_is_refused(run: Path) -> None:
    items = pa.ListArray.from_arrays(pa.array([0, 20_000_000], pa.int32()), pa.array(np.full(20_000_000, 11, np.int32)))
    table = pq.read_table(run / "samples.parquet").slice(0, 1)
    place = table.column_names.index("generated_ids")
    kind = SAMPLES.field("generated_ids")
    write(run, "samples.parquet", table.set_column(place, kind, items.cast(kind.type)).cast(SAMPLES))
    assert (run / "samples.parquet").stat().st_size < 100_000
    assert "claims 20000003 values" in said(run) or "claims 20000000 values" in said(run)


def test_text_that_unpacks_to_much_is_refused(run: Path) -> None:
    rows = pq.read_table(run / "samples.parquet").to_pylist()
    rows[0]["text"] = "a b " * 20_000_000
    write(run, "samples.parquet", pa.Table.from_pylist(rows, schema=SAMPLES))
    assert (run / "samples.parquet").stat().st_size < 100_000
    assert "bytes uncompressed, at most" in said(run)


def test_one_long_text_named_by_many_rows_is_refused(run: Path) -> None:
    """In the file it stands once, in a dictionary, so that the footer claims little."""
    table = repeated(run, "samples.parquet", 50_000)
    place = table.column_names.index("text")
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(50_000, np.int32)), pa.array(["x" * 10_000]))
    write(run, "samples.parquet", table.set_column(place, pa.field("text", text.type, nullable=False), text))
    assert re.search("has 500000000 bytes of text, at most|dictionary<", said(run)), said(run)


def test_one_long_spelling_named_by_many_rows_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", layers=2, heads=2, kv_heads=1, n_samples=3, spell=True)
    table = repeated(run, "samples.parquet", 50_000)
    place = table.column_names.index("span_text")
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(50_000, np.int32)), pa.array(["x" * 10_000]))
    field = pa.field("span_text", text.type, nullable=False)
    write(run, "samples.parquet", table.set_column(place, field, text), store_schema=False)
    assert (run / "samples.parquet").stat().st_size < 100_000
    assert "column 'span_text' has 500000000 bytes of text, at most" in said(run)


def test_a_billion_claimed_rows_are_refused(run: Path) -> None:
    write(run, "events.parquet", repeated(run, "events.parquet", 12_345).cast(EVENTS))
    footer_changed(run / "events.parquet", lambda footer: footer.replace(varint(12_345), varint(10**9)))
    seal(run)
    assert "claims 1000000000 rows, at most 10000000 are read" in said(run)


@pytest.mark.slow
def test_statistics_that_end_pyarrow_are_refused(run: Path) -> None:
    """Found by fuzzing: a histogram of levels that does not fit the column ends a process that asks pyarrow for the
    column's metadata. A process of its own, so that if it comes back it does not end the tests."""
    footer_changed(run / "samples.parquet", lost_histogram)
    seal(run)
    code = "import sys, pathlib, rh_bench.artifacts.validate as v; print(v.validate_path(pathlib.Path(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", code, run], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    assert "not a readable Parquet file" in done.stdout and "histogram" in done.stdout


@pytest.mark.parametrize("cut", [0, 4, 8, 100, 0.5, -1, -9])
def test_a_cut_table_is_refused(run: Path, cut: float) -> None:
    data = (run / "events.parquet").read_bytes()
    (run / "events.parquet").write_bytes(data[: int(cut * len(data)) if cut == 0.5 else int(cut)])
    seal(run)
    assert "events.parquet  not a readable Parquet file" in said(run)


def test_the_footer_says_what_pyarrow_says(run: Path) -> None:
    for path in run.glob("*.parquet"):
        group = pq.read_metadata(path).row_group(0)
        assert list(column_values(path)) == [group.column(place).num_values for place in range(group.num_columns)]


@pytest.mark.parametrize("kind", ["type", "extra"])
def test_other_columns_are_refused(run: Path, kind: str) -> None:
    table = pq.read_table(run / "events.parquet")
    if kind == "type":
        table = table.set_column(1, "layer", table.column("layer").cast(pa.int64()))
    else:
        table = table.append_column("<script>\x1b", pa.array([0] * len(table)))
    write(run, "events.parquet", table)
    words = {"type": "column 'layer' is int64, expected int16", "extra": "column '<script>\\x1b' is unknown"}
    assert words[kind] in said(run), said(run)
    assert said(run).isprintable()


# Work


def test_settings_that_make_scoring_endless_are_refused(run: Path) -> None:
    edit(run, lambda d: d["counts"].update(heads=1_000_000))
    assert "/protocol/bootstrap/replicates is 1000: with 1000000 heads at most 67 replicates can be verified" in said(
        run
    )


# Runs under another name


def test_a_run_copied_to_another_models_folder_is_caught(run: Path) -> None:
    copy = run.parents[1] / "famous__model" / run.name
    shutil.copytree(run, copy)
    assert Problem("run.json", "/model/slug", "is acme__tiny-1, the folder above is called famous__model") in (
        validate_path(copy)
    )


@pytest.mark.parametrize("field", ["id", "slug"])
def test_a_run_filed_under_a_name_that_is_not_its_models_is_caught(run: Path, field: str) -> None:
    edit(run, lambda d: d["model"].update({field: {"id": "famous/model", "slug": "famous__model"}[field]}))
    assert "the model's id gives" in said(refile(run))


def test_a_run_renamed_throughout_needs_the_model_to_be_caught(run: Path) -> None:
    """Its own files agree with each other: that it is the model's is shown by nothing but the model. The revision gives
    it away (`test_reproduce.py::test_another_model_is_caught`), and if that is changed, too, measuring again does
    (`test_reproduce.py::test_a_run_replayed_under_another_models_name_is_caught`)."""
    edit(run, lambda d: d["model"].update(id="famous/model", slug="famous__model", revision="d" * 40))
    levels = verify_run(refile(run)).levels
    assert [level.reached for level in levels] == [True, None, None]
    assert "its prompts were not reproduced" in levels[1].reasons[1]


# The table of all of this


def test_every_test_in_the_docs_is_there() -> None:
    """docs/hostile-input.md names a test for each case; `::test_x` alone belongs to the file named before it."""
    names = re.findall(r"`(test_\w+\.py)?(?:::(test_\w+))?`", (ROOT / "docs" / "hostile-input.md").read_text())
    file, named = "", 0
    for given, test in names:
        file = given or file
        if file and test:
            named += 1
            (path,) = (ROOT / "tests").rglob(file)
            assert f"def {test}(" in path.read_text(), f"{file}::{test}"
    assert named >= 30
