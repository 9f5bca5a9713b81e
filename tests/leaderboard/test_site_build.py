"""Building the site run by run: what is kept from the last build, what is made again, and that nobody can tell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_experiments import make_dynamic, make_intrinsic, make_relatives
from fake_runs import make_run

from rh_bench.artifacts.results_repo import verification_path
from rh_bench.artifacts.verification_record import verification_document
from rh_bench.leaderboard import RunBrief, brief_of, build_site
from rh_bench.leaderboard.build import _WORTH_WORKERS
from rh_bench.leaderboard.cache import CACHE
from rh_bench.leaderboard.collect import collect, read_source, sources
from rh_bench.system.schema import dump_json, load_json
from rh_bench.verification.verify import verify_run


def contents(site: Path) -> dict[str, bytes]:
    return {path.relative_to(site).as_posix(): path.read_bytes() for path in site.rglob("*") if path.is_file()}


def results(root: Path, *models: str) -> Path:
    """A results repository with a run of each model, each with heads of its own."""
    for seed, model in enumerate(models or ("acme/a", "acme/b", "acme/c")):
        make_run(root / "results" / "runs", model_id=model, seed=seed)
    return root / "results"


def test_a_card_comes_back_from_json_as_it_was(tmp_path: Path) -> None:
    make_run(tmp_path)
    brief = brief_of(collect(tmp_path).entries[0])
    assert RunBrief.from_json(json.loads(json.dumps(brief.to_json()))) == brief
    assert brief.page == f"models/{brief.key}.html"


@pytest.mark.slow
def test_runs_that_did_not_change_are_kept(tmp_path: Path) -> None:
    root, site = results(tmp_path), tmp_path / "site"
    assert build_site(root, site).kept == 0
    full = contents(site)
    again = build_site(root, site)
    assert (again.kept, len(again.briefs)) == (3, 3)
    assert contents(site) == full


@pytest.mark.slow
def test_an_incremental_build_gives_the_bytes_of_a_full_one(tmp_path: Path) -> None:
    root, site = results(tmp_path), tmp_path / "site"
    (root / "runs" / "acme__half" / "0123").mkdir(parents=True)
    build_site(root, site)
    make_run(root / "runs", model_id="acme/new", seed=9)
    shutil.rmtree(root / "runs" / "acme__b")
    assert build_site(root, site).kept == 3
    build_site(root, tmp_path / "full")
    assert contents(site) == contents(tmp_path / "full")


@pytest.mark.slow
def test_a_verification_makes_its_run_again(tmp_path: Path) -> None:
    root, site = results(tmp_path), tmp_path / "site"
    build_site(root, site)
    folder = sources(root)[1].folder
    record = root / verification_path(folder.parent.name, folder.name)
    record.parent.mkdir(parents=True)
    document = verification_document(verify_run(folder))
    document["levels"][1]["reached"] = True
    record.write_bytes(dump_json(document))
    report = build_site(root, site)
    assert report.kept == 2
    assert [brief.badge for brief in report.briefs] == ["valid", "recomputed", "valid"]


@pytest.mark.slow
def test_a_run_with_other_bytes_is_read_again(tmp_path: Path) -> None:
    root, site = results(tmp_path), tmp_path / "site"
    build_site(root, site)
    run = sources(root)[0].folder / "run.json"
    stat = run.stat()
    run.write_bytes(run.read_bytes().replace(b'"a processor"', b'"A processor"'))
    os.utime(run, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert build_site(root, site).kept == 2
    assert "A processor" in (site / build_site(root, site).briefs[0].page).read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_page_that_was_changed_in_the_site_is_made_again(tmp_path: Path) -> None:
    root, site = results(tmp_path), tmp_path / "site"
    brief = build_site(root, site).briefs[0]
    full = contents(site)
    (site / brief.page).write_text("something else")
    assert build_site(root, site).kept == 2
    assert contents(site) == full


@pytest.mark.slow
def test_a_page_that_is_a_link_is_made_again(tmp_path: Path) -> None:
    root, site = results(tmp_path), tmp_path / "site"
    brief = build_site(root, site).briefs[0]
    full = contents(site)
    (site / brief.page).replace(tmp_path / "elsewhere.html")
    (site / brief.page).symlink_to(tmp_path / "elsewhere.html")
    assert build_site(root, site).kept == 2
    assert not (site / brief.page).is_symlink()
    assert contents(site) == full


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data.replace(b"acme/a", b"acme/x"),
        lambda data: b"[]\n" + data,
        lambda data: b"\xff" + data,
    ],
)
def test_a_damaged_cache_means_a_full_build(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    root, site = results(tmp_path), tmp_path / "site"
    build_site(root, site)
    full = contents(site)
    (site / CACHE).write_bytes(damage((site / CACHE).read_bytes()))
    assert build_site(root, site).kept == 0
    assert contents(site) == full


@pytest.mark.slow
def test_another_address_or_other_code_means_a_full_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, site = results(tmp_path), tmp_path / "site"
    build_site(root, site)
    assert build_site(root, site, url="https://example.org/heads").kept == 0
    assert build_site(root, site, url="https://example.org/heads").kept == 3
    monkeypatch.setattr("rh_bench.leaderboard.cache._code", lambda added: "other code")
    assert build_site(root, site, url="https://example.org/heads").kept == 0


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many runs as are worth worker processes."""
    return results(tmp_path_factory.mktemp("many"), *(f"acme/m{number}" for number in range(_WORTH_WORKERS)))


