"""The quick answer to whether a document fits its schema, against the validator that finds every error."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import make_subjects, mutate_json

from rh_bench.experiments.schemas import experiment_schema, record_schema
from rh_bench.system.schema import KINDS, _accepts, _StrictValidator, _validator, parse_json
from rh_bench.system.schema_check import Unsupported, compile_schema

VALUES: Any = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 1.0, 1.5, -3, 7, "", "a", "ab", "abc\n", "b" * 9]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=8,
)
SCHEMAS: list[dict[str, Any]] = [
    {"type": ["integer", "null"], "minimum": 1},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1.5},
    {"enum": [1, "a", None]},
    {"const": True},
    {"pattern": "^a", "minLength": 2, "maxLength": 3},
    {"pattern": "c$"},
    {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2, "uniqueItems": True},
    {"prefixItems": [{"type": "string"}], "items": {"type": "boolean"}},
    {"properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False},
    {"properties": {"a": False}, "additionalProperties": {"type": "string"}, "minProperties": 1, "maxProperties": 2},
    {"propertyNames": {"enum": ["a", "b"]}},
    {"if": {"type": "string"}, "then": {"minLength": 1}, "else": {"not": {"const": 0}}},
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#"}}]},
    {"allOf": [{"minimum": 0}, {"maximum": 1}]},
    {"$defs": {"t": {"anyOf": [{"type": "null"}, {"items": {"$ref": "#/$defs/t"}}]}}, "$ref": "#/$defs/t"},
]


def fits(schema: dict[str, Any], document: Any) -> bool:
    return bool(_StrictValidator(schema).is_valid(document))


def unique(document: Any) -> bool:
    return fits({"uniqueItems": True}, document)


@given(VALUES)
def test_every_keyword_means_what_it_means_to_the_validator(document: Any) -> None:
    for schema in SCHEMAS:
        try:
            accepts = compile_schema(schema, unique)
        except Unsupported:
            assert schema == SCHEMAS[12]  # it refers to itself as a whole
            continue
        assert accepts(document) == fits(schema, document), (schema, document)


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        ({"type": "integer"}, [1, 1.0, True, 2**70, -(2**70), 10**400, 1e300, math.nan, math.inf]),
        ({"type": "number", "maximum": 5}, [5, 5.0, 5.000000000000001, 2**70, math.nan, -math.inf, False]),
        ({"maximum": 2**53}, [2**53, 2**53 + 1, float(2**53)]),
        ({"const": 1}, [1, 1.0, True, "1"]),
        ({"const": 2**53 + 1}, [float(2**53), 2**53, 2**53 + 1]),
        ({"enum": [0, None, ""]}, [False, 0.0, -0.0, None, "", [], {}]),
        ({"pattern": "a$"}, ["a", "a\n", "a\r", "a\u2028"]),
        ({"pattern": r"^\d.\w\s$"}, ["1ab ", "٣\ré\u00a0", "1\u2028_\ufeff", "1\na\x85"]),
        ({"minLength": 2, "maxLength": 2}, ["\N{GRINNING FACE}", "\ud83d", "e\u0301", "\0\0"]),
        (
            {"uniqueItems": True},
            [[1, 1.0], [1, True], [0, False], [{"a": 1}, {"a": 1.0}], [2**70, 2**70 + 1], [[], [[]]]],
        ),
        ({"type": "object"}, [{}, {"": 1}, (1, 2), None]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_where_readings_of_the_specification_differ(schema: dict[str, Any], values: list[Any]) -> None:
    """Numbers that are whole, large or none; equality of kinds; what ends a text; dialects of patterns; surrogates."""
    accepts = compile_schema(schema, unique)
    assert [accepts(value) for value in values] == [fits(schema, value) for value in values]


@pytest.mark.parametrize("schema", [{"patternProperties": {}}, {"items": {"format": "uri"}}, {"enum": [[1]]}])
def test_what_is_not_known_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(Unsupported):
        compile_schema(schema, unique)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes]]:
    """Every JSON document that the project writes, by its kind."""
    subjects = make_subjects(tmp_path_factory.mktemp("subjects")).values()
    files = {subject.folder / name for subject in subjects for name in subject.files if name.endswith(".json")}
    found = [(path.read_bytes(), path) for path in sorted(files)]
    parsed = [(json.loads(data), data) for data, _ in found]
    own = [(document, data) for document, data in parsed if isinstance(document, dict)]
    kinds = [(document.get("schema", "").removeprefix("rh_bench/"), data) for document, data in own]
    return [(kind, data) for kind, data in kinds if kind in KINDS]


def whole_schema(kind: str) -> str | None:
    """Of the documents whose schema is joined with those of the kinds of experiments."""
    joined = {"experiment": experiment_schema, "experiment_verification": record_schema}
    return joined[kind]() if kind in joined else None


@pytest.mark.slow
def test_documents_that_are_written_are_accepted_at_once(documents: list[tuple[str, bytes]]) -> None:
    assert {kind for kind, _ in documents} == set(KINDS)
    for kind, data in documents:
        assert _accepts(kind, whole_schema(kind))(json.loads(data)), kind


@pytest.mark.parametrize("count", [40, pytest.param(900, marks=pytest.mark.slow)])
def test_damaged_documents_get_the_answer_of_the_validator(documents: list[tuple[str, bytes]], count: int) -> None:
    chance = random.Random(5)
    said = {True: 0, False: 0}
    for number in range(count):
        kind, data = documents[number % len(documents)]
        try:
            document = parse_json(mutate_json(chance, data).decode("utf-8"))
        except (ValueError, RecursionError):
            continue
        schema = whole_schema(kind)
        quick = _accepts(kind, schema)(document)
        assert quick == bool(_validator(kind, schema).is_valid(document)), (kind, document)
        said[quick] += 1
    assert min(said.values()) > count // 45, said
