"""What a model's card says of its base: read within bounds, and never in the way of measuring."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rh_bench.models.model_card import LONGEST_BASE, MOST_BASES, base_models
from rh_bench.system.schema import load_json, validate_document
from tests.fake_runs import make_run


def card(folder: Path, front: str, text: str = "# A model\n") -> Path:
    (folder / "README.md").write_text(f"---\n{front}\n---\n{text}")
    return folder


@pytest.mark.parametrize(
    ("front", "found"),
    [
        ("base_model: org/base", ["org/base"]),
        ("license: mit\nbase_model:\n- org/base\n- org/other\n- org/base", ["org/base", "org/other"]),
        ("base_model: [' org/base ', 7, '', null]", ["org/base"]),
        ("base_model: [/home/me/base, ../base, '~/base', 'C:\\\\base', org/base]", ["org/base"]),
        ("base_model: 7", None),
        ("base_model: []", None),
        ("base_model: {a: b}", None),
        ("license: mit", None),
        ("- base_model", None),
        ("base_model: &a org/base\nother: *a", None),
        ("base_model: [", None),
        ("base_model: " + "[" * 50 + "]" * 50, None),
        ('base_model: ["a\\u001b[2J", "org/base"]', ["org/base"]),
        (f"base_model: {'x' * (LONGEST_BASE + 1)}", None),
        (f"base_model: [{', '.join(f'm{i}' for i in range(20))}]", [f"m{i}" for i in range(MOST_BASES)]),
    ],
)
def test_cards(tmp_path: Path, front: str, found: list[str] | None) -> None:
    assert base_models(card(tmp_path, front)) == found


def test_cards_without_front_matter_say_nothing(tmp_path: Path) -> None:
    assert base_models(tmp_path) is None
    for text in ("", "# A model\n---\nbase_model: a\n---\n", "---\nbase_model: a\n", "\xff---"):
        (tmp_path / "README.md").write_text(text, encoding="latin-1")
        assert base_models(tmp_path) is None
    (tmp_path / "README.md").write_bytes(b"---\nbase_model: a\n---\n\xff\xfe")
    assert base_models(tmp_path) == ["a"]
    (tmp_path / "README.md").unlink()
    (tmp_path / "README.md").mkdir()
    assert base_models(tmp_path) is None


def test_a_card_that_the_hubs_cache_links_to_is_read(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    card(tmp_path / "blobs", "base_model: org/base")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "README.md").symlink_to(tmp_path / "blobs" / "README.md")
    assert base_models(tmp_path / "snapshot") == ["org/base"]


@given(st.text(max_size=200))
def test_any_front_matter_gets_an_answer(front: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "README.md").write_bytes(f"---\n{front}\n---\n".encode(errors="replace"))
        found = base_models(Path(name))
    assert found is None or all(name.isprintable() and 0 < len(name) <= LONGEST_BASE for name in found)


def test_runs_of_before_and_after_are_read(tmp_path: Path) -> None:
    document = load_json(make_run(tmp_path) / "run.json")
    assert document["schema_version"] == "1.0" and "base_model" not in document["model"]
    assert validate_document(document, "run") == []
    document["schema_version"] = "1.1"
    for named in (["org/base"], None):
        document["model"]["base_model"] = named
        assert validate_document(document, "run") == []
    for wrong in ("org/base", [], ["x" * 301], [1], ["a"] * 9):
        document["model"]["base_model"] = wrong
        assert validate_document(document, "run")
