"""Builds a haystack set: the same inputs give the same bytes, and the folder appears whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

import rh_bench
from rh_bench.artifacts.tables import table_bytes
from rh_bench.data_builders.dataset_card import ConfigFile, dataset_card
from rh_bench.data_builders.needles import RawNeedle, builtin_needles
from rh_bench.data_builders.sources import Source, read_source
from rh_bench.errors import InputError
from rh_bench.records import Haystack, Json, Needle, Sample
from rh_bench.sets.dataset import (
    HAYSTACKS,
    HAYSTACKS_FILE,
    MANIFEST,
    NEEDLES,
    NEEDLES_FILE,
    PROMPTS,
    SAMPLES,
    SAMPLES_FILE,
    HaystackSet,
    read_set,
    rows_to_table,
    text_sha256,
)
from rh_bench.sets.grids import Grid, make_samples
from rh_bench.sets.leaks import refuse_given_away
from rh_bench.system.files import sha256_file, shown, sync_folder
from rh_bench.system.schema import dump_json
from rh_bench.system.workshop import PATIENCE, workshop

BUILDER_VERSION = 1
"""Changes whenever the same inputs would give another set."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Recipe:
    """All that a set is made from."""

    source: Source
    grid: Grid
    needles: tuple[RawNeedle, ...] | None = None
    """None takes the built-in ones, as many as the grid asks for."""
    needle_count: int | None = None
    """At most this many of the needles; None is what the grid says for the built-in ones, and all of one's own."""
    haystack_count: int | None = None
    name: str | None = None
    licence: str | None = None
    tokenizers: tuple[str, ...] = field(default=())
    """Models whose tokenizers get a `prompts-<slug>` config."""
    template: str = "auto"


def build_set(recipe: Recipe, out: Path) -> HaystackSet:
    """Build a set in the folder `out`.

    A folder that already holds the very same set is left as it is; any other folder that is not empty is refused.

    Raises:
        InputError: the source, the needles or the output folder is not usable.
    """
    _refuse_file(out)
    tables, manifest = _content(recipe)
    parent = out.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with workshop(parent / out.name, patience=PATIENCE) as made:
            fresh = made.fresh()
            _write(fresh, tables, manifest)
            _move(fresh, out)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", where=out) from None
    return read_set(out)


def _content(recipe: Recipe) -> tuple[dict[str, pa.Table], Json]:
    """The tables by path, and the manifest without its files."""
    source, grid = recipe.source, recipe.grid
    found = read_source(source, recipe.haystack_count or grid.haystacks, grid.longest)
    licence = recipe.licence or ("CC0-1.0" if source.kind == "synthetic" else "unknown")
    haystacks = tuple(
        Haystack(f"{source.kind}-{place + 1}", text, source.id, licence) for place, text in enumerate(found.texts)
    )
    needles = _place_needles(_chosen_needles(recipe), haystacks)
    samples = make_samples(needles, grid.lengths, grid.depths)
    tables = {
        NEEDLES_FILE: rows_to_table([_needle_row(needle) for needle in needles], NEEDLES),
        HAYSTACKS_FILE: rows_to_table([_haystack_row(haystack) for haystack in haystacks], HAYSTACKS),
        SAMPLES_FILE: rows_to_table([_sample_row(sample) for sample in samples], SAMPLES),
    }
    for tokenizer in recipe.tokenizers:
        slug, rows = _prompt_rows(tokenizer, recipe.template, haystacks, needles, samples)
        tables[f"prompts-{slug}/prompts.parquet"] = rows_to_table(rows, PROMPTS)
    manifest: Json = {
        "schema": "rh_bench/manifest",
        "schema_version": "1.0",
        "name": _name(recipe),
        "builder": {
            "rh_bench": rh_bench.__version__,
            "builder_version": BUILDER_VERSION,
            "pyarrow": pa.__version__,
        },
        "seed": source.seed,
        "source": {
            "kind": source.kind,
            "id": source.id,
            "revision": found.revision,
            "licence": licence,
            "sha256": text_sha256(*found.texts),
        },
        "grid": {"name": grid.name, "lengths": list(grid.lengths), "depths": list(grid.depths)},
        "counts": {"needles": len(needles), "haystacks": len(haystacks), "samples": len(samples)},
    }
    return tables, manifest


