"""Reviewing pull requests: what they may touch, what is said and kept, and what is never merged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_runs import make_run
from hub_fixtures import RESULTS, command, empty_results, hub, owner, stranger
from huggingface_hub import HfApi
from loopback_hub import Blob
from loopback_pulls import open_pull
from loopback_write import TOKEN, WritableHub
from review_answers import written_anew

import rh_bench.submissions.review as reviewing
from rh_bench.artifacts.levels import Evidence
from rh_bench.errors import InputError
from rh_bench.hub.pulls import Difference
from rh_bench.hub.write import RemoteFile
from rh_bench.records import SampleResult
from rh_bench.submissions.place import SUBMITTED
from rh_bench.submissions.review import Ways, parse_pull, review, verify_pull
from rh_bench.submissions.review_report import Found
from rh_bench.submissions.submission import submission_problems
from rh_bench.submissions.submit import submit_run
from rh_bench.system.schema import validate_document

pytestmark = pytest.mark.slow

__all__ = ["hub"]
PLACE = "runs/acme__tiny-1/0123456789abcdef"


@pytest.fixture
def results(hub: WritableHub, tmp_path: Path) -> WritableHub:
    empty_results(hub, tmp_path)
    return hub


@pytest.fixture
def submitted(results: WritableHub, tmp_path: Path) -> Path:
    run = make_run(tmp_path / "runs")
    submit_run(run, RESULTS, access=stranger(results))
    return run


def reviewed(hub: WritableHub, **ways: object) -> list[Found]:
    return list(review(RESULTS, Ways(**{"require": "valid", **ways}), access=owner(hub)))  # type: ignore[arg-type]


def said(hub: WritableHub, num: int = 1) -> list[str]:
    events = hub.repo("datasets", RESULTS).pulls[num].events
    return [e["data"]["latest"]["raw"] for e in events if e["type"] == "comment" and e["author"]["name"] == "owner"]


def main_tree(hub: WritableHub) -> dict[str, Blob]:
    repo = hub.repo("datasets", RESULTS)
    return repo.commits[repo.branches["main"]]


def evidence_is_missing(found: Found) -> list[bool | None]:
    assert found.verification is not None
    return [level.reached for level in found.verification.levels]


def test_a_run_is_verified_and_told_about(results: WritableHub, submitted: Path) -> None:
    (found,) = reviewed(results)
    assert found.run == f"{submitted.parent.name}/{submitted.name}"
    assert evidence_is_missing(found)[0] is True
    (text,) = said(results)
    assert "| valid | ✅ yes |" in text and found.head in text
    assert not found.merged and set(main_tree(results)) == {"README.md"}, "nothing is merged unless told to"


def test_the_same_is_not_said_twice(results: WritableHub, submitted: Path) -> None:
    assert [reviewed(results)[0].said, reviewed(results)[0].said] == [True, False]
    assert len(said(results)) == 1


def test_merging_keeps_the_verification(results: WritableHub, submitted: Path) -> None:
    (found,) = reviewed(results, merge=True)
    assert found.merged
    tree = main_tree(results)
    place = f"{submitted.parent.name}/{submitted.name}"
    assert {f"runs/{place}/{name}" for name in SUBMITTED} <= set(tree)
    record = json.loads(tree[f"verification/{place}.json"].content)
    assert validate_document(record, "verification") == []
    assert (record["author"], record["pull_request"]) == ("stranger", 1)
    assert results.repo("datasets", RESULTS).pulls[1].status == "closed"
    assert found.commit is not None and found.commit in said(results)[-1]
    assert reviewed(results) == [], "it is open no more"


def test_a_level_that_is_required_is_waited_for(results: WritableHub, submitted: Path) -> None:
    (found,) = reviewed(results, merge=True, require="recomputed")
    assert not found.merged
    assert "Changes are needed" in said(results)[0]


def test_two_merges_one_after_the_other(results: WritableHub, tmp_path: Path) -> None:
    for seed in range(2):
        submit_run(
            make_run(tmp_path / "r", model_id=f"acme/m{seed}", n_samples=12 + seed), RESULTS, access=stranger(results)
        )
    assert [found.merged for found in reviewed(results, merge=True)] == [True, True]
    assert sum(path.startswith("verification/") for path in main_tree(results)) == 2


def forge(submitted: Path, hub: WritableHub, change: Callable[[dict[str, Blob]], None]) -> None:
    repo = hub.repo("datasets", RESULTS)
    tree = dict(repo.commits[repo.branches["refs/pr/1"]])
    change(tree)
    repo.commit(tree, "refs/pr/1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tree: tree.update({"README.md": Blob(b"mine", lfs=False)}), "changes README.md"),
        (lambda tree: tree.pop("README.md"), "removes README.md"),
        (lambda tree: tree.update({"verification/a/b.json": Blob(b"{}", lfs=False)}), "verification/a/b.json"),
        (lambda tree: tree.update({"runs/a/../x": Blob(b"", lfs=False)}), "not a file of a run"),
        (lambda tree: tree.update({"data/heads/heads-0.parquet": Blob(b"", lfs=True)}), "not a file of a run"),
        (lambda tree: tree.update({f"{PLACE}/run.json": Blob(b"", lfs=False)}), "contains 2 runs"),
        (lambda tree: tree.update({"runs/a\u202eb/x.py": Blob(b"", lfs=False)}), "runs/a\\u202eb/x.py"),
    ],
)
def test_nothing_but_a_run_is_taken(
    results: WritableHub, submitted: Path, change: Callable[[dict[str, Blob]], None], words: str
) -> None:
    forge(submitted, results, change)
    before = main_tree(results)
    (found,) = reviewed(results, merge=True)
    assert any(words in problem for problem in found.problems), found.problems
    assert found.failed and not found.merged and main_tree(results) == before
    assert "cannot be verified" in said(results)[0]


def test_a_copy_of_another_run_is_named(results: WritableHub, submitted: Path) -> None:
    reviewed(results, merge=True)
    repo = results.repo("datasets", RESULTS)
    tree = dict(main_tree(results))
    old = f"runs/{submitted.parent.name}/{submitted.name}"
    tree |= {f"{PLACE}/{name}": tree[f"{old}/{name}"] for name in SUBMITTED}
    open_pull(repo, "Run of mine", "stranger")
    repo.commit(tree, "refs/pr/2", parent=repo.branches["main"])
    (found,) = reviewed(results, merge=True)
    assert any(f"byte for byte that of {old}" in problem for problem in found.problems)


OTHER_MODEL = {
    "id": "mine/model",
    "slug": "mine__model",
    "revision": "d" * 40,
    "files": [{"path": "model.safetensors", "sha256": "e" * 64, "bytes": 1}],
}


def timed(result: SampleResult, shift: float = 0.0) -> SampleResult:
    """Seconds as a measurement has them: of no two samples the same."""
    return replace(result, seconds=result.seconds + shift + int(result.prompt_sha256, 16) / 1000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "model", "words"),
    [
        (timed, {}, "took exactly as many seconds"),
        (timed, OTHER_MODEL, "took exactly as many seconds"),
        (lambda result: timed(result, 0.25), OTHER_MODEL, "the same in 10 of 10 samples compared"),
        (lambda result: timed(result, 0.25), {}, None),  # the same weights, measured again: equal, and no copy
    ],
)
def test_a_copy_written_anew_is_named(
    results: WritableHub,
    tmp_path: Path,
    change: Callable[[SampleResult], SampleResult],
    model: dict[str, object],
    words: str | None,
) -> None:
    honest = written_anew(make_run(tmp_path / "a", layers=8), tmp_path / "b", timed)
    submit_run(honest, RESULTS, access=stranger(results))
    assert reviewed(results, merge=True)[0].merged
    submit_run(
        written_anew(
            honest, tmp_path / "copies", lambda r: change(replace(r, seconds=0.5)), **(model or {"revision": "f" * 40})
        ),
        RESULTS,
        access=owner(results),
    )
    (found,) = reviewed(results, merge=True)
    place = f"runs/{honest.parent.name}/{honest.name}"
    if words is None:
        assert found.merged and found.problems == ()
    else:
        assert len(found.problems) == 1 and words in found.problems[0] and place in found.problems[0]
        assert found.failed and not found.merged and "cannot be accepted" in said(results, 2)[-1]


def test_other_tables_than_run_json_names_are_caught_unread(results: WritableHub, submitted: Path) -> None:
    """And nothing is recorded under the hash of run.json, which can be that of somebody else's honest run."""
    place = f"runs/{submitted.parent.name}/{submitted.name}/events.parquet"
    forge(submitted, results, lambda tree: tree.update({place: Blob(b"PAR1", lfs=True)}))
    before = main_tree(results)
    (found,) = reviewed(results, merge=True)
    assert found.problems == ("its events.parquet is not the one that run.json names by its SHA-256",)
    assert found.verification is None and found.failed and main_tree(results) == before


