"""Reading haystack sets that may have come from anywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.errors import InputError
from rh_bench.sets.dataset import HAYSTACKS_FILE, NEEDLES_FILE, SAMPLES_FILE, check_set, read_set
from rh_bench.sets.grids import Grid
from rh_bench.system.files import sha256_file

GRID = Grid("custom", (300, 400), (0.0, 100.0), needles=2, haystacks=2)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "set"
    build_set(Recipe(parse_source("synthetic"), GRID), folder)
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "set"))


def rows_changed(folder: Path, name: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the rows of a table and mend the manifest's hash, as a forger would."""
    table = pq.read_table(folder / name)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), folder / name)
    rehash(folder, name)


def rehash(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": sha256_file(folder / name), "bytes": (folder / name).stat().st_size}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def manifest_changed(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


def places(folder: Path) -> list[tuple[str, str]]:
    return [(problem.file, problem.pointer) for problem in check_set(folder)]


def test_a_sound_set_has_no_problems(folder: Path) -> None:
    assert check_set(folder) == []
    found = read_set(folder)
    assert found.manifest_sha256 == sha256_file(folder / "manifest.json")
    assert found.needles_by_id[found.samples[0].needle_id] == found.needles[0]
    assert found.needles[0].answer in found.needles[0].needle
    assert set(found.texts) == {haystack.haystack_id for haystack in found.haystacks}


@pytest.mark.parametrize(
    ("name", "change", "pointer"),
    [
        (NEEDLES_FILE, lambda rows: rows[1].update(answer="something else"), "/1/answer"),
        (NEEDLES_FILE, lambda rows: rows[0].update(answer_end=10_000), "/0/answer_end"),
        (NEEDLES_FILE, lambda rows: rows[0].update(answer_start=-1), "/0/answer_end"),
        (NEEDLES_FILE, lambda rows: rows[0].update(haystack_id="nowhere"), "/0/haystack_id"),
        (NEEDLES_FILE, lambda rows: rows[1].update(needle_id=rows[0]["needle_id"]), "/1/needle_id"),
        (NEEDLES_FILE, lambda rows: rows[1].update(question=f"Is it {rows[1]['answer']}?"), "/1/question"),
        (HAYSTACKS_FILE, lambda rows: rows[0].update(characters=7), "/0/characters"),
        (HAYSTACKS_FILE, lambda rows: rows[1].update(text=rows[1]["text"] + "!"), "/1/sha256"),
        (HAYSTACKS_FILE, lambda rows: rows[1].update(haystack_id=rows[0]["haystack_id"]), "/1/haystack_id"),
        (SAMPLES_FILE, lambda rows: rows[2].update(needle_id="nothing"), "/2/needle_id"),
        (SAMPLES_FILE, lambda rows: rows[2].update(haystack_id="synthetic-2"), "/2/haystack_id"),
        (SAMPLES_FILE, lambda rows: rows[2].update(length=0), "/2/length"),
        (SAMPLES_FILE, lambda rows: rows[2].update(depth=100.5), "/2/depth"),
        (SAMPLES_FILE, lambda rows: rows[2].update(depth=float("nan")), "/2/depth"),
        (SAMPLES_FILE, lambda rows: rows[3].update(sample_id=rows[0]["sample_id"]), "/3/sample_id"),
    ],
)
def test_wrong_rows_are_named(
    folder: Path, name: str, change: Callable[[list[dict[str, Any]]], object], pointer: str
) -> None:
    rows_changed(folder, name, change)
    assert (name, pointer) in places(folder)
    with pytest.raises(InputError, match=name):
        read_set(folder)


def test_every_problem_is_reported_at_once(folder: Path) -> None:
    rows_changed(folder, SAMPLES_FILE, lambda rows: [row.update(depth=-1, length=0) for row in rows])
    manifest_changed(folder, counts={"needles": 9, "haystacks": 2, "samples": 8})
    found = places(folder)
    assert len([pointer for file, pointer in found if file == SAMPLES_FILE]) == 16
    assert ("manifest.json", "/counts/needles") in found


def test_long_lists_of_problems_are_cut(folder: Path) -> None:
    rows_changed(
        folder, SAMPLES_FILE, lambda rows: rows.extend(dict(rows[0], sample_id=f"x{i}", length=0) for i in range(90))
    )
    messages = [problem.message for problem in check_set(folder) if problem.file == SAMPLES_FILE]
    assert len(messages) == 21 and messages[-1] == "and 70 more problems"


def test_a_changed_file_is_noticed(folder: Path) -> None:
    (folder / "README.md").write_text((folder / "README.md").read_text().replace("cc0", "mit"))
    assert places(folder) == [("manifest.json", "/files/README.md/sha256")]
    (folder / NEEDLES_FILE).unlink()
    assert (NEEDLES_FILE, "") in places(folder)


def test_columns_and_damage_are_named(folder: Path) -> None:
    table = pq.read_table(folder / NEEDLES_FILE).drop_columns(["question"])
    pq.write_table(table, folder / NEEDLES_FILE)
    rehash(folder, NEEDLES_FILE)
    (folder / SAMPLES_FILE).write_bytes((folder / SAMPLES_FILE).read_bytes()[:300])
    rehash(folder, SAMPLES_FILE)
    said = {problem.file: problem.message for problem in check_set(folder)}
    assert said[NEEDLES_FILE] == "column 'question' is missing"
    assert "not a readable Parquet file" in said[SAMPLES_FILE]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\\b", "", "x/../y", "C:x", "a\nb"])
def test_paths_out_of_the_set_are_refused(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    manifest_changed(folder, files=manifest["files"])
    assert places(folder)[0][0] == "manifest.json"


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes((folder / NEEDLES_FILE).read_bytes())
    (folder / NEEDLES_FILE).unlink()
    (folder / NEEDLES_FILE).symlink_to(tmp_path / "secret")
    assert [p.message for p in check_set(folder) if p.file == NEEDLES_FILE] == [
        "is a symbolic link; replace it with the file itself"
    ]


def test_a_newer_manifest_is_refused_by_name(folder: Path) -> None:
    manifest_changed(folder, schema_version="1.7")
    with pytest.raises(InputError, match=r"newer rh_bench \(schema version 1.7\)"):
        read_set(folder)


def test_no_set_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_set(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no manifest.json"):
        read_set(tmp_path)


@settings(
    max_examples=min(60, settings.default.max_examples),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_no_damage_makes_it_raise(built: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = Path(shutil.copytree(built, tmp_path_factory.mktemp("damaged") / "set"))
    name = data.draw(st.sampled_from(["manifest.json", NEEDLES_FILE, SAMPLES_FILE, HAYSTACKS_FILE]))
    content = bytearray((folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    (folder / name).write_bytes(content[: data.draw(st.integers(0, len(content)))])
    if name != "manifest.json":
        rehash(folder, name)
    assert isinstance(check_set(folder), list)
