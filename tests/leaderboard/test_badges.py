"""Badges: what a record of a verification is worth on the site, and imports, which have none."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fake_runs import make_run

from rh_bench.artifacts.results_repo import verification_path
from rh_bench.artifacts.verification_record import verification_document
from rh_bench.interchange.folder import import_file
from rh_bench.leaderboard import build_site
from rh_bench.leaderboard.badges import badge
from rh_bench.leaderboard.collect import collect
from rh_bench.system.schema import dump_json, validate_document
from rh_bench.verification.verify import verify_run


def record(folder: Path, reached: tuple[bool | None, ...] = (True, None, None), **changes: Any) -> dict[str, Any]:
    moment = datetime(2026, 11, 24, tzinfo=UTC)
    document = verification_document(verify_run(folder), pull_request=7, author="some<b>body", now=moment)
    for level, value in zip(document["levels"], reached, strict=True):
        level["reached"] = value
    return document | changes


def keep(root: Path, folder: Path, document: dict[str, Any]) -> None:
    path = root / verification_path(folder.parent.name, folder.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dump_json(document))


@pytest.mark.parametrize(
    ("reached", "name"),
    [
        ((True, None, None), "valid"),
        ((True, True, None), "recomputed"),
        ((True, True, True), "rerun"),
        ((True, True, False), "failed"),
        ((False, None, None), "failed"),
    ],
)
def test_the_highest_level_counts_unless_one_failed(
    tmp_path: Path, reached: tuple[bool | None, ...], name: str
) -> None:
    assert badge(record(make_run(tmp_path), reached)).name == name


def test_no_record_is_valid_and_says_so() -> None:
    found = badge(None)
    assert found.name == "valid" and "It has not been verified further" in found.note and found.levels == ()


def test_the_site_shows_the_badge_and_who_verified(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "results" / "runs")
    keep(tmp_path / "results", folder, record(folder, (True, True, True), rerun={"samples": 3, "salt": "x\u202ey"}))
    build_site(tmp_path / "results", tmp_path / "site")
    overview = (tmp_path / "site" / "index.html").read_text()
    assert '<a class="badge rerun" href="method.html#levels"' in overview
    page = next((tmp_path / "site" / "models").rglob("*.html")).read_text()
    assert "from pull request 7" in page and "some&lt;b&gt;body" in page
    assert "3 samples measured again" in page and "⟨U+202E⟩" in page


JOB = {
    "nonce": "0" * 32,
    "namespace": "org",
    "owner_id": "1",
    "job": "687fb701029421ae5549d998",
    "image": f"python@sha256:{'d' * 64}",
    "command_sha256": "e" * 64,
    "package_sha256": "f" * 64,
    "flavor": "a10g-small",
    "started": "2026-11-24T00:00:00Z",
    "finished": None,
}


def test_attested_stands_beside_the_level(tmp_path: Path) -> None:
    """It says who made the run, so that it changes no other badge, and stands where no level failed."""
    folder = make_run(tmp_path / "results" / "runs")
    document = record(folder, (True, True, None), attestation=JOB)
    assert validate_document(document, "verification") == []
    found = badge(document)
    assert found.name == "recomputed" and "Job 687fb701029421ae5549d998 of org" in found.attested
    assert badge(record(folder, (True, True, False), attestation=JOB)).attested == ""
    assert badge(record(folder)).attested == badge(None).attested == ""
    older = {name: value for name, value in document.items() if name != "attestation"} | {"schema_version": "1.1"}
    assert validate_document(older, "verification") == [] and badge(older).attested == ""
    keep(tmp_path / "results", folder, document)
    build_site(tmp_path / "results", tmp_path / "site")
    page = next((tmp_path / "site" / "models").rglob("*.html")).read_text()
    assert page.count('class="badge attested"') == 2 and 'class="badge recomputed"' in page
    assert "Made by a Hub job that a maintainer ordered" in page and "it is not a rerun" in page
    assert "a10g-small" in page and "from 2026" not in page, "a time is only said where both are known"
    assert 'badge attested">attested' in (tmp_path / "site" / "method.html").read_text()


def test_a_badge_is_for_these_bytes_alone(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "results" / "runs")
    keep(tmp_path / "results", folder, record(folder, (True, True, True)))
    document = json.loads((folder / "run.json").read_text())
    document["timings"]["seconds"] += 1
    (folder / "run.json").write_bytes(dump_json(document))
    (entry,) = collect(tmp_path / "results").entries
    assert badge(entry.verification).name == "valid"


def test_imports_stand_apart(tmp_path: Path) -> None:
    make_run(tmp_path / "runs")
    scores = {f"{layer}-{head}": [0.2 * head, 1.5] for layer in range(2) for head in range(3)}
    (tmp_path / "model.json").write_text(json.dumps(scores))
    import_file(tmp_path / "model.json", tmp_path / "runs", model="acme/<i>imported</i>")
    report = build_site(tmp_path / "runs", tmp_path / "site")
    assert len(report.briefs) == 1 and report.left_out == ()
    page = (tmp_path / "site" / "index.html").read_text()
    assert "Imported from other projects" in page
    assert "&lt;i&gt;imported" in page and "<i>imported" not in page
    ranked, _, apart = page.partition('<h2 id="imported">')
    assert "&lt;i&gt;" not in ranked and '<span class="badge imported">' in apart
    assert '<span class="finding">' in apart, "what the auditor found stands beside it"
