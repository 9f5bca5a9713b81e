"""Draws the rooms of the source as docs/images/architecture.svg, and lists them in docs/architecture.md:
`python docs/make_architecture.py`. Both are made from the code's own imports, and a test holds them up to date.

A room stands on the floor above all that it imports. Drawn are the arrows that no longer way round implies: cli imports
records, too, but by every way. The colours are plain enough for a light page and a dark one.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from layered import Layout, lay_out
from source_tree import PACKAGE, ROOT, Arrow, Import, arrows, floors, modules, needed, parsed, room_of, tree

PICTURE = ROOT / "docs" / "images" / "architecture.svg"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- made by docs/make_architecture.py -->\n", "<!-- until here -->\n"

BOX, HEIGHT, RISE = 240, 98, 150
"""Pixels: width and height of a box, and from floor to floor."""
MARGIN, TOP, BOTTOM = 62, 26, 66
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
LINE = "#8b95a5"
INK, SOFT = "#10202f", "#3c4a59"
FILLS = {"most": ("#ffd9a8", "#d9822b"), "some": ("#fff1d6", "#d9a35b"), "none": ("#d9ecf7", "#4a90b8")}
"""Fill and edge of a room, by how much of it needs torch."""
WORDS = {
    "most": "cannot be imported without torch",
    "some": "a part needs torch",
    "none": "works without torch",
}


@dataclass(frozen=True)
class House:
    """What is drawn and listed."""

    purposes: Mapping[str, str]
    """Of each room: the first sentence of its docstring."""
    arrows: frozenset[Arrow]
    torch: Mapping[str, str]
    """How much of each room needs torch: a key of FILLS."""

    @property
    def floors(self) -> dict[str, int]:
        return floors(set(self.arrows))

    @property
    def drawn(self) -> list[Arrow]:
        return sorted(needed(set(self.arrows)))


def read_house(root: Path = ROOT) -> House:
    imported = tree(root)
    purposes: dict[str, str] = {}
    for name, path in sorted(modules(root).items(), key=lambda one: one[0].endswith("__main__")):
        text = ast.get_docstring(parsed(path.read_text(encoding="utf-8"))) or ""
        purposes.setdefault(room_of(name), text.partition("\n")[0])  # a package comes before its modules
    found = frozenset(arrows(imported))
    rooms = {end for arrow in found for end in arrow}
    return House({room: purposes[room] for room in sorted(rooms)}, found, _torch(imported, rooms))


def _torch(imported: Mapping[str, set[Import]], rooms: set[str]) -> dict[str, str]:
    """By whether a module, or one that is imported with it, imports torch as soon as it is imported."""
    once = {name: {one.name for one in names if one.at_once and not one.for_types} for name, names in imported.items()}
    needs = {name for name, names in once.items() if names & {"torch", "transformers"}}
    while more := {name for name, names in once.items() if names & needs} - needs:
        needs |= more
    found = {}
    for room in rooms:
        inside = [name for name in imported if room_of(name) == room]
        share = sum(name in needs for name in inside) / len(inside)
        found[room] = "most" if share > 0.5 else "some" if share else "none"
    return found


def draw(house: House) -> str:
    """The picture, as SVG."""
    level = house.floors
    layout = lay_out(level, house.drawn, box=BOX, lane=26, gap=24)
    highest = max(level.values())
    width, height = round(layout.width + 2 * MARGIN), TOP + (highest - 1) * RISE + HEIGHT + BOTTOM
    parts = [_floor(floor, highest, width) for floor in range(1, highest + 1)]
    parts += [_arrow(layout, way, level, highest) for way in layout.ways.values()]
    parts += [_box(room, house, layout.x[room], _y(level[room], highest)) for room in sorted(level)]
    parts += [_legend(width, height)]
    count = f"{len(level)} rooms on {highest} floors, {len(house.arrows)} arrows, of which {len(house.drawn)} are drawn"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="{FONT}">\n'
        f"<title>The rooms of rh_bench: {count}</title>\n"
        '<defs><marker id="head" viewBox="0 0 10 10" refX="8.5" refY="5" markerWidth="7" markerHeight="7" '
        'orient="auto">'
        f'<path d="M0 0 10 5 0 10 2.6 5z" fill="{LINE}"/></marker></defs>\n'
    ) + "\n".join([*parts, "</svg>\n"])


def _y(floor: int, highest: int) -> int:
    """The upper edge of the boxes on a floor."""
    return TOP + (highest - floor) * RISE


def _floor(floor: int, highest: int, width: int) -> str:
    base = _y(floor, highest) + HEIGHT + 9
    return (
        f'<path d="M14 {base}H{width - 14}" stroke="{LINE}" stroke-opacity=".28" stroke-dasharray="2 5"/>'
        f'<text x="18" y="{base - 7}" font-size="13" fill="{LINE}">{floor}</text>'
    )


def _arrow(layout: Layout, way: tuple[str, ...], level: Mapping[str, int], highest: int) -> str:
    """From the lower edge of a box down to the upper edge of another, straight where it passes a floor."""
    start, *between, end = way
    floor = level[start]
    x, y = MARGIN + _foot(layout, way, start), _y(floor, highest) + HEIGHT
    path = f"M{x:.1f} {y}"
    for down, item in enumerate([*between, end], start=1):
        to_x = MARGIN + (_foot(layout, way, end) if item == end else layout.x[item])
        to_y = _y(floor - down, highest) - (2 if item == end else 0)
        middle = (to_y - y) / 2
        path += f"C{x:.1f} {y + middle:g} {to_x:.1f} {to_y - middle:g} {to_x:.1f} {to_y}"
        x, y = to_x, to_y
        if item != end:
            y += HEIGHT
            path += f"V{y}"
    return f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1.7" marker-end="url(#head)"/>'


def _foot(layout: Layout, way: tuple[str, ...], room: str) -> float:
    """Where on a room's edge an arrow stands: the arrows of an edge side by side, in the order of where they lead."""
    leaving = room == way[0]
    others = [one for one in layout.ways.values() if one[0 if leaving else -1] == room]
    others.sort(key=lambda one: (layout.x[one[1 if leaving else -2]], one))
    apart = min(30.0, (BOX - 50) / len(others))
    return layout.x[room] + (others.index(way) - (len(others) - 1) / 2) * apart