def _chosen_needles(recipe: Recipe) -> tuple[RawNeedle, ...]:
    if recipe.needles is None:
        needles, count = builtin_needles(), recipe.needle_count or recipe.grid.needles
    else:
        needles, count = recipe.needles, recipe.needle_count or len(recipe.needles)
    if count > len(needles):
        raise InputError(f"there are only {len(needles)}", where="--needle-count", hint="give fewer, or more needles")
    return needles[:count]


def _place_needles(raw: Sequence[RawNeedle], haystacks: Sequence[Haystack]) -> tuple[Needle, ...]:
    """Needles go to the haystacks in turn."""
    needles = tuple(
        Needle(
            needle_id=needle.needle_id,
            domain=needle.domain,
            needle=needle.needle,
            question=needle.question,
            answer_start=needle.answer_start,
            answer_end=needle.answer_end,
            haystack_id=haystacks[place % len(haystacks)].haystack_id,
        )
        for place, needle in enumerate(raw)
    )
    refuse_given_away({h.haystack_id: h.text for h in haystacks}, {needle.needle_id: needle for needle in needles})
    return needles


def _name(recipe: Recipe) -> str:
    name = recipe.name or f"{recipe.source.id.partition('#')[0].replace('/', '__')}-{recipe.grid.name}"
    if not _NAME.fullmatch(name):
        raise InputError(f"{shown(name)!r} is not a valid set name", where="--name", hint="use letters, digits, . _ -")
    return name


def _needle_row(needle: Needle) -> dict[str, Any]:
    return {name: getattr(needle, name) for name in NEEDLES.names}


def _haystack_row(haystack: Haystack) -> dict[str, Any]:
    return {
        "haystack_id": haystack.haystack_id,
        "text": haystack.text,
        "source": haystack.source,
        "licence": haystack.licence,
        "characters": len(haystack.text),
        "sha256": text_sha256(haystack.text),
    }


def _sample_row(sample: Sample) -> dict[str, Any]:
    return {name: getattr(sample, name) for name in SAMPLES.names}


def _prompt_rows(
    tokenizer_name: str,
    template: str,
    haystacks: Sequence[Haystack],
    needles: Sequence[Needle],
    samples: Sequence[Sample],
) -> tuple[str, list[dict[str, Any]]]:
    """The slug of a tokenizer, and every sample as a prompt for it."""
    from rh_bench.models.load import load_tokenizer
    from rh_bench.sets.prompts import PromptBuilder

    tokenizer, slug = load_tokenizer(tokenizer_name)
    by_id = {needle.needle_id: needle for needle in needles}
    builder = PromptBuilder(tokenizer, {h.haystack_id: h.text for h in haystacks}, by_id, template)
    rows = []
    for sample in samples:
        prompt = builder.build(sample)
        rows.append(
            {
                **_sample_row(sample),
                "template": builder.template_name,
                "question": by_id[sample.needle_id].question,
                "answer": prompt.answer,
                "input_ids": prompt.ids,
                "span_start": prompt.span_start,
                "span_length": prompt.span_length,
                "prompt_sha256": prompt.sha256,
                "text": tokenizer.decode(prompt.ids.tolist()),
            }
        )
    return slug, rows


def _write(folder: Path, tables: dict[str, pa.Table], manifest: Json) -> None:
    """All files of a set into an empty folder that nobody else sees yet; the manifest last."""
    configs = {}
    for path, table in tables.items():
        data = table_bytes(table)
        _write_file(folder / path, data)
        configs[path.partition("/")[0]] = ConfigFile(path, table, len(data))
    _write_file(folder / "README.md", dataset_card(manifest, configs).encode())
    files = {
        path: {"sha256": sha256_file(folder / path), "bytes": (folder / path).stat().st_size}
        for path in sorted([*tables, "README.md"])
    }
    _write_file(folder / MANIFEST, dump_json({**manifest, "files": files}))


def _write_file(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _move(fresh: Path, out: Path) -> None:
    """Give the finished folder its name."""
    if out.is_dir() and any(out.iterdir()):
        if _same(fresh, out):
            return
        raise InputError(
            "is not empty and contains something other than this set",
            where=out,
            hint="choose another folder, or remove this one",
        )
    fresh.chmod(0o755)
    fresh.replace(out)  # an empty folder is replaced, too
    sync_folder(out.absolute().parent)


def _same(first: Path, second: Path) -> bool:
    """Whether both hold the same files: their manifests are equal, and the files are those of the manifest."""
    try:
        return sha256_file(first / MANIFEST) == sha256_file(second / MANIFEST) and read_set(second) is not None
    except InputError:
        return False


def _refuse_file(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError("is a file", where=out, hint="give a folder for --out")
