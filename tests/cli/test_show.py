"""The terminal view: what it says at 80 columns, with and without colour, and how it refuses."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from fake_runs import make_run
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rh_bench.cli.show import HeatMap, _shade, show
from rh_bench.errors import InputError


def printed(folder: Path, *, width: int = 80, colour: bool = False, top: int = 10) -> str:
    stream = io.StringIO()
    system: Any = "truecolor" if colour else None
    show(
        folder, Console(file=stream, width=width, color_system=system, force_terminal=colour, no_color=not colour), top
    )
    return stream.getvalue()


def drawn(heat: HeatMap, width: int = 80) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(heat)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def layer(index: int, heads: int = 4, kind: str = "full") -> dict[str, Any]:
    return {"index": index, "kind": kind, "query_heads": heads, "kv_heads": 1, "window": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    return make_run(tmp_path)


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_says_the_numbers_with_their_intervals(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    text = printed(folder)
    for name in ("heads above 0.1", "heads at zero", "Gini", "success"):
        assert name in text
    gini = summary["sparsity"]["gini"]
    assert f"{gini['value']:.3f}  {gini['low']:.3f}–{gini['high']:.3f}" in text
    assert f"{summary['n_counted']} of {summary['n_samples']} samples count" in text


def test_says_what_a_reader_should_know(own_folder: Path) -> None:
    run = json.loads((own_folder / "run.json").read_text())
    edit(own_folder / "run.json", engine=run["engine"] | {"notes": ["thinking is \x1b[31m off", "and so on"]})
    text = printed(own_folder)
    assert "note: thinking is ⟨U+001B⟩[31m off" in text and "note: and so on" in text


def test_lists_as_many_top_heads_as_asked(folder: Path) -> None:
    heads = json.loads((folder / "summary.json").read_text())["top_heads"]
    text = printed(folder, top=2)
    assert f"{heads[1]['score']:.3f}  {heads[1]['low']:.3f}–{heads[1]['high']:.3f}" in text
    assert f"{heads[2]['score']:.3f}  {heads[2]['low']:.3f}–{heads[2]['high']:.3f}" not in text


def test_shows_every_length_and_depth(folder: Path) -> None:
    text = printed(folder)
    grid = text[text.index("Success by length and depth") :]
    for cell in json.loads((folder / "summary.json").read_text())["success"]["by_cell"]:
        assert str(cell["length"]) in grid and f"{cell['depth']:.3g}%" in grid


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("heads", [4, 36, 64, 128])
def test_heat_map_keeps_to_the_width_and_shows_every_head(width: int, heads: int) -> None:
    scores: dict[tuple[int, int], float | None] = {(0, head): 0.55 for head in range(heads)}
    lines = drawn(HeatMap((layer(0, heads),), scores, 0.1), width)
    rows = [line for line in lines if line.startswith("0 ")]
    assert max(map(len, lines)) <= width
    assert sum(row.count("5") for row in rows) == heads


def test_heat_map_without_colour_uses_shades_and_digits() -> None:
    scores: dict[tuple[int, int], float | None] = {(0, 0): 0.0, (0, 1): 0.1, (0, 2): 0.31, (0, 3): 1.0}
    assert drawn(HeatMap((layer(0),), scores, 0.1))[1] == "0 · ░ 3 9"


def test_layers_without_heads_are_named_and_missing_scores_marked() -> None:
    scores: dict[tuple[int, int], float | None] = dict.fromkeys(((0, head) for head in range(2)), None)
    lines = drawn(HeatMap((layer(0, 2), layer(1, 0, "linear_attention")), scores, 0.1))
    assert lines[1] == "0 ? ?"
    assert lines[2] == "1 linear_attention: no heads to score"


def test_no_color_prints_no_escape_and_colour_does(folder: Path) -> None:
    assert "\x1b" not in printed(folder)
    assert "48;2;" in printed(folder, colour=True)


def test_names_cannot_drive_the_terminal(own_folder: Path) -> None:
    run = json.loads((own_folder / "run.json").read_text())
    edit(own_folder / "run.json", model=run["model"] | {"id": "a/\x1b[2Jb\u202e[red]c"})
    assert "a/⟨U+001B⟩[2Jb⟨U+202E⟩[red]c" in printed(own_folder)


@pytest.mark.parametrize("name", ["run.json", "summary.json", "heads.parquet"])
def test_missing_and_broken_files_are_named(own_folder: Path, name: str) -> None:
    (own_folder / name).write_bytes(b"{")
    with pytest.raises(InputError, match=name):
        printed(own_folder)
    (own_folder / name).unlink()
    with pytest.raises(InputError, match=name):
        printed(own_folder)


def test_other_schemas_and_newer_versions_are_refused_by_name(own_folder: Path) -> None:
    edit(own_folder / "run.json", schema_version="2.0")
    with pytest.raises(InputError, match=r"version 2\.0"):
        printed(own_folder)
    edit(own_folder / "run.json", schema="something/else")
    with pytest.raises(InputError, match="does not follow schema rh_bench/run"):
        printed(own_folder)


def test_missing_field_is_named(own_folder: Path) -> None:
    edit(own_folder / "summary.json", sparsity={})
    with pytest.raises(InputError, match="share_above"):
        printed(own_folder)


@given(st.floats(0, 1), st.floats(0, 1))
def test_shades_get_lighter_as_scores_rise(first: float, second: float) -> None:
    def lightness(score: float) -> float:
        red, green, blue = _shade(score).get_truecolor()
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((max(first, 1e-9), max(second, 1e-9)))
    assert lightness(low) <= lightness(high) + 1
