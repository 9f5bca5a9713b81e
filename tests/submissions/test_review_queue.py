"""One pull request keeps no other from being reviewed: whatever is wrong with it is answered, and they follow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_runs import make_run
from hub_fixtures import RESULTS, commands_ask, empty_results, hub, owner, stranger
from loopback_hub import Blob
from loopback_write import STRANGER, WritableHub
from review_answers import answering, levels, main_tree, records

from rh_bench.artifacts.levels import Evidence
from rh_bench.cli.main import main
from rh_bench.errors import InputError
from rh_bench.submissions.review import Ways, review
from rh_bench.submissions.review_report import Found
from rh_bench.submissions.submit import submit_run
from rh_bench.system.faults import OUR_FAULT
from rh_bench.verification.sandbox import Examined

__all__ = ["hub"]


@pytest.fixture
def queue(hub: WritableHub, tmp_path: Path) -> WritableHub:
    """Three pull requests, of which something is wrong with the first."""
    empty_results(hub, tmp_path)
    for seed in range(3):
        run = make_run(tmp_path / "runs", model_id=f"acme/m{seed}", n_samples=12 + seed)
        submit_run(run, RESULTS, access=stranger(hub))
    return hub


def reviewed(hub: WritableHub, **ways: object) -> list[Found]:
    chosen = {"merge": True, "require": "valid", **ways}
    return list(review(RESULTS, Ways(**chosen), access=owner(hub)))  # type: ignore[arg-type]


def said(hub: WritableHub, num: int) -> str:
    return str([e for e in hub.repo("datasets", RESULTS).pulls[num].events if e["author"]["name"] == "owner"])


def forge(hub: WritableHub, num: int, **files: bytes) -> None:
    repo = hub.repo("datasets", RESULTS)
    tree = dict(repo.commits[repo.branches[f"refs/pr/{num}"]])
    for path in list(tree):
        for name, content in files.items():
            if path.endswith(f"{name}.json"):
                tree[path] = Blob(content, lfs=False)
    repo.commit(tree, f"refs/pr/{num}")


GOOD = levels(True, True, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (levels(True, False, None, exceeded="clock"), "Set aside"),
        (levels(True, False, None), "These files are not judged again"),
    ],
)
def test_limits_and_failures(queue: WritableHub, monkeypatch: pytest.MonkeyPatch, answer: object, words: str) -> None:
    first = []

    def verify(folder: Path, evidence: Evidence) -> Examined:
        first.append(folder)
        return answer(folder, evidence) if len(first) == 1 else GOOD(folder, evidence)  # type: ignore[operator]

    answering(monkeypatch, verify)
    found = reviewed(queue, require="recomputed")
    assert [one.merged for one in found] == [False, True, True]
    assert words in said(queue, 1) and found[0].said
    assert records(queue)[0]["verdict"]["outcome"] == found[0].outcome is not None


@pytest.mark.slow
def test_a_fault_of_ours(
    queue: WritableHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is set aside, the others are reviewed, and the exit status says whose fault it was."""
    calls = []

    def verify(folder: Path, evidence: Evidence) -> Examined:
        calls.append(folder)
        if len(calls) == 1:
            raise RuntimeError("verifying ended with status 1")
        return GOOD(folder, evidence)

    answering(monkeypatch, verify)
    commands_ask(queue, monkeypatch)
    assert main(["review", RESULTS, "--merge", "--require", "valid", "--json"]) == OUR_FAULT
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert [one["merged"] for one in found] == [False, True, True]
    assert "RuntimeError" in found[0]["fault"] and found[0]["outcome"] == "set aside"
    assert "this is a bug in rh-bench" in shown.err and "Traceback" not in shown.err
    assert "because of a bug in rh-bench" in said(queue, 1)
    assert main(["review", RESULTS, "--merge", "--require", "valid"]) == 1, "and it is not run into a second time"


@pytest.mark.slow
def test_a_fault_anywhere_else(queue: WritableHub, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, GOOD)
    calls = []

    def broken(*args: object) -> object:
        calls.append(args)
        if len(calls) == 1:
            raise ZeroDivisionError
        from rh_bench.submissions.submission import look_at

        return look_at(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("rh_bench.submissions.review.look_at", broken)
    found = reviewed(queue)
    assert isinstance(found[0].fault, ZeroDivisionError) and found[0].failed
    assert [one.merged for one in found] == [False, True, True]


@pytest.mark.slow
@pytest.mark.parametrize(
    "content", [b"", b"[1, 2]", b"{}", b"\xff\xfe", b'{"files": 3}', b"[" * 100_000, b"null", b"{" * 9]
)
def test_a_run_json_that_is_none(queue: WritableHub, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    def verify(folder: Path, evidence: Evidence) -> Examined:
        broken = (folder / "run.json").read_bytes() == content
        return (levels(False, None, None) if broken else GOOD)(folder, evidence)

    answering(monkeypatch, verify)
    forge(queue, 1, run=content)
    found = reviewed(queue)
    assert [one.merged for one in found] == [False, True, True]
    assert found[0].failed and found[0].fault is None and found[0].said


@pytest.mark.slow
@pytest.mark.parametrize("route", ["GET .*/commits/refs%2Fpr%2F1", "GET .*/tree/{head}", "HEAD .*/resolve/{head}/"])
@pytest.mark.parametrize("answer", [403, b"[1, 2]", b"<html>"])
def test_a_pull_request_that_cannot_be_had(
    queue: WritableHub, monkeypatch: pytest.MonkeyPatch, route: str, answer: int | bytes
) -> None:
    answering(monkeypatch, GOOD)
    pattern = route.format(head=queue.repo("datasets", RESULTS).branches["refs/pr/1"])
    if isinstance(answer, int):
        queue.failures = [(pattern, answer)] * 20
    else:
        queue.instead = {pattern: answer}
    found = reviewed(queue)
    assert [one.merged for one in found] == [False, True, True]
    assert found[0].problems and found[0].fault is None and "\n" not in found[0].problems[0]


@pytest.mark.slow
def test_a_pull_request_that_nothing_can_be_said_on(queue: WritableHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found of it, and that it was taken in, is told all the same."""
    answering(monkeypatch, GOOD)
    queue.failures = [("POST .*/discussions/1/comment", 403)]
    found = reviewed(queue)
    assert [one.merged for one in found] == [True, True, True]
    assert found[0].unsaid is not None and "does not let you write" in found[0].unsaid and not found[0].said


@pytest.mark.slow
def test_who_may_not_write_is_told_once(queue: WritableHub, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, GOOD)
    before = main_tree(queue)
    with pytest.raises(InputError, match="does not let you write here"):
        list(review(RESULTS, Ways(merge=True, require="valid", rerun=2), access=stranger(queue)))
    assert main_tree(queue) == before and STRANGER not in said(queue, 1)
