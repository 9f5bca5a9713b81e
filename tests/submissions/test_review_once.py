"""One draw a submission: recorded before anything is measured, used by every later review, and judged once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_runs import make_run
from hub_fixtures import RESULTS, empty_results, hub, owner, stranger
from loopback_hub import Blob
from loopback_pulls import open_pull
from loopback_write import WritableHub
from review_answers import answering, levels, main_tree, records, written_anew

from rh_bench.artifacts.levels import Evidence
from rh_bench.errors import InputError
from rh_bench.submissions.judgement import open_judgement
from rh_bench.submissions.place import SUBMITTED
from rh_bench.submissions.review import Ways, review
from rh_bench.submissions.review_report import Found
from rh_bench.submissions.submit import submit_run
from rh_bench.system.files import sha256_file
from rh_bench.system.schema import dump_json
from rh_bench.verification.sandbox import Examined

pytestmark = pytest.mark.slow

__all__ = ["hub"]


@pytest.fixture
def results(hub: WritableHub, tmp_path: Path) -> WritableHub:
    empty_results(hub, tmp_path)
    return hub


@pytest.fixture
def run(results: WritableHub, tmp_path: Path) -> Path:
    run = make_run(tmp_path / "runs", n_samples=40)
    submit_run(run, RESULTS, access=stranger(results))
    return run


def reviewed(hub: WritableHub, **ways: object) -> list[Found]:
    chosen = {"merge": True, "require": "valid", "rerun": 4, **ways}
    return list(review(RESULTS, Ways(**chosen), access=owner(hub)))  # type: ignore[arg-type]


def nicer(run: Path) -> Path:
    """Better numbers, with the hash made to fit: *recomputed* fails."""
    summary = json.loads((run / "summary.json").read_text())
    summary["sparsity"]["gini"]["value"] = 0.123
    (run / "summary.json").write_bytes(dump_json(summary))
    document = json.loads((run / "run.json").read_text())
    document["files"]["summary.json"] = sha256_file(run / "summary.json")
    (run / "run.json").write_bytes(dump_json(document))
    return run


def change(run: Path) -> Path:
    """Other bytes of the same run."""
    document = json.loads((run / "run.json").read_text())
    document["timings"]["seconds"] += 1
    (run / "run.json").write_bytes(dump_json(document))
    return run


def test_the_draw_is_there_before_anything_is_measured(
    results: WritableHub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reviewer that is killed has used up the draw; the next one goes on with the same, whatever it is told."""
    seen = []

    def killed(folder: Path, evidence: Evidence) -> Examined:
        seen.extend(records(results))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        asked = answering(patch, killed)
        with pytest.raises(KeyboardInterrupt):
            reviewed(results)
    assert (
        (seen[0]["draw"]["salt"], seen[0]["draw"]["samples"]) == (asked[0].salt, asked[0].rerun) == (asked[0].salt, 4)
    )
    assert seen[0]["verdict"] is None and seen[0]["sha256"] == sha256_file(run / "run.json")
    assert seen[0]["author"] == "stranger" and seen[0]["model"]["id"] == "acme/tiny-1"
    (found,) = reviewed(results, rerun=16)
    assert found.draw is not None and (found.draw.salt, found.draw.samples) == (asked[0].salt, 4)
    (record,) = records(results)
    assert found.merged and record["verdict"]["outcome"] == "taken in" and record["draw"] == seen[0]["draw"]
    repo = results.repo("datasets", RESULTS)
    before = repo.commits[repo.parents[repo.branches["main"]] or ""]
    assert not [path for path in before if path.startswith("runs/")], "the run and its verdict came in one commit"


def test_a_look_judges_nothing(results: WritableHub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, levels(True, True, True))
    looks = [reviewed(results, merge=False)[0] for _ in range(2)]
    assert looks[0].salt != looks[1].salt and records(results) == []
    assert set(main_tree(results)) == {"README.md"}
    events = results.repo("datasets", RESULTS).pulls[1].events
    assert sum("This is only a look" in str(event) for event in events) == 1


