"""Attested runs: ordered by a maintainer and made by a job of the Hub; and what the Hub shows of such a job, compared
with the order and with the bytes that were submitted.

A job's record and log can be read by those who may read its namespace, and by nobody else. So the job runs under a
namespace of the maintainer's, and it is the maintainer who looks. What someone's own job has done proves nothing to
others.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rh_bench.errors import InputError
from rh_bench.hub.client import Access
from rh_bench.hub.download import repo_commit
from rh_bench.hub.jobs import JobSpec, NoSuchJob, own_token, read_job, read_last_lines, refuse_without_jobs, start_job
from rh_bench.hub.pulls import add_to_main, download, head_commit
from rh_bench.hub.refs import Kind, RepoRef, parse_repo
from rh_bench.hub.write import list_files
from rh_bench.models.adapter_config import ADAPTER_CONFIG
from rh_bench.prompting.thinking import AUTO, check_choice
from rh_bench.records import Json
from rh_bench.sets.dataset import MANIFEST
from rh_bench.submissions.attest_check import (
    Attested,
    Proof,
    job_problems,
    level,
    log_problem,
    run_problems,
    stage_problem,
)
from rh_bench.submissions.attest_order import (
    MOST_BYTES,
    TOKEN,
    Order,
    Settings,
    check_image,
    command,
    environment,
    new_order,
    order_path,
    read_order,
    with_job,
)
from rh_bench.submissions.lockfile import read_lockfile
from rh_bench.system.files import sha256_file
from rh_bench.system.schema import dump_json, load_json, validate_document

_LEAST_TOKEN = 8
"""Characters."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to have measured, as the command line takes it."""

    model: str
    haystack: str
    repo: str
    image: str
    requirements: Path | None = None
    namespace: str | None = None
    """That of the results repository without it."""
    flavor: str = "cpu-basic"
    timeout: int = 6 * 3600
    settings: Settings | None = None


def make_order(wish: Wish, access: Access | None = None) -> Order:
    """An order with everything named for good: model and set by their commits, packages by their hashes.

    Raises:
        InputError: something of it is not there, cannot be pinned, or is not to be run for others.
    """
    refuse_without_jobs()
    access, repo = access or Access(), parse_repo(wish.repo)
    if repo.revision is not None:
        raise InputError("submissions go to the main branch", where=wish.repo, hint="leave out @" + repo.revision)
    check_image(wish.image)
    settings = wish.settings or Settings()
    check_choice(settings.thinking or AUTO, settings.thought_tokens)
    requirements = None if wish.requirements is None else read_lockfile(wish.requirements)
    namespace = wish.namespace or repo.repo_id.partition("/")[0]
    parse_repo(f"{namespace}/x")
    list_files(repo, "main", access)
    model = _pinned(wish.model, "model", access)
    if ADAPTER_CONFIG in list_files(RepoRef(*model), model[1], access, "model"):
        hint = "merge it into its base and publish the merged model"
        raise InputError("is an adapter, whose base no commit of its own names", where=f"model {wish.model}", hint=hint)
    haystack = _pinned(wish.haystack, "dataset", access)
    if MANIFEST not in list_files(RepoRef(*haystack), haystack[1], access):
        raise InputError("is not a haystack set", where=f"dataset {wish.haystack}")
    order = new_order(
        repo=repo.repo_id,
        namespace=namespace,
        model=model,
        haystack=haystack,
        image=wish.image,
        requirements=requirements,
        flavor=wish.flavor,
        timeout=wish.timeout,
        settings=settings,
    )
    for pointer, message in validate_document(order.to_json(), "attestation"):  # what nobody could read again
        raise InputError(f"{pointer} {message}", where="the order")
    return order


