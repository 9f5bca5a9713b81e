"""Documents: strict JSON, schemas that say what every field is, errors with their place."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rh_bench.errors import InputError
from rh_bench.system.schema import KINDS, dump_json, load_json, parse_json, schema_text, validate_document
from tests.fake_runs import make_run

Json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=5), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(Json)
def test_what_is_written_is_read_back(document: Any) -> None:
    assert parse_json(dump_json(document).decode()) == document


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[1,]", "NaN", "[Infinity]", "-Infinity", '{"a": 1, "a": 2}', "1" * 30, "1e999", '"\\ud800"',
        "[" * 65 + "]" * 65, "[" * 100_000, '{"a":' * 100_000, "99999999999999999999",
    ],
)  # fmt: skip
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises((ValueError, RecursionError)):
        parse_json(text)


@given(st.text())
def test_any_text_is_json_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_json(text)


def test_files_that_are_no_json_are_told_in_one_line(tmp_path: Path) -> None:
    for data, why in ((b"\xff", "UTF-8"), (b"{", "acceptable"), (b" " * 2000, "larger")):
        (tmp_path / "x.json").write_bytes(data)
        with pytest.raises(InputError, match=why) as caught:
            load_json(tmp_path / "x.json", max_bytes=1000)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such file"):
        load_json(tmp_path / "none.json")


def objects(schema: Any, place: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every subschema that describes a value, with its place."""
    found = []
    for name, inner in schema.get("properties", {}).items():
        found += [(f"{place}/{name}", inner), *objects(inner, f"{place}/{name}")]
    if "items" in schema and isinstance(schema["items"], dict):
        found += objects(schema["items"], f"{place}/*")
    for inner in schema.get("$defs", {}).values():
        found += objects(inner, f"{place}#")
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described(kind: str) -> None:
    schema = json.loads(schema_text(kind))
    assert schema["title"] and schema["description"]
    assert schema["additionalProperties"] is False
    for place, field in objects(schema):
        described = "description" in field or "title" in field or "$ref" in field
        assert described or any("description" in one for one in field.get("anyOf", [])), f"{kind}{place}"


@pytest.mark.parametrize("kind", KINDS)
def test_examples_are_valid(kind: str) -> None:
    from jsonschema import Draft202012Validator

    schema = json.loads(schema_text(kind))
    count = 0
    for place, field in objects(schema):
        for example in field.get("examples", []):
            Draft202012Validator({**field, "$defs": schema.get("$defs", {})}).validate(example)
            count += 1
        assert "examples" not in field or field["examples"], place
    assert count >= 5


def test_a_real_document_is_valid_and_all_its_errors_are_listed(tmp_path: Path) -> None:
    document = load_json(make_run(tmp_path) / "run.json")
    assert validate_document(document, "run") == []
    document["model"]["revision"] = "main"
    document["counts"]["samples"] = -1
    document["extra\n"] = 1
    found = validate_document(document, "run")
    assert [pointer for pointer, _ in found] == ["", "/counts/samples", "/model/revision"]
    assert all(message.isprintable() for _, message in found)


@pytest.mark.parametrize("step", [(0, 1), (1, 0), (9, 0)])
def test_newer_versions_are_refused_by_name(step: tuple[int, int]) -> None:
    for kind, (major, minor) in KINDS.items():
        version = f"{major + step[0]}.{minor + step[1]}"
        ((pointer, message),) = validate_document({"schema": f"rh_bench/{kind}", "schema_version": version}, kind)
        assert pointer == "/schema_version"
        assert version in message


@given(Json)
def test_any_document_gets_a_list(document: Any) -> None:
    for kind in KINDS:
        assert validate_document(document, kind)