def _box(room: str, house: House, x: float, y: int) -> str:
    fill, edge = FILLS[house.torch[room]]
    left = MARGIN + x - BOX / 2
    sentence = re.split(r"(?<=\.) ", house.purposes[room].replace("`", ""))[0]
    lines = textwrap.wrap(sentence, 36, max_lines=4, placeholder=" …")
    words = "".join(
        f'<text x="{left + 12:.1f}" y="{y + 41 + 15 * line}" font-size="11.5" fill="{SOFT}">{escape(text)}</text>'
        for line, text in enumerate(lines)
    )
    return (
        f'<rect x="{left:.1f}" y="{y}" width="{BOX}" height="{HEIGHT}" rx="9" fill="{fill}" stroke="{edge}" '
        f'stroke-width="1.4"/><text x="{left + 12:.1f}" y="{y + 22}" font-size="15" font-weight="650" fill="{INK}">'
        f"{escape(room)}</text>{words}"
    )


def _legend(width: int, height: int) -> str:
    y, x, parts = height - 30, MARGIN, []
    for kind, words in WORDS.items():
        fill, edge = FILLS[kind]
        parts.append(
            f'<rect x="{x}" y="{y}" width="22" height="14" rx="4" fill="{fill}" stroke="{edge}"/>'
            f'<text x="{x + 30}" y="{y + 11.5}" font-size="13" fill="{LINE}">{words}</text>'
        )
        x += 60 + 7 * len(words)
    return "".join(parts)


def listed(house: House) -> str:
    """The part of the page that is made: the numbers, and every room with what it is for and what it imports."""
    level = house.floors
    rows = [
        f"| {level[room]} | {_linked(room)} | {_cell(house.purposes[room])} | {_imports(room, house)} |"
        for room in sorted(level, key=lambda one: (-level[one], one))
    ]
    return "\n".join(
        [
            f"{len(level)} rooms on {max(level.values())} floors, {len(house.arrows)} arrows, no circle.",
            "",
            "| floor | room | what it is for | imports |",
            "|--:|---|---|---|",
            *rows,
            "",
        ]
    )


def _linked(room: str) -> str:
    inside = next(
        name
        for name in (room, f"{PACKAGE}/{room}", f"{PACKAGE}/{room}.py", f"{PACKAGE}/__init__.py")
        if (ROOT / name).exists() and not (ROOT / name).is_symlink()
    )
    return f"[{room}](../{_in_checkout(inside)})"


def _in_checkout(name: str) -> str:
    """The path in a checkout, where folders that a source archive has in the package lie at the top."""
    inner = name.removeprefix(f"{PACKAGE}/")
    return inner if inner in ("data_builders", "leaderboard") else name


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _imports(room: str, house: House) -> str:
    return ", ".join(sorted(end for start, end in house.arrows if start == room)) or "nothing"


def page_with(page: str, made: str) -> str:
    """The page, with what is made in its place."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}{made}{END}{rest.split(END)[1]}"


def main() -> None:
    house = read_house()
    PICTURE.write_text(draw(house), encoding="utf-8")
    PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), listed(house)), encoding="utf-8")


if __name__ == "__main__":
    main()
