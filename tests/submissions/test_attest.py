"""Attested runs: ordered, made by a job, shown by what the Hub says of it; and each way of pretending refused."""

from __future__ import annotations

import copy
import io
import json
import logging
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from fake_runs import make_document, make_layers, make_run
from hub_fixtures import RESULTS, command, commands_ask, empty_results, hub, owner, stranger
from loopback_hub import Blob
from loopback_jobs import HubJob, carry_out, finish
from loopback_write import ROBOT, TOKEN, WritableHub
from tiny import tiny_checkpoint

from rh_bench.cli.main import main
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.errors import InputError
from rh_bench.hub.refs import RepoRef
from rh_bench.sets.grids import choose_grid
from rh_bench.submissions import attest
from rh_bench.submissions.attest import Wish, look_into, make_order
from rh_bench.submissions.attest_order import INSTALL, MARK, Order, last_line, order_path, package_sha256, read_order
from rh_bench.submissions.attested_run import Errand, run_attested
from rh_bench.submissions.review import Ways, review
from rh_bench.submissions.review_report import Found
from rh_bench.submissions.submit import submit_run
from rh_bench.system.files import sha256_file
from rh_bench.system.schema import dump_json, validate_document

pytestmark = pytest.mark.slow

__all__ = ["hub"]
MODEL, SET = "acme/tiny-1", "org/niah"
IMAGE = f"org/rh-bench@sha256:{'d' * 64}"
REF = RepoRef(RESULTS)
WISH = Wish(MODEL, SET, RESULTS, IMAGE)


def main_tree(hub: WritableHub) -> dict[str, Blob]:
    repo = hub.repo("datasets", RESULTS)
    return repo.commits[repo.branches["main"]]


@pytest.fixture
def results(hub: WritableHub, tmp_path: Path) -> WritableHub:
    """A results repository, and a model and a set by name; nobody loads the one or reads the other."""
    empty_results(hub, tmp_path)
    for kind, name, file in (("models", MODEL, "config.json"), ("datasets", SET, "manifest.json")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / file).write_text("{}")
        hub.add(kind, name, tmp_path / name)  # type: ignore[arg-type]
    return hub


@pytest.fixture
def order(results: WritableHub) -> Order:
    """An order whose job is running."""
    return attest.carry_out(make_order(WISH, owner(results)), ROBOT, owner(results)).order


def job_of(hub: WritableHub, order: Order) -> HubJob:
    assert order.started is not None
    return hub.jobs[order.started.job]


def claim_of(order: Order) -> dict[str, Any]:
    return {
        "nonce": order.nonce,
        "namespace": order.namespace,
        "job": order.started.job if order.started else None,
        "image": order.image,
        "accelerator": "none",
        "package_sha256": order.package_sha256,
    }


def made_by(order: Order, root: Path, **changes: Any) -> Path:
    """A run as the job of an order makes it, with fields of run.json changed."""
    base = make_document(make_layers(4, 4, 2), order.model[0])
    fields: dict[str, Any] = {
        "schema_version": "1.4",
        "model": base["model"] | {"revision": order.model[1]},
        "haystack": base["haystack"] | {"location": order.haystack[0], "revision": order.haystack[1]},
        "environment": base["environment"] | {"rh_bench": order.version},
        "attestation": claim_of(order),
    }
    return make_run(root, model_id=order.model[0], **{**fields, **changes})


def end_job(hub: WritableHub, order: Order, run: Path) -> HubJob:
    """The order's job, as it is when it has submitted a run."""
    job = job_of(hub, order)
    job.log = ["===== Job started at …", "measuring", last_line(order.nonce, sha256_file(run / "run.json"))]
    finish(job)
    return job


def reviewed(hub: WritableHub, **ways: Any) -> Found:
    (found,) = review(
        RESULTS, Ways(**{"merge": True, "require": "valid", "attest": ("org",), **ways}), access=owner(hub)
    )
    return found


def seen(hub: WritableHub, run: Path, trusted: tuple[str, ...] = ("org",)) -> tuple[bool | None, str]:
    found = look_into(run, REF, trusted, owner(hub))
    return found.reached, "; ".join(found.level.reasons)


