"""`rh-bench build`: needle-in-a-haystack sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from rh_bench.cli.options import FOLDER, Verb, json_option, out, print_json
from rh_bench.errors import InputError


@click.command(
    cls=Verb,
    examples="""rh-bench build --source synthetic --grid quick --out sets/quick
                rh-bench build --source synthetic:7 --grid paper --out sets/paper
                rh-bench build --source folder:essays --lengths 512,1024 --depths 0,50,100 --out sets/essays
                rh-bench build --source hub:org/books@main#default/train:text --out sets/books
                rh-bench build --needles needles.jsonl --tokenizer org/model --out sets/mine""",
)
@click.option(
    "--source",
    default="synthetic",
    show_default=True,
    help="synthetic[:SEED], folder:PATH or hub:REPO@REVISION[#CONFIG[/SPLIT][:COLUMN]].",
)
@click.option("--grid", "grid_name", default="quick", show_default=True, help="quick or paper.")
@click.option("--lengths", help="Context lengths in tokens, instead of the grid's: 512,1024.")
@click.option("--depths", help="Depths in percent, instead of the grid's: 0,50,100.")
@click.option(
    "--needles",
    "needles_file",
    type=FOLDER,
    help="File with your own needles (JSON), or with the paper's (JSON lines).",
)
@click.option("--needle-count", type=int, help="Use only the first N needles.")
@click.option("--haystack-count", type=int, help="Number of haystacks to make.")
@click.option(
    "--tokenizer",
    "tokenizers",
    multiple=True,
    help="Add ready-made prompts for this model. Can be given several times.",
)
@click.option("--template", default="auto", show_default=True, help="For --tokenizer: auto, plain or chat.")
@click.option("--name", help="Name of the set.")
@click.option("--licence", help="Licence of the text, as an SPDX identifier.")
@click.option(
    "--out",
    "out_folder",
    type=FOLDER,
    required=True,
    help="Folder to write the set to. It appears complete or not at all.",
)
@json_option
def build(
    source: str,
    grid_name: str,
    lengths: str | None,
    depths: str | None,
    needles_file: Path | None,
    needle_count: int | None,
    haystack_count: int | None,
    tokenizers: tuple[str, ...],
    template: str,
    name: str | None,
    licence: str | None,
    out_folder: Path,
    as_json: bool,
) -> None:
    """Build a needle-in-a-haystack set: a folder in the layout of a Hub dataset.

    The same options give the same bytes on every machine with the same versions.
    """
    from rh_bench.data_builders.build import Recipe, build_set
    from rh_bench.data_builders.needles import read_needles
    from rh_bench.data_builders.sources import parse_source
    from rh_bench.sets.grids import choose_grid

    for option, count in (("--needle-count", needle_count), ("--haystack-count", haystack_count)):
        if count is not None and count < 1:
            raise InputError("must be at least 1", where=option)
    recipe = Recipe(
        source=parse_source(source),
        grid=choose_grid(grid_name, lengths, depths),
        needles=read_needles(needles_file) if needles_file else None,
        needle_count=needle_count,
        haystack_count=haystack_count,
        name=name,
        licence=licence,
        tokenizers=tokenizers,
        template=template,
    )
    built = build_set(recipe, out_folder)
    if as_json:
        print_json({"folder": str(out_folder), "manifest_sha256": built.manifest_sha256, **built.manifest})
        return
    out(soft_wrap=True).print(_set_table(built, out_folder))


def _set_table(built: Any, folder: Path) -> Table:
    """A few lines about a set."""
    grid, source = built.manifest["grid"], built.manifest["source"]
    shape = f"{len(built.needles)} needles × {len(grid['lengths'])} lengths × {len(grid['depths'])} depths"
    characters = sum(len(haystack.text) for haystack in built.haystacks)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_row("set", escape(built.manifest["name"]))
    table.add_row("samples", f"{len(built.samples)} = {shape}")
    table.add_row("haystacks", f"{len(built.haystacks)}, {characters:,} characters")
    table.add_row("source", escape(f"{source['kind']}: {source['id']}, {source['licence']}"))
    table.add_row("manifest", built.manifest_sha256)
    table.add_row("folder", escape(str(folder)))
    return table


BUILD_COMMANDS: Sequence[click.Command] = (build,)