def test_what_is_pushed_while_it_is_taken_in_stays_out(results: WritableHub, submitted: Path) -> None:
    """Between the last look at the pull request and the commit: what gets in are the bytes that were verified."""
    place = f"runs/{submitted.parent.name}/{submitted.name}"
    slipped = []

    def meddle(hub: WritableHub) -> None:
        forge(submitted, hub, lambda tree: tree.update({"README.md": Blob(b"mine", lfs=False)}))
        forge(submitted, hub, lambda tree: tree.update({f"{place}/events.parquet": Blob(b"PAR1", lfs=True)}))
        slipped.append(hub.repo("datasets", RESULTS).branches["refs/pr/1"])

    results.meddle = meddle
    (found,) = reviewed(results, merge=True)
    assert slipped and found.merged and found.head not in slipped
    tree = main_tree(results)
    assert tree["README.md"].content == b"# Results\n"
    assert {name: tree[f"{place}/{name}"].content for name in SUBMITTED} == {
        name: (submitted / name).read_bytes() for name in SUBMITTED
    }
    assert results.repo("datasets", RESULTS).pulls[1].status == "closed"


def test_another_writer_of_the_main_branch_loses_nothing(results: WritableHub, submitted: Path) -> None:
    def meddle(hub: WritableHub) -> None:
        hub.repo("datasets", RESULTS).commit(main_tree(hub) | {"eval.yaml": Blob(b"name: x", lfs=False)})

    results.meddle = meddle
    (found,) = reviewed(results, merge=True)
    assert found.merged and {"eval.yaml", "README.md"} < set(main_tree(results))


