"""Results repositories on disk: where runs lie, and whose bytes a verification is of."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fake_runs import make_run

from rh_bench.artifacts.fingerprint import fingerprint
from rh_bench.artifacts.results_repo import find_layout, run_folders, verification_path
from rh_bench.artifacts.run import read_run
from rh_bench.artifacts.verification_record import read_mark, read_verification, verification_document
from rh_bench.errors import InputError
from rh_bench.system.schema import dump_json, validate_document
from rh_bench.verification.verify import verify_run

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def verified(tmp_path: Path) -> Path:
    """A results repository with one run and its verification."""
    folder = make_run(tmp_path / "runs")
    document = verification_document(verify_run(folder), pull_request=3, author="somebody", now=NOON)
    path = tmp_path / verification_path(folder.parent.name, folder.name)
    path.parent.mkdir(parents=True)
    path.write_bytes(dump_json(document))
    return folder


def test_document_fits_its_schema(verified: Path) -> None:
    document = verification_document(verify_run(verified), rerun=3, salt="s", now=NOON)
    assert validate_document(document, "verification") == []
    assert document["date"] == "2026-11-24T12:00:00Z"
    assert document["rerun"] == {"samples": 3, "salt": "s"}


def test_verification_is_found_beside_the_runs(tmp_path: Path, verified: Path) -> None:
    layout = find_layout(tmp_path)
    assert list(run_folders(layout.runs)) == [verified]
    found = read_verification(layout, verified)
    assert found is not None
    assert [level["reached"] for level in found["levels"]] == [True, None, None]


def test_verification_of_other_bytes_is_none(tmp_path: Path, verified: Path) -> None:
    document = json.loads((verified / "run.json").read_text())
    document["timings"]["seconds"] += 1
    (verified / "run.json").write_bytes(dump_json(document))
    assert read_verification(find_layout(tmp_path), verified) is None


def test_verification_that_is_no_verification_is_none(tmp_path: Path, verified: Path) -> None:
    path = tmp_path / verification_path(verified.parent.name, verified.name)
    for text in ("{}", "not JSON", '{"schema": "rh_bench/verification", "schema_version": "1.0"}'):
        path.write_text(text)
        assert read_verification(find_layout(tmp_path), verified) is None


def test_a_record_of_the_first_version_is_read_and_has_no_mark(tmp_path: Path, verified: Path) -> None:
    path = tmp_path / verification_path(verified.parent.name, verified.name)
    run = read_run(verified)
    mark = fingerprint(run.document, run.results)
    document = verification_document(verify_run(verified), mark=mark)
    path.write_bytes(dump_json(document))
    assert validate_document(document, "verification") == [] and read_mark(path) == mark
    del document["fingerprint"]
    path.write_bytes(dump_json(document | {"schema_version": "1.0"}))
    assert read_verification(find_layout(tmp_path), verified) is not None and read_mark(path) is None
    path.write_text("{}")
    assert read_mark(path) is None and read_mark(tmp_path / "none") is None


def test_plain_folder_of_runs_has_no_verifications(tmp_path: Path, verified: Path) -> None:
    layout = find_layout(tmp_path / "runs")
    assert layout.verification is None
    assert read_verification(layout, verified) is None


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        find_layout(tmp_path / "nothing")
