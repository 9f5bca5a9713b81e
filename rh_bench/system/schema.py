"""JSON documents: read safely, checked against a schema with all errors at once, written deterministically."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import islice
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from rh_bench.errors import InputError
from rh_bench.records import Json
from rh_bench.system.files import shown
from rh_bench.system.schema_check import Accepts, compile_schema

KINDS = {
    "run": (1, 5),
    "summary": (1, 0),
    "manifest": (1, 0),
    "import": (1, 2),
    "verification": (1, 2),
    "experiment": (1, 2),
    "experiment_verification": (1, 0),
    "judgement": (1, 0),
    "attestation": (1, 0),
}
"""Document kinds and the newest schema version of each that this package reads."""
MAX_JSON_BYTES = 64 << 20
_MAX_DEPTH = 64
_MAX_PARTS = 2_000_000
"""Strings, lists and objects of a document: a few bytes of text each, and a hundred and more in memory."""
_MAX_INTEGER = 2**63
_MAX_ERRORS = 200
_MAX_MESSAGE = 240

_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
"""A string (whose brackets mean nothing) or a bracket; possessive, so that no text makes it backtrack."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def load_json(path: Path, *, max_bytes: int = MAX_JSON_BYTES, constant: Callable[[str], object] | None = None) -> Any:
    """Read JSON that may be hostile.

    Args:
        max_bytes: larger files are refused.
        constant: converts NaN and Infinity, which are refused by default.

    Raises:
        InputError: it cannot be read, is not UTF-8, larger than `max_bytes`, nested deeper than 64, of more than
            2,000,000 strings, lists and objects, has a key twice, NaN, Infinity, or a number or character out of range.
    """
    try:
        if not path.is_file():
            raise InputError("there is no such file", where=shown(path))
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", where=shown(path)) from None
    if len(data) > max_bytes:
        raise InputError(f"is larger than {max_bytes} bytes", where=shown(path))
    try:
        return parse_json(data.decode("utf-8"), constant)
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 text (byte {error.start})", where=shown(path)) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not acceptable JSON ({error})", where=shown(path)) from None


def parse_json(text: str, constant: Callable[[str], object] | None = None) -> Any:
    """Strict JSON; `constant` as in :func:`load_json`.

    Raises:
        ValueError: see :func:`load_json`.
    """
    _check_depth(text)
    document = json.loads(
        text,
        object_pairs_hook=_unique_keys,
        parse_constant=constant or _no_constant,
        parse_int=_bounded_integer,
        parse_float=_finite_float,
    )
    if _SURROGATE.search(text):
        _check_characters(document)
    return document


def dump_json(document: Any) -> bytes:
    """A document as UTF-8 that depends only on its content, with keys in their own order.

    Raises:
        ValueError: it contains NaN, Infinity or half a surrogate pair, which JSON cannot represent.
    """
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def validate_document(document: object, kind: str, *, schema: str | None = None) -> list[tuple[str, str]]:
    """Everything that is wrong with a document (up to 200 errors); empty if it is valid.

    Args:
        document: as :func:`load_json` gives it.
        kind: one of KINDS.
        schema: the text of its whole schema, where the one that the package ships is but a part of it.

    Returns:
        (JSON pointer, one-line message), sorted by place. A document of another kind or a newer version gets
        just that error, since no other would help.
    """
    if not isinstance(document, dict):
        return [("", "must be an object")]
    early = _check_version(document, kind)
    if early:
        return early
    if _accepts(kind, schema)(document):
        return []
    errors = islice(_validator(kind, schema).iter_errors(document), _MAX_ERRORS)
    found = [(list(error.absolute_path), _one_line(error.message)) for error in errors]
    return [(_pointer(path), message) for path, message in sorted(found, key=lambda e: ([str(p) for p in e[0]], e[1]))]


def schema_text(kind: str) -> str:
    """The schema of a document kind, as shipped with the package."""
    return (_folder() / f"{kind}.v{KINDS[kind][0]}.schema.json").read_text(encoding="utf-8")


def _folder() -> Traversable:
    return files("rh_bench") / "schemas"


@cache
def _validator(kind: str, schema: str | None = None) -> Draft202012Validator:
    found: Json = json.loads(schema or schema_text(kind))
    Draft202012Validator.check_schema(found)
    return _StrictValidator(found)  # type: ignore[no-any-return]


@cache
def _accepts(kind: str, schema: str | None = None) -> Accepts:
    """Accepts most valid documents, and no invalid one."""
    unique = _StrictValidator({"uniqueItems": True})
    return compile_schema(json.loads(schema or schema_text(kind)), unique.is_valid)


Check = Callable[[Any, Any, Any, Json], Iterator[ValidationError]]


def _whole_pattern(validator: Any, pattern: str, instance: object, schema: Json) -> Iterator[ValidationError]:
    """`pattern` as the specification has it: to Python, ``$`` also matches before a last newline."""
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _unless_too_long(check: Check) -> Check:
    """`check`, skipped for an array with more than maxItems items: one error is enough for what may be millions."""

    def bounded(validator: Any, value: Any, instance: Any, schema: Json) -> Iterator[ValidationError]:
        if not isinstance(instance, list) or len(instance) <= schema.get("maxItems", math.inf):
            yield from check(validator, value, instance, schema) or ()

    return bounded


def _is_integer(_checker: object, instance: object) -> bool:
    """Stricter than the specification, which accepts 1.0 as an integer: code that indexes with it does not."""
    return isinstance(instance, int) and not isinstance(instance, bool)


_StrictValidator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {
        "pattern": _whole_pattern,
        "items": _unless_too_long(Draft202012Validator.VALIDATORS["items"]),
        "uniqueItems": _unless_too_long(Draft202012Validator.VALIDATORS["uniqueItems"]),
    },
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)


def _check_version(document: Json, kind: str) -> list[tuple[str, str]]:
    if document.get("schema") != f"rh_bench/{kind}":
        return [("/schema", f"must be 'rh_bench/{kind}'")]
    version, newest = document.get("schema_version"), KINDS[kind]
    parts = version.split(".") if isinstance(version, str) else []
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) < 5 for part in parts):
        return [("/schema_version", "must be a version such as '1.0'")]
    if (int(parts[0]), int(parts[1])) > newest:
        reads = f"{newest[0]}.{newest[1]}"
        message = (
            f"written by a newer rh_bench (schema version {version}); this one reads up to {reads}; upgrade rh_bench"
        )
        return [("/schema_version", message)]
    return []


def _pointer(path: list[str | int]) -> str:
    return "".join("/" + shown(part).replace("~", "~0").replace("/", "~1") for part in path)


def _one_line(message: str) -> str:
    """The message, without its middle if it is long: the value comes first, and what is wrong with it last."""
    text = shown(" ".join(message.split()))
    half = _MAX_MESSAGE // 2
    return text if len(text) <= _MAX_MESSAGE else f"{text[:half]} … {text[-half:]}"


def _check_depth(text: str) -> None:
    """Check nesting before the parser recurses into it, and how many objects it will make."""
    depth = 0
    for number, token in enumerate(_STRUCTURE.finditer(text)):
        if number > _MAX_PARTS:
            raise ValueError(f"more than {_MAX_PARTS} strings, lists and objects")
        char = text[token.start()]
        if char in "[{":
            depth += 1
            if depth > _MAX_DEPTH:
                raise ValueError(f"nested deeper than {_MAX_DEPTH}")
        elif char in "]}":
            depth -= 1


def _check_characters(document: Any) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half a surrogate pair is not a character") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> Json:
    result: Json = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"duplicate key {key[:40]!r}")
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