@pytest.mark.slow
def test_worker_processes_give_the_same_site(tmp_path: Path, many: Path) -> None:
    root = many
    seen: list[tuple[int, int]] = []
    build_site(root, tmp_path / "two", workers=2, on_run=lambda done, total: seen.append((done, total)))
    build_site(root, tmp_path / "one")
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert seen[-1] == (_WORTH_WORKERS, _WORTH_WORKERS)


@pytest.mark.slow
def test_workers_that_cannot_start_are_done_without(tmp_path: Path, many: Path) -> None:
    # Each worker runs a script without a guard again, and finds the site's workshop taken: it dies.
    script = tmp_path / "build.py"
    script.write_text(
        f"from pathlib import Path\nfrom leaderboard import build_site\n"
        f"build_site(Path({str(many)!r}), Path({str(tmp_path / 'site')!r}), workers=2)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "another rh-bench process is writing it" in done.stderr, "or the workers have started after all"
    build_site(many, tmp_path / "one")
    assert contents(tmp_path / "site") == contents(tmp_path / "one")
    assert {path.name for path in tmp_path.iterdir()} == {"build.py", "one", "site"}


@pytest.mark.slow
def test_experiments_reach_the_card_of_the_run_whose_bytes_they_name(tmp_path: Path) -> None:
    root, site = tmp_path / "results", tmp_path / "site"
    base, chat, stranger = make_relatives(root / "runs", n_samples=10)
    build_site(root, site)
    make_dynamic(root / "experiments", base, permutations=20)
    make_intrinsic(root / "experiments", chat, base, permutations=20)
    damaged = make_dynamic(root / "experiments", stranger, permutations=20)
    (damaged / "note.txt").write_text("x")
    report = build_site(root, site)
    assert report.kept == 0
    found = {brief.slug: [one["kind"] for one in brief.experiments] for brief in report.briefs}
    assert found == {"acme__base": ["dynamic", "intrinsic"], "acme__chat": ["intrinsic"], "other__stranger": []}
    assert [brief.rejected for brief in report.briefs][:2] == [(), ()]
    ((name, why),) = report.briefs[2].rejected
    assert name.startswith("other__stranger/dynamic-") and "does not belong" in why
    entry = read_source(sources(root)[0])
    assert report.briefs[0] == brief_of(entry)  # type: ignore[arg-type]
    assert RunBrief.from_json(json.loads(json.dumps(report.briefs[2].to_json()))) == report.briefs[2]
    (damaged / "note.txt").unlink()
    again = build_site(root, site)
    assert again.kept == 2 and [one["kind"] for one in again.briefs[2].experiments] == ["dynamic"]
    run = load_json(base / "run.json")
    (base / "run.json").write_bytes(dump_json(run | {"timings": {**run["timings"], "seconds": 2.0}}))
    first = build_site(root, site).briefs[0]
    assert first.experiments == ()
    assert {why for _, why in first.rejected} == {"was made from this run before its bytes changed"}
