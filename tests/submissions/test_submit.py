"""Submitting through the real client: one pull request a run, whatever happens on the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fake_runs import make_run
from hub_fixtures import RESULTS, command, empty_results, hub, owner, stranger
from loopback_hub import Blob
from loopback_write import STRANGER, WritableHub

from rh_bench.errors import CheckFailed, InputError
from rh_bench.hub.client import Access
from rh_bench.submissions.place import SUBMITTED
from rh_bench.submissions.submit import Submission, submit_run
from rh_bench.system.schema import dump_json

__all__ = ["hub"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs")


@pytest.fixture
def results(hub: WritableHub, tmp_path: Path) -> WritableHub:
    empty_results(hub, tmp_path)
    return hub


def pull_tree(hub: WritableHub, num: int = 1) -> set[str]:
    repo = hub.repo("datasets", RESULTS)
    return set(repo.commits[repo.branches[f"refs/pr/{num}"]])


def change(run: Path) -> None:
    """The same run, another time: still valid, other bytes."""
    document = json.loads((run / "run.json").read_text())
    document["timings"]["seconds"] += 1
    (run / "run.json").write_bytes(dump_json(document))


def test_a_run_becomes_one_pull_request(results: WritableHub, run: Path) -> None:
    report = submit_run(run, RESULTS, access=stranger(results))
    place = f"runs/{run.parent.name}/{run.name}"
    assert report.pull_request == 1 and not report.updates
    assert report.address == f"{results.url}/datasets/{RESULTS}/discussions/1"
    assert pull_tree(results) == {"README.md", *(f"{place}/{name}" for name in SUBMITTED)}
    repo = results.repo("datasets", RESULTS)
    assert list(repo.commits[repo.branches["main"]]) == ["README.md"], "the main branch is as it was"
    assert repo.pulls[1].author == "stranger"


def test_again_changes_nothing(results: WritableHub, run: Path) -> None:
    first = submit_run(run, RESULTS, access=stranger(results))
    again = submit_run(run, RESULTS, access=stranger(results))
    assert (again.pull_request, again.files, again.commit) == (1, (), first.commit)
    assert len(results.repo("datasets", RESULTS).pulls) == 1


def test_ones_own_pull_request_is_updated(results: WritableHub, run: Path) -> None:
    submit_run(run, RESULTS, access=stranger(results))
    change(run)
    report = submit_run(run, RESULTS, access=stranger(results))
    assert report.updates and report.pull_request == 1
    assert [path.rpartition("/")[2] for path, _ in report.files] == ["run.json"]
    assert len(results.repo("datasets", RESULTS).pulls) == 1


def test_somebody_elses_is_left_alone(results: WritableHub, run: Path) -> None:
    submit_run(run, RESULTS, access=owner(results))
    change(run)
    assert submit_run(run, RESULTS, access=stranger(results)).pull_request == 2


@pytest.mark.slow
def test_it_is_found_on_a_later_page(results: WritableHub, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "many", model_id=f"acme/m{i}", seed=i) for i in range(5)]
    for one in runs:
        submit_run(one, RESULTS, access=stranger(results))
    assert submit_run(runs[4], RESULTS, access=stranger(results)).pull_request == 5


def test_dry_run_sends_nothing(results: WritableHub, run: Path) -> None:
    report = submit_run(run, RESULTS, dry_run=True, access=Access(results.url, STRANGER))
    assert len(report.files) == 5 and report.pull_request is None
    assert {request.method for request in results.requests} <= {"GET", "HEAD"}


def test_what_is_to_be_sent_is_shown_before(results: WritableHub, run: Path) -> None:
    shown = []

    def announce(plan: Submission) -> None:
        assert {request.method for request in results.requests} <= {"GET", "HEAD"}, "nothing is sent yet"
        shown.append(plan)

    report = submit_run(run, RESULTS, announce=announce, access=stranger(results))
    assert [plan.files for plan in shown] == [report.files]
    assert shown[0].pull_request is None and report.pull_request == 1


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("status", [409, 412, 429, 500, 503, 0, 1])
def test_what_can_be_tried_again_is(results: WritableHub, run: Path, status: int) -> None:
    waits: list[float] = []
    results.failures = [(r"POST .*/commit/", status)]
    report = submit_run(run, RESULTS, access=stranger(results, waits))
    assert report.pull_request == 1
    assert waits == [1.0]
    assert len(results.repo("datasets", RESULTS).pulls) == 1, "even if the answer to the first try was lost"


def test_the_commit_names_the_one_that_it_was_made_from(results: WritableHub, run: Path) -> None:
    """So that a main branch that has moved on is noticed, looked at anew, and built on."""
    repo, moved = results.repo("datasets", RESULTS), []

    def meddle(hub: WritableHub) -> None:
        moved.append(repo.commit({**repo.commits[repo.branches["main"]], "eval.yaml": Blob(b"name: x", lfs=False)}))

    results.meddle = meddle
    waits: list[float] = []
    report = submit_run(run, RESULTS, access=stranger(results, waits))
    assert waits == [1.0] and report.pull_request == 1 and len(repo.pulls) == 1
    assert repo.parents[repo.branches["refs/pr/1"]] == moved[0]


def test_a_run_that_is_too_large_is_not_sent(results: WritableHub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum((run / name).stat().st_size for name in SUBMITTED)
    monkeypatch.setattr("rh_bench.submissions.submit.MOST_BYTES", size - 1)
    with pytest.raises(InputError, match=f"has {size} bytes; at most {size - 1} are allowed"):
        submit_run(run, RESULTS, access=stranger(results))
    assert results.requests == []


def test_a_cut_upload_goes_on(results: WritableHub, run: Path) -> None:
    results.failures = [(r"POST .*/commit/", 500)]
    submit_run(run, RESULTS, access=stranger(results))
    assert len(results.uploads) == len(set(results.uploads)) == 3, "no table is sent twice"


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("status", [503, 0])
@pytest.mark.parametrize(
    "where",
    [
        "GET /api/whoami",
        "GET .*/discussions",
        "GET .*/commits/main",
        "GET .*/tree/",
        "POST .*/preupload/",
        "POST .*/lfs/objects/batch",
        "PUT /upload/",
        "POST /verify/",
    ],
)
def test_it_goes_on_wherever_it_was_cut(results: WritableHub, run: Path, where: str, status: int) -> None:
    results.failures = [(where, status)]
    assert submit_run(run, RESULTS, access=stranger(results)).pull_request == 1
    assert results.failures == []
    assert len(results.uploads) == len(set(results.uploads)) == 3, "no table is sent twice"
    place = f"runs/{run.parent.name}/{run.name}"
    assert pull_tree(results) == {"README.md", *(f"{place}/{name}" for name in SUBMITTED)}


@pytest.mark.parametrize(("asked", "waited"), [(None, 1.0), (7, 7.0), (100_000, 300.0)])
def test_the_hub_says_how_long_to_wait(results: WritableHub, run: Path, asked: int | None, waited: float) -> None:
    waits: list[float] = []
    results.failures, results.retry_after = [(r"POST .*/commit/", 429)], asked
    submit_run(run, RESULTS, access=stranger(results, waits))
    assert waits == [waited]


def test_what_cannot_be_helped_is_said_at_once(results: WritableHub, run: Path) -> None:
    for token, words in (("hf_wrong", "does not know who you are"), (STRANGER, "does not let you")):
        waits: list[float] = []
        results.failures = [] if token == "hf_wrong" else [(r"POST .*/commit/", 403)]
        with pytest.raises(InputError, match=words):
            submit_run(run, RESULTS, access=Access(results.url, token, waits.append))
        assert waits == []


@pytest.mark.slow
def test_a_slow_hub_is_waited_for(results: WritableHub, run: Path) -> None:
    results.slow = 0.2
    assert submit_run(run, RESULTS, access=stranger(results)).pull_request == 1


def test_a_run_that_is_there_already(results: WritableHub, run: Path, tmp_path: Path) -> None:
    holding = tmp_path / "holding"
    shutil.copytree(run, holding / "runs" / run.parent.name / run.name)
    results.add("datasets", RESULTS, holding)
    assert submit_run(run, RESULTS, access=stranger(results)).files == ()
    change(run)
    with pytest.raises(InputError, match="already has this run, with another run.json"):
        submit_run(run, RESULTS, access=stranger(results))
    assert results.repo("datasets", RESULTS).pulls == {}


def test_what_is_not_valid_is_not_sent(results: WritableHub, run: Path) -> None:
    (run / "notes.txt").write_text("hello")
    with pytest.raises(CheckFailed, match=r"not valid: notes\.txt"):
        submit_run(run, RESULTS, access=stranger(results))
    assert results.requests == []


def test_what_nobody_can_reproduce_is_said(results: WritableHub, run: Path) -> None:
    words = " ".join(submit_run(run, RESULTS, dry_run=True, access=stranger(results)).warnings)
    assert "set was a local folder" in words


def test_no_repository(hub: WritableHub, run: Path) -> None:
    with pytest.raises(InputError):
        submit_run(run, RESULTS, access=stranger(hub))
    with pytest.raises(InputError, match="main branch"):
        submit_run(run, f"{RESULTS}@v1", access=stranger(hub))


@pytest.mark.slow
def test_the_command_never_prints_the_token(results: WritableHub, run: Path, tmp_path: Path) -> None:
    status, said, errors = command(results, tmp_path / "home", "submit", run, "--repo", RESULTS)
    assert status == 0, errors
    assert "Pull request opened" in said and f"{results.url}/datasets/{RESULTS}/discussions/1" in said
    results.failures = [(r"GET .*/discussions", 403)]
    status, more, errors = command(results, tmp_path / "home", "submit", run, "--repo", RESULTS)
    assert status == 2 and len(errors.strip().splitlines()) == 1
    assert STRANGER not in said + more + errors