# --- An honest run. ---


@pytest.mark.slow
def test_from_the_order_to_the_site(hub: WritableHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the commands: the job runs the very command that the Hub was told, in a process of its own."""
    empty_results(hub, tmp_path)
    hub.add("models", MODEL, tiny_checkpoint(tmp_path / "model"))
    build_set(Recipe(parse_source("synthetic"), choose_grid("quick", "300", "0,100"), needle_count=2), tmp_path / "set")
    hub.add("datasets", SET, tmp_path / "set")
    heard: list[str] = []

    def say(*words: object, status: int = 0) -> str:
        found, said, errors = command(hub, tmp_path / "home", *words, token=TOKEN)
        heard.append(said + errors)
        assert found == status, f"{words}: {found}\n{said}\n{errors[-3000:]}"
        return said

    monkeypatch.setenv("RH_BENCH_JOB_TOKEN", ROBOT)
    what = [MODEL, "--haystack", SET, "--repo", RESULTS, "--image", IMAGE, "--dtype", "float32"]
    dry = say("attest", *what, "--dry-run")
    assert "run-attested" in dry and not hub.jobs and not any(p.startswith("attestations") for p in main_tree(hub))
    told = json.loads(say("attest", *what, "--json"))
    order, (job,) = told["order"], hub.jobs.values()
    assert job.spec["command"] == order["command"] and job.spec["secrets"] == {"HF_TOKEN": ROBOT}
    assert json.loads(main_tree(hub)[f"attestations/{order['nonce']}.json"].content) == order
    assert validate_document(order, "attestation") == [] and order["job"]["id"] == job.id
    assert carry_out(hub, job, tmp_path / "job-home") == 0, job.log
    assert job.log[-1].startswith(f"{MARK} 1 {order['nonce']} ")

    ways = ["--device", "cpu", "--rerun", "4", "--merge", "--attest", "org", "--json"]
    (found,) = json.loads(say("review", RESULTS, *ways))
    assert found["merged"] and found["author"] == "robot" and found["attested"]["reached"]
    assert [level["reached"] for level in found["levels"]] == [True, True, True], "beside the levels, and for none"
    (record,) = [json.loads(b.content) for p, b in main_tree(hub).items() if p.startswith("verification/")]
    assert validate_document(record, "verification") == [] and record["attestation"]["job"] == job.id

    report = json.loads(say("collect", RESULTS, "--out", tmp_path / "results", "--json"))
    assert (report["runs"], report["left_out"]) == (1, [])
    assert (tmp_path / "results" / "attestations" / f"{order['nonce']}.json").is_file()
    say("publish", tmp_path / "results", "--repo", RESULTS)
    assert f"attestations/{order['nonce']}.json" in main_tree(hub)
    import pyarrow.parquet as pq

    (row,) = pq.read_table(tmp_path / "results" / "data" / "models" / "models.parquet").to_pylist()
    assert (row["verified"], row["attested"]) == ("rerun", f"org/{job.id}")
    say("leaderboard", RESULTS, "--out", tmp_path / "site")
    page = next((tmp_path / "site" / "models").rglob("*.html")).read_text()
    assert 'class="badge attested"' in page and f"Job {job.id} of org" in page and 'class="badge rerun"' in page

    run = next((tmp_path / "results" / "runs").glob("*/*"))
    said = say("verify", run, "--attest", "org", "--results", RESULTS)
    assert "attested: yes" in said
    whole = "".join(heard) + "\n".join(job.log)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    on_the_hub = b"".join(
        blob.content for repo in hub.repos.values() for t in repo.commits.values() for blob in t.values()
    )
    for token in (ROBOT, TOKEN):
        assert token not in whole and token.encode() not in written + on_the_hub


# --- What waits. ---


def test_a_job_that_still_runs_is_waited_for(results: WritableHub, order: Order, tmp_path: Path) -> None:
    """The job submits before it ends: taken in now, its run would never be attested."""
    run = made_by(order, tmp_path / "r")
    submit_run(run, RESULTS, access=stranger(results))
    job_of(results, order).described["status"]["stage"] = "RUNNING"
    found = reviewed(results)
    assert not found.merged and found.verdict is None and found.waits
    pull = results.repo("datasets", RESULTS).pulls[1]
    assert pull.status == "open" and "Waiting" in str(pull.events[-1])
    end_job(results, order, run)
    found = reviewed(results)
    assert found.merged and found.attested is not None and found.attested.reached
    assert found.verification is not None and [x.reached for x in found.verification.levels] == [True, None, None]
    assert "**attested**: ✅ yes" in found.to_markdown()


UNSEEN: tuple[tuple[Callable[[HubJob], object], str], ...] = (
    (lambda job: setattr(job, "gone", True), "cannot be read with this token, or no longer exists"),
    (lambda job: job.described["status"].update(stage="SCHEDULING"), "its job is still running"),
    (lambda job: job.described["status"].update(stage="PAUSED"), "in an unknown stage: PAUSED"),
    (lambda job: job.log.clear(), "the Hub has no log of its job"),
)


def test_what_cannot_be_seen_is_not_shown(results: WritableHub, order: Order, tmp_path: Path) -> None:
    run = made_by(order, tmp_path / "r")
    job = end_job(results, order, run)
    as_ordered = copy.deepcopy((job.described, job.log))
    for happens, words in UNSEEN:
        (job.described, job.log), job.gone = copy.deepcopy(as_ordered), False
        happens(job)
        reached, said = seen(results, run)
        assert reached is None and words in said, said


def test_a_namespace_that_nobody_believes(results: WritableHub, order: Order, tmp_path: Path) -> None:
    run = made_by(order, tmp_path / "r")
    end_job(results, order, run)
    reached, said = seen(results, run, ("owner",))
    assert reached is None and "jobs of org are not trusted here" in said


def test_who_is_no_member_sees_nothing(results: WritableHub, order: Order, tmp_path: Path) -> None:
    """What a submitter's own job did can be shown to nobody else: its record and log are for its members."""
    run = made_by(order, tmp_path / "r")
    end_job(results, order, run)
    found = look_into(run, REF, ("org",), stranger(results))
    assert found.reached is None and "a member of org can read its jobs" in found.level.reasons[0]


def test_a_run_without_an_attestation(results: WritableHub, tmp_path: Path) -> None:
    run = make_run(tmp_path / "r")
    submit_run(run, RESULTS, access=stranger(results))
    found = reviewed(results)
    assert found.merged and found.attested is not None and not found.attested.claimed
    assert found.attested.proof is None and found.attested.reached is None


# --- What is refused. ---


def other_job(job: HubJob, **changes: Any) -> None:
    job.described |= changes


OTHER = f"org/rh-bench@sha256:{'e' * 64}"
JOBS: dict[str, tuple[Callable[[HubJob], object], str]] = {
    "another image": (lambda job: other_job(job, dockerImage=OTHER), "the job's image is not what was ordered"),
    "an image by its tag": (lambda job: other_job(job, dockerImage="org/rh-bench:latest"), "image is not what"),
    "a Space": (lambda job: other_job(job, dockerImage=None, spaceId="org/space"), "Space org/space"),
    "another word in the command": (
        lambda job: other_job(job, command=[*job.described["command"][:-1], "x"]),
        "the job's command is not what was ordered: word",
    ),
    "more words": (lambda job: other_job(job, command=[*job.described["command"], "--limit", "1"]), "it has"),
    "arguments": (lambda job: other_job(job, arguments=["--limit", "1"]), "command is not what was ordered"),
    "a shell around it": (lambda job: other_job(job, command=["sh", "-c", "x"]), "word 0 is sh, not rh-bench"),
    "variables": (lambda job: other_job(job, environment={"PYTHONPATH": "/x"}), "it differs in PYTHONPATH"),
    "more secrets": (lambda job: other_job(job, secrets=["HF_TOKEN", "X"]), "secrets is not what was ordered"),
    "no secret": (lambda job: other_job(job, secrets=[]), "secrets is not what was ordered"),
    "another machine": (lambda job: other_job(job, flavor="h200"), "flavor is not what was ordered"),
    "a volume": (
        lambda job: other_job(job, volumes=[{"type": "bucket", "source": "org/b", "mountPath": "/x"}]),
        "the job has volumes",
    ),
    "open ports": (lambda job: other_job(job, expose={"ports": [1], "portsPublic": []}), "the job has ports"),
    "a network": (lambda job: other_job(job, network={"group": "x"}), "the job has a network"),
    "SSH": (lambda job: job.described["status"].update(sshUrl="ssh://x"), "the job has SSH"),
    "tries": (lambda job: other_job(job, retry=2), "the job has retries"),
    "a schedule": (
        lambda job: other_job(job, initiator={"type": "scheduled-job", "id": "1"}),
        "not started for its order, but by a scheduled-job",
    ),
    "another owner": (
        lambda job: other_job(job, owner={"id": "0" * 24, "name": "renamed", "type": "org"}),
        "the job belongs to renamed, not org as ordered",
    ),
    "a name that somebody else has now": (
        lambda job: other_job(job, owner={"id": "9" * 24, "name": "org", "type": "org"}),
        "belongs to another org than the one that started it",
    ),
    "an error": (lambda job: finish(job, "ERROR"), "did not complete: ERROR"),
    "cancelled": (lambda job: finish(job, "CANCELED"), "did not complete: CANCELED"),
    "deleted": (lambda job: finish(job, "DELETED"), "did not complete: DELETED"),
    "no last line": (lambda job: job.log.pop(), "does not report at its end what it measured"),
    "words after the last line": (lambda job: job.log.append("more"), "does not report at its end what it measured"),
    "said twice": (lambda job: job.log.insert(0, job.log[-1]), "reports more than once what it measured"),
    "a line of the model's before": (
        lambda job: job.log.insert(1, last_line("0" * 32, "0" * 64)),
        "reports more than once what it measured",
    ),
    "another nonce": (
        lambda job: job.log.__setitem__(-1, last_line("0" * 32, job.log[-1].split()[-1])),
        "measured something other than this run",
    ),
}


def test_a_job_that_is_not_the_one_ordered(results: WritableHub, order: Order, tmp_path: Path) -> None:
    run = made_by(order, tmp_path / "r")
    job = end_job(results, order, run)
    as_ordered = copy.deepcopy((job.described, job.log))
    assert seen(results, run)[0] is True
    for name, (happens, words) in JOBS.items():
        job.described, job.log = copy.deepcopy(as_ordered)
        happens(job)
        reached, said = seen(results, run)
        assert reached is False and words in said and "\n" not in said, (name, said)


def test_a_job_of_another_run(results: WritableHub, order: Order, tmp_path: Path) -> None:
    """Replayed: the job is real, and made another run than the one that is brought with its name."""
    end_job(results, order, made_by(order, tmp_path / "honest"))
    forged = made_by(order, tmp_path / "forged", seed=7)
    submit_run(forged, RESULTS, access=stranger(results))
    found = reviewed(results)
    assert found.outcome == "refused" and not found.merged
    assert found.problems == ("attested: its job reports at its end that it measured something other than this run",)
    assert not any(path.startswith("runs/") for path in main_tree(results))


GRID = {"kind": "set", "lengths": None, "depths": None, "needles": None, "limit": 3}
RUNS: dict[str, tuple[Callable[[Order, dict[str, Any]], dict[str, Any]], str]] = {
    "an order of nobody": (
        lambda order, run: {"attestation": claim_of(order) | {"nonce": "0" * 32}},
        "org/results has no order 00000000000000000000000000000000",
    ),
    "another job": (lambda order, run: {"attestation": claim_of(order) | {"job": "1" * 24}}, "names another job than"),
    "another image": (lambda order, run: {"attestation": claim_of(order) | {"image": OTHER}}, "its image is"),
    "another namespace": (
        lambda order, run: {"attestation": claim_of(order) | {"namespace": "stranger"}},
        "its namespace is stranger, not org as ordered",
    ),
    "another source": (
        lambda order, run: {"attestation": claim_of(order) | {"package_sha256": "0" * 64}},
        "its source of rh_bench is",
    ),
    "another revision": (
        lambda order, run: {"model": run["model"] | {"revision": "e" * 40}},
        "its revision of the model is",
    ),
    "a model of that name from a folder": (
        lambda order, run: {"model": run["model"] | {"revision": order.model[1], "source": "folder"}},
        "its model is folder acme/tiny-1, not hub acme/tiny-1 as ordered",
    ),
    "another set": (
        lambda order, run: {"haystack": run["haystack"] | {"location": SET, "revision": "e" * 40}},
        "its revision of the set is",
    ),
    "some of the samples": (lambda order, run: {"protocol": run["protocol"] | {"grid": GRID}}, "its samples is set"),
    "another version": (
        lambda order, run: {"environment": run["environment"] | {"rh_bench": "9.9"}},
        "its version of rh_bench is 9.9",
    ),
}


def test_a_run_that_was_not_ordered(results: WritableHub, order: Order, tmp_path: Path) -> None:
    base = make_document(make_layers(4, 4, 2), order.model[0])
    for place, (name, (changed, words)) in enumerate(RUNS.items()):
        run = made_by(order, tmp_path / str(place), **changed(order, base))
        end_job(results, order, run)
        reached, said = seen(results, run)
        assert reached is False and words in said, (name, said)


def test_an_order_cannot_be_brought_by_a_pull_request(results: WritableHub, order: Order, tmp_path: Path) -> None:
    run = made_by(order, tmp_path / "r")
    submit_run(run, RESULTS, access=stranger(results))
    repo = results.repo("datasets", RESULTS)
    tree = dict(repo.commits[repo.branches["refs/pr/1"]])
    tree[order_path("1" * 32)] = Blob(dump_json(order.to_json()), lfs=False)
    repo.commit(tree, "refs/pr/1")
    assert "which is not a file of a run" in reviewed(results).problems[0]


def test_an_order_that_was_damaged_is_no_proof(results: WritableHub, order: Order, tmp_path: Path) -> None:
    run = made_by(order, tmp_path / "r")
    end_job(results, order, run)
    repo, document = results.repo("datasets", RESULTS), order.to_json()
    for changed, words in (
        (document | {"nonce": "1" * 32}, "is an order with another name"),
        (document | {"recipe": 2}, "ordered with a recipe other than"),
        (document | {"command": ["true"]}, "ordered with a recipe other than"),
        (document | {"image": "python:3.12"}, "/image"),
        ({"schema": "rh_bench/attestation"}, "/schema_version"),
    ):
        repo.commit(dict(main_tree(results)) | {order.path: Blob(dump_json(changed), lfs=False)})
        reached, said = seen(results, run)
        assert reached is None and words in said and "\n" not in said


def test_a_run_that_is_not_valid_is_not_believed(results: WritableHub, order: Order, tmp_path: Path) -> None:
    run = made_by(order, tmp_path / "r")
    end_job(results, order, run)
    assert look_into(run, REF, ("org",), owner(results), valid=False).reached is None


def test_what_a_run_says_of_its_job_fits_the_schema(order: Order, tmp_path: Path) -> None:
    document = json.loads((made_by(order, tmp_path / "r") / "run.json").read_text())
    assert validate_document(document, "run") == []
    for field, value in (("nonce", "x"), ("image", "python:3.12"), ("job", "../x"), ("namespace", "a/b"), ("x", 1)):
        assert validate_document(document | {"attestation": document["attestation"] | {field: value}}, "run")


# --- Orders. ---


ORDER = (MODEL, "--haystack", SET, "--repo", RESULTS, "--image", IMAGE)
NO_ORDERS: tuple[tuple[tuple[str, ...], str], ...] = (
    ((*ORDER[:-1], "python:3.12"), "a tag can be moved to another image"),
    ((*ORDER[:-1], "x"), "is not an image with its digest"),
    (("./model", *ORDER[1:]), "is not a repository on the Hub"),
    (("acme/none", *ORDER[1:]), "the Hub has no model acme/none"),
    ((MODEL, "--haystack", "org/none", *ORDER[3:]), "the Hub has no dataset org/none"),
    ((MODEL, "--haystack", RESULTS, *ORDER[3:]), "is not a haystack set"),
    ((*ORDER, "--repo", "org/none"), "the Hub has no dataset org/none"),
    ((*ORDER, "--namespace", "a/b"), "is not a repository on the Hub"),
    ((*ORDER, "--timeout", "soon"), "is not a duration"),
    ((*ORDER, "--flavor", "a b"), "the order: /flavor"),
    ((*ORDER, "--thinking", "hard"), "--thinking"),
    ((*ORDER, "--requirements", "none.txt"), "none.txt: cannot be read"),
)
NO_TOKENS = (
    ("", "is not set"),
    (TOKEN, "is your own token"),
    ("hf x", "is not a token"),
    ("hf_é" * 9, "is not a token"),
)


@pytest.fixture
def told(
    results: WritableHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Gives the one line of `rh-bench attest` that ends with status 2; nothing was started or written."""
    commands_ask(results, monkeypatch)

    def say(*words: str, token: str = ROBOT) -> str:
        monkeypatch.setenv("RH_BENCH_JOB_TOKEN", token)
        before = dict(main_tree(results))
        assert main(["attest", *words]) == 2
        errors = capsys.readouterr().err
        assert errors.count("\n") == 1 and main_tree(results) == before and not results.jobs
        return errors

    return say


def test_what_cannot_be_ordered_is_one_line(told: Callable[..., str]) -> None:
    for words, said in NO_ORDERS:
        assert said in told(*words), words


def test_a_job_gets_a_token_of_its_own(told: Callable[..., str]) -> None:
    for token, said in NO_TOKENS:
        errors = told(*ORDER, token=token)
        assert said in errors and (not token or token not in errors)


def test_a_library_without_jobs_is_one_line(told: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(huggingface_hub.HfApi, "inspect_job")
    assert "does not support jobs" in told(*ORDER)


def test_adapters_are_not_ordered(results: WritableHub, tmp_path: Path) -> None:
    (tmp_path / MODEL / "adapter_config.json").write_text("{}")
    results.add("models", MODEL, tmp_path / MODEL)
    with pytest.raises(InputError, match="whose base no commit of its own names"):
        make_order(WISH, owner(results))


def test_a_library_that_shows_half_of_a_job_is_not_asked(
    results: WritableHub, order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made_by(order, tmp_path / "r")
    end_job(results, order, run)
    monkeypatch.delitem(huggingface_hub.JobInfo.__annotations__, "retry")
    reached, said = seen(results, run)
    assert reached is None and "does not show retry of a job; run: pip install" in said


def test_each_order_has_a_nonce_of_its_own(results: WritableHub, tmp_path: Path) -> None:
    first, second = (make_order(WISH, owner(results)) for _ in range(2))
    assert first.nonce != second.nonce and replace(first, nonce=second.nonce, date=second.date) == second
    (tmp_path / "order.json").write_bytes(dump_json(first.to_json()))
    assert read_order(tmp_path / "order.json", first.path) == first


def test_a_start_whose_answer_was_lost_starts_no_second_job(results: WritableHub) -> None:
    results.failures = [(r"POST /api/jobs/org", 1)]
    done = attest.carry_out(make_order(WISH, owner(results)), ROBOT, owner(results))
    assert list(results.jobs) == [done.order.started and done.order.started.job]


def test_no_token_in_what_the_library_logs(results: WritableHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """With HF_DEBUG it logs the bodies of requests, and the token of the job is in one."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_DEBUG", True)
    logger, heard = logging.getLogger("huggingface_hub"), io.StringIO()
    handler = logging.StreamHandler(heard)
    logger.addHandler(handler)
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    logging.getLogger("huggingface_hub.utils._http").manager._clear_cache()  # type: ignore[attr-defined]
    try:
        attest.carry_out(make_order(WISH, owner(results)), ROBOT, owner(results))
    finally:
        logger.removeHandler(handler)
    assert "run-attested" in heard.getvalue() and "<SECRET>" in heard.getvalue()
    assert ROBOT not in heard.getvalue() and TOKEN not in heard.getvalue()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "does not let you start jobs"),
        (402, "asks for payment"),
        (400, "rejects this job"),
        (503, "HTTP status 503"),
    ],
)
def test_a_job_that_cannot_be_started_is_one_line(results: WritableHub, status: int, words: str) -> None:
    results.failures = [(r"POST /api/jobs/org", status)] * 5
    order = make_order(WISH, owner(results))
    with pytest.raises(InputError, match=words) as error:
        attest.carry_out(order, ROBOT, owner(results))
    assert f"order {order.nonce} has no run" in str(error.value) and ROBOT not in str(error.value)
    assert json.loads(main_tree(results)[order.path].content)["job"] is None, "it is there, before the job"


