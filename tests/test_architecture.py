"""The picture and the page of the architecture say what the code says, and what pages refer to is there."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest
from layered import lay_out
from make_architecture import BEGIN, END, PAGE, PICTURE, House, draw, listed, page_with, read_house
from source_tree import ROOT, floors, modules, needed, place_of

import rh_bench

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *place_of("schemas").glob("*.md")])
OTHERS = [path for folder in ("tests", "docs", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
LINK = re.compile(r"\[((?:[^][]|\[[^]]*\])*)\]\(([^)\s]+)\)")
MENTION = re.compile(
    r"`((?:rh_bench|data_builders|leaderboard|schemas|tests|docs|benchmarks)/[\w./<>-]*\.\w+)(?:::(\w+))?"
)
"""A file of the repository, by its path; `<…>` in it stands for any name."""
FILE = re.compile(r"`(\w+\.py)(?:::\w+)?`")
MODULE = re.compile(r"`(rh_bench(?:\.\w+)+)")


@pytest.fixture(scope="module")
def house() -> House:
    return read_house()


@pytest.mark.slow
def test_the_picture_is_what_the_code_is(house: House) -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(house), "run python docs/make_architecture.py"


def test_the_page_is_what_the_code_is(house: House) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == page_with(page, listed(house)), "run python docs/make_architecture.py"
    rooms, highest, count = re.search(r"^(\d+) rooms on (\d+) floors, (\d+) arrows, no circle\.$", page, re.M).groups()
    assert (int(rooms), int(highest)) == (len(house.floors), max(house.floors.values()))
    assert int(count) == len(house.arrows)
    assert page.split(BEGIN)[1].split(END)[0].count("\n| ") == 1 + int(rooms)


def test_every_room_and_every_needed_arrow_is_drawn(house: House) -> None:
    """And lies within the picture, upright boxes on their floors."""
    root = ElementTree.fromstring(draw(house))
    space = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in root.iter(f"{space}text")]
    assert set(house.floors) <= set(texts)
    assert len(root.findall(f".//{space}path[@marker-end]")) == len(house.drawn)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = [[float(box.attrib[name]) for name in ("x", "y", "width", "height")] for box in root.iter(f"{space}rect")]
    assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in boxes)
    for one, (x, y, w, h) in enumerate(boxes):
        for a, b, c, d in boxes[:one]:
            assert x >= a + c or a >= x + w or y >= b + d or b >= y + h, "two boxes overlap"


def test_arrows_that_a_way_round_implies_are_left_out() -> None:
    arrows = {("top", "middle"), ("middle", "ground"), ("top", "ground"), ("top", "side")}
    assert needed(arrows) == arrows - {("top", "ground")}
    assert floors(arrows) == {"ground": 1, "side": 1, "middle": 2, "top": 3}
    with pytest.raises(ValueError, match="import one another"):
        floors({("a", "b"), ("b", "c"), ("c", "a")})


def test_boxes_lie_beside_each_other_and_crossings_are_undone() -> None:
    level = {"a": 2, "b": 2, "c": 1, "d": 1}
    layout = lay_out(level, [("a", "d"), ("b", "c")], box=10, lane=2, gap=3)
    assert (layout.x["a"] < layout.x["b"]) == (layout.x["d"] < layout.x["c"])
    assert abs(layout.x["a"] - layout.x["b"]) >= 13
    long = lay_out({"top": 3, "middle": 2, "ground": 1}, [("top", "middle"), ("top", "ground")], box=10, lane=2, gap=3)
    assert len(long.ways["top", "ground"]) == 3


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    plain = (re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", head).lower()) for head in heads)
    return {text.replace(" ", "-") for text in plain}


def links(page: Path) -> Iterator[tuple[str, str]]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    yield from ((words, target) for words, target in LINK.findall(text) if not re.match(r"\w+:", target))


def found(page: Path, name: str) -> Path:
    """Where a link leads: folders that are linked into the package are looked for there, too."""
    target = (page.parent / name).resolve()
    return place_of(target.relative_to(ROOT).as_posix()) if target.is_relative_to(ROOT) else target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_refers_to_is_there(page: Path) -> None:
    wrong = []
    for words, target in links(page):
        name, _, anchor = target.partition("#")
        path = found(page, name) if name else page
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            wrong.append(target)
        elif path.suffix == ".py" or (path / "__init__.py").is_file():
            wrong += [f"{target}: {name}" for name in re.findall(r"`([A-Za-z_][\w.]*)`", words) if not has(path, name)]
    text = page.read_text(encoding="utf-8")
    for name, function in MENTION.findall(text):
        matching = list(ROOT.glob(wild := re.sub(r"<\w+>", "*", name))) or list((ROOT / "rh_bench").glob(wild))
        if not matching or (function and not has(matching[0], function)):
            wrong.append(f"{name} {function}".strip())
    files = {path.name for path in (*modules().values(), *OTHERS)}
    wrong += [name for name in FILE.findall(text) if name not in files]
    wrong += [name for name in MODULE.findall(text) if not is_there(name)]
    assert wrong == []


def is_there(dotted: str) -> bool:
    """Whether there is a module of that name, one with that in it, a public name, or a group of entry points."""
    known = modules()
    module, _, name = dotted.rpartition(".")
    if dotted in known or (module == "rh_bench" and name in rh_bench.__all__):
        return True
    groups = (re.search(r'^_?GROUP = "(.+)"$', path.read_text(encoding="utf-8"), re.M) for path in known.values())
    return (module in known and has(known[module], name)) or any(group and group[1] == dotted for group in groups)


def has(path: Path, name: str) -> bool:
    """Whether a module has what is named: a function, a class, a constant, or a member of a class (`Class.member`)."""
    body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []
    *outer, last = name.split(".")
    for part in outer:
        body = [inner for node in body if isinstance(node, ast.ClassDef) and node.name == part for inner in node.body]
    return last in {one for node in body for one in _names(node)}


def _names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id


def test_a_wrong_reference_is_seen(tmp_path: Path) -> None:
    module = ROOT / "rh_bench" / "scores" / "events.py"
    assert has(module, "copy_events")
    assert not has(module, "copied_events")
    assert has(ROOT / "rh_bench" / "sets" / "prompts.py", "PromptBuilder.build")
    assert not has(ROOT / "rh_bench" / "sets" / "prompts.py", "PromptBuilder.built")
    page = tmp_path / "page.md"
    page.write_text("# A head: `line`\n\n[x](a.md#b) [`f`](m.py) [w](https://example.org)\n```\n[not](a.link)\n```\n")
    assert list(links(page)) == [("x", "a.md#b"), ("`f`", "m.py")]
    assert anchors(page) == {"a-head-line"}


def test_the_protocol_leads_to_what_decides_a_copy_event() -> None:
    said = dict(links(ROOT / "docs" / "protocol.md"))
    assert said["`copy_events`"] == "../rh_bench/scores/events.py"


def test_an_addition_touches_three_files_at_most() -> None:
    """Those that the table names: paths of files and folders, a folder standing for one new file in it."""
    rows = PAGE.read_text(encoding="utf-8").split("## How to add …")[1].splitlines()
    rows = [row.split(" | ") for row in rows if row.startswith("| ") and not row.startswith("| what |")]
    assert {"a detector", "an architecture", "an engine", "an experiment", "a page of the site"} <= {
        row[0].removeprefix("| ") for row in rows
    }
    for row in rows:
        assert 1 <= len(row[1].split("; ")) <= 3, row[0]