@pytest.mark.slow
@pytest.mark.parametrize("status", [409, 412, 429, 503, 0, 1])
def test_taking_in_is_tried_again(results: WritableHub, submitted: Path, status: int) -> None:
    waits: list[float] = []
    results.failures = [(r"POST .*/commit/main", status)]
    (found,) = review(RESULTS, Ways(merge=True, require="valid"), access=owner(results, waits))
    repo = results.repo("datasets", RESULTS)
    assert (found.commit, waits) == (repo.branches["main"], [1.0]), "even if the answer to the first try was lost"
    assert len(repo.parents) == 3, "one commit of the pull request and one of the main branch, after the first"


def test_one_changed_while_it_was_verified_is_left_alone(
    results: WritableHub, submitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = reviewing.verify_apart

    def meddled(folder: Path, evidence: Evidence, limits: Any) -> Any:
        forge(submitted, results, lambda tree: tree.update({"note.txt": Blob(b"", lfs=False)}))
        return verify(folder, evidence, limits)

    monkeypatch.setattr(reviewing, "verify_apart", meddled)
    before = main_tree(results)
    (found,) = reviewed(results, merge=True)
    assert found.problems == ("it changed while it was being verified: review it again",)
    assert found.failed and main_tree(results) == before
    assert "Changes are needed" in said(results)[0]


def test_a_run_that_was_taken_in_is_closed(results: WritableHub, submitted: Path) -> None:
    """As after a review that was cut off between the two."""
    repo = results.repo("datasets", RESULTS)
    reviewed(results, merge=True)
    repo.pulls[1].status = "open"
    (found,) = reviewed(results, quiet=True)
    assert found.held and not found.failed and repo.pulls[1].status == "open"
    (found,) = reviewed(results, merge=True)
    assert found.held and not found.merged and repo.pulls[1].status == "closed"
    assert "already has these files" in said(results)[-1]


def test_another_run_under_an_id_that_was_taken_in_meanwhile(results: WritableHub, submitted: Path) -> None:
    repo = results.repo("datasets", RESULTS)
    tree = dict(repo.commits[repo.branches["refs/pr/1"]])
    open_pull(repo, "The same, with other bytes", "somebody")
    place = f"runs/{submitted.parent.name}/{submitted.name}"
    repo.commit(tree | {f"{place}/run.json": Blob(b"{}", lfs=False)}, "refs/pr/2", parent=repo.branches["main"])
    first, second = reviewed(results, merge=True)
    assert first.merged and not second.merged
    assert second.problems == ("the repository already has this run, with another run.json",)


def test_a_run_merged_on_the_hub_by_hand_has_no_badge(results: WritableHub, submitted: Path) -> None:
    HfApi(results.url, TOKEN).merge_pull_request(RESULTS, 1, repo_type="dataset")
    assert f"runs/{submitted.parent.name}/{submitted.name}/run.json" in main_tree(results)
    assert not any(path.startswith("verification/") for path in main_tree(results))


def test_a_pull_request_from_an_older_main_branch(results: WritableHub, submitted: Path) -> None:
    repo = results.repo("datasets", RESULTS)
    repo.commit(main_tree(results) | {"eval.yaml": Blob(b"name: x", lfs=False)})
    (found,) = reviewed(results, merge=True)
    assert found.merged and "eval.yaml" in main_tree(results), "what came meanwhile is not taken for removed"


def test_one_pull_request_by_its_number(results: WritableHub, submitted: Path) -> None:
    from rh_bench.hub.refs import RepoRef

    found = verify_pull(RepoRef(RESULTS), 1, Evidence(), owner(results))
    assert evidence_is_missing(found)[0] is True and said(results) == []
    with pytest.raises(InputError, match="no open pull request 7"):
        verify_pull(RepoRef(RESULTS), 7, Evidence(), owner(results))


@pytest.mark.slow
def test_the_command(results: WritableHub, submitted: Path, tmp_path: Path) -> None:
    def say(*arguments: str) -> tuple[int, str, str]:
        return command(results, tmp_path / "home", "review", RESULTS, *arguments, token=TOKEN)

    status, said, errors = say("--merge")
    assert status == 1 and "changes are needed: level recomputed is required" in said
    assert errors.strip() == "rh-bench: 1 of 1 pull requests not accepted"
    status, said, errors = say("--merge", "--require", "valid")
    assert status == 0, errors
    repo = results.repo("datasets", RESULTS)
    assert f"accepted in commit {repo.branches['main']}" in said
    assert say()[:2] == (0, "no open pull requests\n")


def test_names_of_pull_requests() -> None:
    named = parse_pull("org/results#3")
    assert named is not None and (named[0].repo_id, named[1]) == ("org/results", 3)
    assert parse_pull("runs/a/b") is None and parse_pull("org/results#x") is None


def test_too_much_is_not_even_fetched() -> None:
    added = {f"{PLACE}/{name}": RemoteFile(f"{PLACE}/{name}", "h", 1 << 30) for name in SUBMITTED}
    place, problems = submission_problems(Difference("c", added, (), ()), {})
    assert place is not None and place.folder == PLACE and "bytes; at most" in problems[0]
    _, problems = submission_problems(Difference("c", {}, (), ()), {})
    assert problems == ["contains no run and no experiment"]
    many = {f"x{i}": RemoteFile(f"x{i}", "h", 1) for i in range(500)}
    assert len(submission_problems(Difference("c", many, (), ()), {})[1]) == 11