def test_an_order_without_a_noted_job_is_found_by_what_the_run_says(results: WritableHub, tmp_path: Path) -> None:
    """The orderer was killed when the job was started and not yet noted."""
    results.failures = [(r"POST /api/jobs/org", 503)] * 5
    order = make_order(WISH, owner(results))
    with pytest.raises(InputError):
        attest.carry_out(order, ROBOT, owner(results))
    known = attest.carry_out(make_order(WISH, owner(results)), ROBOT, owner(results)).order
    job = job_of(results, known)
    run = made_by(order, tmp_path / "r", attestation=claim_of(order) | {"job": job.id})
    job.log = [last_line(order.nonce, sha256_file(run / "run.json"))]
    finish(job)
    assert seen(results, run)[0] is False, "it is the job of another order, by its command"
    other_job(job, command=list(order.to_json()["command"]))
    assert seen(results, run)[0] is True
    run = made_by(order, tmp_path / "s", attestation=claim_of(order))
    assert seen(results, run) == (None, "it is unknown which job was started for its order")


# --- Answers of a Hub. ---

BAD = (b"[1, 2]", b"{}", b"null", b"", b"<html>", b'{"a', b"\xff\xfe", b"[" * 90_000)


def test_whatever_answers_is_one_line(results: WritableHub, order: Order, tmp_path: Path) -> None:
    run = made_by(order, tmp_path / "r")
    end_job(results, order, run)
    for content in BAD:
        results.instead = {r"GET /api/jobs/org/[0-9a-f]+$": content}
        reached, said = seen(results, run)
        assert reached is None and "the server is not a Hub" in said and "\n" not in said, content
    for content in BAD[:3]:
        results.instead = {r"POST /api/jobs/org$": content}
        with pytest.raises(InputError, match="the server is not a Hub"):
            attest.carry_out(make_order(WISH, owner(results)), ROBOT, owner(results))