def test_a_look_uses_the_draw_that_is_there(results: WritableHub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        answering(patch, levels(True, None, None))
        (judged,) = reviewed(results, require="rerun")
    (looked,) = reviewed(results, merge=False, rerun=9)
    assert (looked.salt, looked.draw and looked.draw.samples) == (judged.salt, 4)


def test_the_same_bytes_are_judged_once(results: WritableHub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever brings them, in whichever pull request, with whichever number of samples."""
    nicer(run)
    submit_run(run, RESULTS, access=stranger(results))
    (found,) = reviewed(results)
    assert found.outcome == "refused" and not found.merged
    (record,) = records(results)
    assert record["verdict"]["reasons"] == ["recomputed: summary.json is not what the events give"]
    submit_run(run, RESULTS, access=owner(results))
    repo = results.repo("datasets", RESULTS)
    before = repo.branches["main"]
    with monkeypatch.context() as patch:
        asked = answering(patch, levels(True, True, True))
        for merge in (True, True, False):
            both = reviewed(results, rerun=32, merge=merge)
            assert [one.outcome for one in both] == ["refused", "refused"] and asked == []
            assert all(one.failed and "already judged in pull request 1" in one.problems[0] for one in both)
    assert repo.branches["main"] == before
    assert "was judged before" in str(repo.pulls[2].events)


def test_each_further_submission_takes_twice_as_many(
    results: WritableHub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, levels(True, True, False))
    counts = []
    for _ in range(5):
        submit_run(change(run), RESULTS, access=stranger(results))
        (found,) = reviewed(results)
        assert found.outcome == "refused" and found.draw is not None
        counts.append(found.draw.samples)
    assert counts == [4, 8, 16, 32, 40], "up to all"


def test_another_id_by_another_protocol_does_not_begin_anew(
    results: WritableHub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, levels(True, True, False))
    assert reviewed(results)[0].outcome == "refused"
    other = written_anew(make_run(tmp_path / "other", n_samples=40), tmp_path / "new", lambda result: result)
    assert other.name != run.name
    submit_run(other, RESULTS, access=stranger(results))
    _, found = reviewed(results)
    assert found.draw is not None and found.draw.samples == 8


def test_what_could_not_be_tried_is_no_verdict(
    results: WritableHub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        asked = answering(patch, levels(True, None, None, reason="could not be tried here: the Hub cannot be reached"))
        for _ in range(2):
            (found,) = reviewed(results, require="rerun")
            assert found.outcome is None and not found.merged
        assert len({(one.salt, one.rerun) for one in asked}) == 1
    assert [record["verdict"] for record in records(results)] == [None]

    def unreachable(folder: Path, evidence: Evidence) -> Examined:
        raise InputError("the Hub cannot be reached")

    with monkeypatch.context() as patch:
        answering(patch, unreachable)
        assert reviewed(results)[0].problems == ("could not be verified here: the Hub cannot be reached",)
    assert [record["verdict"] for record in records(results)] == [None]
    assert reviewed(results)[0].salt == asked[0].salt


def test_what_takes_too_much_is_set_aside(results: WritableHub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        asked = answering(patch, levels(True, None, None, exceeded="clock"))
        (found,) = reviewed(results, require="recomputed")
        assert found.outcome == "set aside"
        (found,) = reviewed(results, require="recomputed")
        assert found.outcome == "set aside" and len(asked) == 1, "only when told to"
    (found,) = reviewed(results, again=True, rerun=9)
    assert found.merged and (found.salt, found.draw and found.draw.samples) == (asked[0].salt, 4)
    (record,) = records(results)
    assert record["verdict"]["outcome"] == "taken in"


def test_what_was_refused_is_not_judged_again_by_any_option(
    results: WritableHub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, levels(True, False, None))
    reviewed(results)
    (found,) = reviewed(results, again=True)
    assert found.outcome == "refused" and found.verification is None


def test_a_salt_by_hand_only_where_none_was_drawn(
    results: WritableHub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        asked = answering(patch, levels(True, None, None))
        reviewed(results, require="rerun", salt="mine")
        assert [one.salt for one in asked] == ["mine"] and records(results)[0]["draw"]["salt"] == "mine"
        (found,) = reviewed(results, require="rerun", salt="another")
        assert "leave out --salt" in found.problems[0] and len(asked) == 1
        reviewed(results, require="rerun", salt="mine")
        assert [one.salt for one in asked] == ["mine", "mine"]
    with pytest.raises(InputError, match="is not a salt"):
        reviewed(results, salt="x" * 201)


def test_two_reviewers_use_one_draw(results: WritableHub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one was faster: between the look at the records and the commit."""

    def meddle(hub: WritableHub) -> None:
        submission = {**made, "draw": {"salt": "theirs", "samples": 7, "date": "2026-01-01T00:00:00Z", "rh_bench": "1"}}
        path = f"judgements/{submission['place']}/{submission['sha256']}.json"
        tree = main_tree(hub) | {path: Blob(dump_json(submission), lfs=False)}
        hub.repo("datasets", RESULTS).commit(tree)

    answering(monkeypatch, levels(True, True, True))
    (looked,) = reviewed(results, merge=False, quiet=True)
    assert looked.submission is not None
    made = open_judgement(looked.submission).to_json()
    results.meddle = meddle
    (found,) = reviewed(results)
    assert found.merged and (found.salt, found.draw and found.draw.samples) == ("theirs", 7)


def test_a_run_json_of_somebody_elses_run_is_not_burnt(results: WritableHub, run: Path) -> None:
    """An honest run's document with other tables is refused without a word in the records."""
    repo = results.repo("datasets", RESULTS)
    place = f"runs/{run.parent.name}/{run.name}"
    tree = dict(repo.commits[repo.branches["refs/pr/1"]])
    open_pull(repo, "Mine", "somebody")
    repo.commit(tree | {f"{place}/events.parquet": Blob(b"PAR1", lfs=True)}, "refs/pr/2", parent=repo.branches["main"])
    moved = {path.replace(run.name, "f" * 16): blob for path, blob in tree.items()}
    open_pull(repo, "Elsewhere", "somebody")
    repo.commit(moved, "refs/pr/3", parent=repo.branches["main"])
    repo.pulls[1].status = "closed"
    assert len(SUBMITTED) == 5
    first, second = reviewed(results)
    assert "is not the one that run.json names" in first.problems[0]
    assert "which is not the folder that run.json names" in second.problems[0]
    assert records(results) == []
    repo.pulls[1].status = "open"
    found, *_ = reviewed(results)
    assert found.merged


def test_a_record_that_was_damaged_stops_its_submission(results: WritableHub, run: Path) -> None:
    path = f"judgements/runs/{run.parent.name}/{run.name}/{'a' * 64}.json"
    results.repo("datasets", RESULTS).commit(main_tree(results) | {path: Blob(b"{}", lfs=False)})
    (found,) = reviewed(results)
    assert not found.merged and path in found.problems[0]


@pytest.mark.parametrize("status", [409, 412, 503, 0, 1])
def test_records_are_written_once_whatever_breaks(
    results: WritableHub, run: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, levels(True, True, True))
    results.failures = [(r"POST .*/commit/main", status)] * 2
    (found,) = reviewed(results)
    assert found.merged and results.failures == []
    repo = results.repo("datasets", RESULTS)
    assert len(repo.parents) == 4, "the first commit, the pull request's, the draw, and the run with its verdict"
