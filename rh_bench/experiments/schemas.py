"""Schemas that depend on which kinds of experiments there are: the shipped ones, joined with those of the folders.

`schemas/experiment.v1.schema.json` is what all experiments have in common. `schema.json` of a folder applies, on top of
it, to documents whose `kind` is one of the folder's. It refers to definitions of both, as `#/$defs/NAME`; the names of
its own start with that of the folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache

from rh_bench.errors import InputError
from rh_bench.experiments.registry import kinds, registry, text_of
from rh_bench.records import Json
from rh_bench.system.schema import schema_text

FILE = "schema.json"
_ABOUT = ("$schema", "$id", "title", "description", "$defs")
"""What of a folder's schema is about the file, and not a condition."""


def experiment_schema() -> str:
    """The schema of experiment.json, of every kind that there is.

    Raises:
        InputError: a folder has no schema, or one that cannot be joined.
    """
    return _joined(tuple((folder.package, tuple(kind.name for kind in folder.kinds)) for folder in registry().folders))


def record_schema() -> str:
    """The schema of the record of an experiment's verification, with the names of all kinds."""
    return _named(tuple(sorted(kinds())))


@cache
def _joined(folders: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
    """Args: package of each folder, and names of its kinds."""
    whole: Json = json.loads(schema_text("experiment"))
    whole["properties"]["kind"] = _one_of(name for _, names in folders for name in names)
    whole["allOf"] = []
    for package, names in folders:
        part = _part(package)
        definitions = part.get("$defs", {})
        twice = sorted(whole["$defs"].keys() & definitions.keys())
        if twice:
            raise InputError(f"defines {twice[0]!r} a second time", where=f"{package}/{FILE}")
        whole["$defs"] |= definitions
        own = {"properties": {"kind": {"enum": list(names)}}, "required": ["kind"]}
        whole["allOf"].append({"if": own, "then": {key: part[key] for key in part if key not in _ABOUT}})
    return json.dumps(whole)


def _part(package: str) -> Json:
    try:
        part: Json = json.loads(text_of(package, FILE))
    except ValueError as error:
        raise InputError(f"is not JSON ({error})", where=f"{package}/{FILE}") from None
    return part


@cache
def _named(names: tuple[str, ...]) -> str:
    whole: Json = json.loads(schema_text("experiment_verification"))
    whole["properties"]["experiment"]["properties"]["kind"] = _one_of(names)
    return json.dumps(whole)


def _one_of(names: Iterable[str]) -> Json:
    return {"description": "Which experiment", "enum": sorted(names)}