MISSHAPEN: tuple[tuple[dict[str, Any], str], ...] = (
    ({"id": "other"}, "it returned job 'other'"),
    ({"id": 7}, "/id is 7"),
    ({"owner": "org"}, "/owner is 'org'"),
    ({"owner": {"id": "1", "name": None, "type": "org"}}, "/owner/name is None"),
    ({"status": {}}, "/status has no stage"),
    ({"status": {"stage": 7}}, "/status/stage is 7"),
    ({"command": "rh-bench"}, "/command is 'rh-bench'"),
    ({"command": [["rh-bench"]]}, "/command/0 is ['rh-bench']"),
    ({"environment": {"X": 1}}, "/environment/X is 1"),
    ({"secrets": [1]}, "/secrets/0 is 1"),
    ({"retry": -1}, "/retry is -1"),
    ({"expose": []}, "/expose is []"),
    ({"startedAt": "yesterday"}, "yesterday"),
    ({"volumes": [{"x": 1}]}, "the server is not a Hub"),
    ({"endpoint": "http://x"}, "the server is not a Hub"),
)


def test_a_misshapen_job_is_one_line(results: WritableHub, order: Order, tmp_path: Path) -> None:
    run = made_by(order, tmp_path / "r")
    job = end_job(results, order, run)
    as_ordered = copy.deepcopy(job.described)
    for changes, words in MISSHAPEN:
        job.described = copy.deepcopy(as_ordered) | changes
        reached, said = seen(results, run)
        assert reached is None and words in said and "\n" not in said, (changes, said)


