"""JSON documents: read without trust, checked against a schema with every error at once, written deterministically."""

from __future__ import annotations

import json
import math
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from rh_bench.errors import InputError
from rh_bench.records import Json

KINDS = {"run": (1, 0), "summary": (1, 0), "manifest": (1, 0)}
"""Document kinds and the newest schema version of each that this package reads."""
MAX_JSON_BYTES = 64 << 20
_MAX_DEPTH = 64
_MAX_INTEGER = 2**63


def load_json(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read JSON that may be hostile.

    Raises:
        InputError: not UTF-8, too large, too deep, a key twice, NaN, Infinity or a number out of range.
    """
    try:
        if path.is_symlink() or not path.is_file():
            raise InputError("there is no such file", where=path)
        if path.stat().st_size > max_bytes:
            raise InputError(f"larger than {max_bytes} bytes", where=path)
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", where=path) from None
    try:
        return parse_json(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not acceptable JSON ({error})", where=path) from None


def parse_json(text: str) -> Any:
    """Strict JSON.

    Raises:
        ValueError: see :func:`load_json`.
    """
    _check_depth(text)
    return json.loads(
        text,
        object_pairs_hook=_unique_keys,
        parse_constant=_no_constant,
        parse_int=_bounded_integer,
        parse_float=_finite_float,
    )


def dump_json(document: Any) -> bytes:
    """A document as bytes that depend on nothing but its content. NaN and Infinity raise ValueError."""
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def validate_document(document: object, kind: str) -> list[tuple[str, str]]:
    """Every error of a document as (JSON pointer, one-line message), in the document's order; none if it is valid."""
    if not isinstance(document, dict):
        return [("", "must be an object")]
    early = _check_version(document, kind)
    if early:
        return early
    errors = sorted(_validator(kind).iter_errors(document), key=lambda e: [str(p) for p in e.absolute_path])
    return [(_pointer(list(error.absolute_path)), " ".join(error.message.split())[:300]) for error in errors]


def schema_text(kind: str) -> str:
    """The schema of a document kind, as the package ships it."""
    return (_folder() / f"{kind}.v{KINDS[kind][0]}.schema.json").read_text(encoding="utf-8")


def _folder() -> Traversable:
    """The schemas: inside an installed package, or beside it in a checkout."""
    installed = files("rh_bench") / "_schemas"
    return installed if installed.is_dir() else Path(__file__).resolve().parent.parent / "schemas"


@cache
def _validator(kind: str) -> Any:
    schema: Json = json.loads(schema_text(kind))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def _check_version(document: Json, kind: str) -> list[tuple[str, str]]:
    if document.get("schema") != f"rh_bench/{kind}":
        return [("/schema", f"must be 'rh_bench/{kind}'")]
    version, newest = document.get("schema_version"), KINDS[kind]
    parts = version.split(".") if isinstance(version, str) else []
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) < 5 for part in parts):
        return [("/schema_version", "must be a version such as '1.0'")]
    if (int(parts[0]), int(parts[1])) > newest:
        reads = f"{newest[0]}.{newest[1]}"
        message = f"written by a newer rh_bench (schema version {version}); this one reads up to {reads}; upgrade it"
        return [("/schema_version", message)]
    return []


def _pointer(path: list[str | int]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _check_depth(text: str) -> None:
    """Nesting, counted outside strings, before the parser recurses into it."""
    depth, inside, escaped = 0, False, False
    for char in text:
        if inside:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                inside = False
        elif char == '"':
            inside = True
        elif char in "[{":
            depth += 1
            if depth > _MAX_DEPTH:
                raise ValueError(f"nested deeper than {_MAX_DEPTH}")
        elif char in "]}":
            depth -= 1


def _unique_keys(pairs: list[tuple[str, Any]]) -> Json:
    result: Json = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {key[:40]!r} stands twice")
        result[key] = value
    return result


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _bounded_integer(text: str) -> int:
    if len(text) > 20 or abs(int(text)) >= _MAX_INTEGER:
        raise ValueError("an integer beyond 64 bits")
    return int(text)


def _finite_float(text: str) -> float:
    value = float(text) if len(text) < 400 else math.inf
    if not math.isfinite(value):
        raise ValueError("a number out of range")
    return value