def _pinned(text: str, kind: Kind, access: Access) -> tuple[str, str]:
    ref = parse_repo(text)
    return ref.repo_id, repo_commit(ref, kind, endpoint=access.endpoint, token=access.token)


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order in the results repository, and its job."""

    order: Order
    url: str


def carry_out(
    order: Order,
    job_token: str | None,
    access: Access | None = None,
    announce: Callable[[str], None] = lambda words: None,
) -> Ordered:
    """Put an order into the results repository, start its job, and note there which job it is.

    Args:
        job_token: with which the job submits. The job reads files of strangers, so that it is to be one that may do no
            more than open pull requests, and never the maintainer's own.

    Raises:
        InputError: the token will not do, the repository cannot be written, or the job not be started.
    """
    access, ref = access or Access(), parse_repo(order.repo)
    _check_token(job_token, access)
    before = dump_json(order.to_json())
    about = f"Attested run of {order.model[0]} on {order.haystack[0]}"
    commit = add_to_main(ref, {order.path: before}, f"Order {order.nonce}", about, access)
    if commit is None:
        raise InputError("the repository already has another order of this name", where=order.path)
    announce(f"ordered: {order.path}")
    spec = JobSpec(
        order.namespace,
        order.image,
        command(order),
        environment(order),
        {TOKEN: job_token or ""},
        order.flavor,
        order.timeout,
    )
    try:
        job = start_job(spec, order.nonce, access)
    except InputError as error:
        hint = f"order {order.nonce} has no run; before ordering again, check that none of its jobs is running"
        raise InputError(str(error), hint=hint) from error
    announce(f"started: {job.url}")
    done = with_job(order, job.id, job.owner_id)
    noted = {order.path: dump_json(done.to_json())}
    add_to_main(ref, noted, f"Job of order {order.nonce}", about, access, over={order.path: before})
    return Ordered(done, job.url)


def _check_token(job_token: str | None, access: Access) -> None:
    where = "RH_BENCH_JOB_TOKEN"
    hint = "create a fine-grained token that can only open pull requests in the results repository"
    if not job_token:
        raise InputError("is not set: the job has no token to submit with", where=where, hint=hint)
    if len(job_token) < _LEAST_TOKEN or not job_token.isascii() or not job_token.isprintable() or " " in job_token:
        raise InputError("is not a token", where=where, hint=hint)
    if job_token == own_token(access):
        raise InputError("is your own token, which could write the records", where=where, hint=hint)


def look_into(
    folder: Path, repo: RepoRef, trusted: tuple[str, ...], access: Access | None = None, *, valid: bool | None = True
) -> Attested:
    """Whether a run was made by the job that was ordered for it.

    Args:
        folder: the run.
        repo: the results repository in which orders lie.
        trusted: namespaces whose jobs are believed.
        valid: whether the run is; of others nothing is believed.
    """
    access = access or Access()
    if not valid:
        return Attested(level(None, "the run is not valid"), False)
    run: Json = load_json(folder / "run.json")
    if run.get("attestation") is None:
        return Attested(level(None, "the run does not say that a job made it"), False)
    try:
        return _look(run, sha256_file(folder / "run.json"), repo, trusted, access)
    except NoSuchJob as error:
        return Attested(level(None, str(error)), True)
    except InputError as error:
        return Attested(level(None, f"could not be checked: {error}"), True)


def _look(run: Json, digest: str, repo: RepoRef, trusted: tuple[str, ...], access: Access) -> Attested:
    claim = run["attestation"]
    order = _ordered(repo, claim["nonce"], access)
    if order is None:
        return Attested(level(False, f"{repo} has no order {claim['nonce']}"), True)
    wrong = list(run_problems(order, run, repo.repo_id))
    if order.started is not None and claim["job"] not in (None, order.started.job):
        wrong.append(f"it names another job than {order.started.job}, which was started for its order")
    if wrong:
        return Attested(level(False, *wrong), True)
    if order.namespace not in trusted:
        return Attested(level(None, f"jobs of {order.namespace} are not trusted here"), True)
    name = order.started.job if order.started is not None else claim["job"]
    if name is None:
        return Attested(level(None, "it is unknown which job was started for its order"), True)
    job = read_job(order.namespace, name, access)
    wrong = list(job_problems(order, job))
    if wrong:
        return Attested(level(False, *wrong), True)
    missing = stage_problem(job) or log_problem(order, digest, read_last_lines(order.namespace, name, access))
    if missing is not None:
        return Attested(level(*missing), True)
    words = f"made by job {job.id} of {job.owner}, which ran what was ordered and reported that it made this run"
    return Attested(level(True, words), True, Proof(order, job))


def _ordered(repo: RepoRef, nonce: str, access: Access) -> Order | None:
    """The order of this name in the main branch, where nobody but the maintainers writes."""
    path, commit = order_path(nonce), head_commit(repo, "main", access)
    file = list_files(repo, commit, access).get(path)
    if file is None:
        return None
    if file.bytes > MOST_BYTES:
        raise InputError(f"has {file.bytes} bytes, which no order has", where=path)
    with tempfile.TemporaryDirectory(prefix="rh_bench-order-") as made:
        download(repo, commit, [file], Path(made), access)
        return read_order(Path(made) / path, path)