def test_a_misshapen_log_is_one_line(results: WritableHub, order: Order, tmp_path: Path) -> None:
    run = made_by(order, tmp_path / "r")
    end_job(results, order, run)
    for content in (b'data: {"x": 1}\n\n', b"data: {]\n\n", b'data: {"data": 7}\n\n'):
        results.instead = {r"/logs$": content}
        reached, said = seen(results, run)
        assert reached is None and "the server is not a Hub" in said, content


def test_a_log_without_end_is_not_read_whole(results: WritableHub, order: Order, tmp_path: Path) -> None:
    run = made_by(order, tmp_path / "r")
    end_job(results, order, run)
    results.instead = {r"/logs$": b'data: {"data": "x"}\n\n' * (1 << 20)}
    reached, said = seen(results, run)
    assert reached is None and "bytes that may be read of a log" in said


def test_only_the_end_of_a_long_log_is_asked_for(results: WritableHub, order: Order, tmp_path: Path) -> None:
    run = made_by(order, tmp_path / "r")
    job = end_job(results, order, run)
    job.log = [*["words"] * 5_000, *job.log, "", " "]
    results.requests.clear()
    assert seen(results, run)[0] is True
    (asked,) = [request for request in results.requests if request.path.partition("?")[0].endswith("/logs")]
    assert "tail=" in asked.path


