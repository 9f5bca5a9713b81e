"""Reviewing pull requests: what they may touch, what is said and kept, and what is never merged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_runs import make_run
from hub_fixtures import RESULTS, empty_results, hub, owner, stranger
from loopback_hub import Blob
from loopback_pulls import open_pull
from loopback_write import WritableHub

from rh_bench.errors import CheckFailed, InputError
from rh_bench.hub_pulls import Difference
from rh_bench.hub_write import RemoteFile
from rh_bench.review import Found, Ways, parse_pull, review, submission_problems, verify_pull
from rh_bench.schema import validate_document
from rh_bench.submit import SUBMITTED, submit_run
from rh_bench.verify import Evidence

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
        (lambda tree: tree.update({"runs/a/../x": Blob(b"", lfs=False)}), "no file of a run"),
        (lambda tree: tree.update({"data/heads/heads-0.parquet": Blob(b"", lfs=True)}), "no file of a run"),
        (lambda tree: tree.update({f"{PLACE}/run.json": Blob(b"", lfs=False)}), "brings 2 runs"),
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


def test_changed_tables_are_caught(results: WritableHub, submitted: Path) -> None:
    place = f"runs/{submitted.parent.name}/{submitted.name}/events.parquet"
    forge(submitted, results, lambda tree: tree.update({place: Blob(b"PAR1", lfs=True)}))
    (found,) = reviewed(results, merge=True)
    assert evidence_is_missing(found) == [False, None, None]
    assert not found.merged


def test_a_change_during_the_merge_gets_no_badge(results: WritableHub, submitted: Path) -> None:
    def meddle(hub: WritableHub) -> None:
        forge(submitted, hub, lambda tree: tree.update({"README.md": Blob(b"mine", lfs=False)}))

    results.meddle = meddle
    with pytest.raises(CheckFailed, match="changed while it was merged"):
        reviewed(results, merge=True, quiet=True)
    assert not any(path.startswith("verification/") for path in main_tree(results))


def test_a_pull_request_from_an_older_main_branch(results: WritableHub, submitted: Path) -> None:
    repo = results.repo("datasets", RESULTS)
    repo.commit(main_tree(results) | {"eval.yaml": Blob(b"name: x", lfs=False)})
    (found,) = reviewed(results, merge=True)
    assert found.merged and "eval.yaml" in main_tree(results), "what came meanwhile is not taken for removed"


def test_one_pull_request_by_its_number(results: WritableHub, submitted: Path) -> None:
    from rh_bench.hub import RepoRef

    found = verify_pull(RepoRef(RESULTS), 1, Evidence(), owner(results))
    assert evidence_is_missing(found)[0] is True and said(results) == []
    with pytest.raises(InputError, match="no open pull request 7"):
        verify_pull(RepoRef(RESULTS), 7, Evidence(), owner(results))


def test_names_of_pull_requests() -> None:
    named = parse_pull("org/results#3")
    assert named is not None and (named[0].repo_id, named[1]) == ("org/results", 3)
    assert parse_pull("runs/a/b") is None and parse_pull("org/results#x") is None


def test_too_much_is_not_even_fetched() -> None:
    added = {f"{PLACE}/{name}": RemoteFile(f"{PLACE}/{name}", "h", 1 << 30) for name in SUBMITTED}
    place, problems = submission_problems(Difference("c", added, (), ()), {})
    assert place == PLACE and "bytes, at most" in problems[0]
    _, problems = submission_problems(Difference("c", {}, (), ()), {})
    assert problems == ["brings no run"]
    many = {f"x{i}": RemoteFile(f"x{i}", "h", 1) for i in range(500)}
    assert len(submission_problems(Difference("c", many, (), ()), {})[1]) == 11