# --- In the job. ---


def errand(**changes: Any) -> Errand:
    known = Errand(f"{MODEL}@{'a' * 40}", f"{SET}@{'b' * 40}", RESULTS, "0" * 32, "org", IMAGE, package_sha256())
    return replace(known, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": f"{MODEL}@main"}, "does not name a commit"),
        ({"haystack": SET}, "does not name a commit"),
        ({"nonce": "x"}, "is not the nonce"),
        ({"image": "python:3.12"}, "is not an image with its digest"),
        ({"package_sha256": "0" * 64}, "the source of rh_bench here has SHA-256"),
    ],
)
def test_a_job_does_nothing_else_than_what_was_ordered(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        run_attested(errand(**changes), lambda line: None)


def test_the_source_has_one_number() -> None:
    assert package_sha256() == package_sha256() and len(package_sha256()) == 64


@pytest.mark.slow
def test_packages_are_installed_by_their_hashes_and_by_nothing_else(tmp_path: Path) -> None:
    """The very script of the recipe, with a wheel that prints what it is called with."""
    wheel = _wheel(tmp_path)
    digest = sha256_file(wheel)

    def run(digest: str) -> subprocess.CompletedProcess[str]:
        lines = f"rh-bench @ {wheel.as_uri()} --hash=sha256:{digest}\n"
        return subprocess.run(
            ["sh", "-ec", INSTALL, "rh-bench", "run-attested", "a b", "--x"],
            env={
                **os.environ,
                "RH_BENCH_REQUIREMENTS": lines,
                "PIP_INDEX_URL": "http://127.0.0.1:9",
                "TMPDIR": str(tmp_path),
            },
            capture_output=True,
            text=True,
            timeout=300,
        )

    done = run(digest)
    assert (done.returncode, done.stdout) == (0, "['run-attested', 'a b', '--x']\n"), done.stderr
    done = run("0" * 64)
    assert done.returncode != 0 and done.stdout == "" and "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr


def _wheel(folder: Path) -> Path:
    import zipfile

    path, info = folder / "rh_bench-1.0-py3-none-any.whl", "rh_bench-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("rh_bench_said.py", "import sys\ndef main():\n    print(sys.argv[1:])\n")
        made.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: rh-bench\nVersion: 1.0\n")
        made.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr(f"{info}/entry_points.txt", "[console_scripts]\nrh-bench = rh_bench_said:main\n")
        made.writestr(f"{info}/RECORD", "")
    return path
