"""Submitting a run or an experiment: checked here first, then one pull request, which a second submission updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rh_bench.artifacts.coverage import coverage
from rh_bench.artifacts.results_repo import EXPERIMENTS, RUNS
from rh_bench.artifacts.validate import validate_path
from rh_bench.errors import CheckFailed, InputError
from rh_bench.experiments.artifact import DOCUMENT, is_experiment, validate_experiment
from rh_bench.hub.client import Access, again
from rh_bench.hub.failures import plain_errors
from rh_bench.hub.pulls import Pull, address, commit_files, head_commit, open_pulls, user_name
from rh_bench.hub.refs import RepoRef, parse_repo
from rh_bench.hub.write import RemoteFile, file_hashes, list_files, write_errors
from rh_bench.interchange.folder import is_import
from rh_bench.records import Json
from rh_bench.submissions.place import MOST_BYTES, Place, find_place
from rh_bench.system.files import regular_file
from rh_bench.system.schema import load_json


@dataclass(frozen=True)
class Submission:
    """What was sent, or would be. `pull_request` and `commit` are None if nothing was."""

    repo: str
    folder: str
    """Its path in the repository."""
    files: tuple[tuple[str, int], ...]
    """Names and bytes of what differs from what is there."""
    pull_request: int | None
    updates: bool
    """Whether the pull request was there before."""
    commit: str | None
    address: str | None
    warnings: tuple[str, ...]

    def to_json(self) -> Json:
        return {
            "repo": self.repo,
            "folder": self.folder,
            "files": [{"path": name, "bytes": size} for name, size in self.files],
            "pull_request": self.pull_request,
            "updates": self.updates,
            "commit": self.commit,
            "address": self.address,
            "warnings": list(self.warnings),
        }


def title_of(folder: str) -> str:
    """Title of a submission's pull request, by which it is found again.

    Args:
        folder: where it goes in the repository.
    """
    root, _, label = folder.partition("/")
    return f"{'Run' if root == RUNS else 'Experiment'} {label}"


def submit_run(
    folder: Path,
    repo: str,
    *,
    dry_run: bool = False,
    announce: Callable[[Submission], None] = lambda plan: None,
    access: Access | None = None,
) -> Submission:
    """Open a pull request with a run or an experiment, or bring one's own open one up to date. Doing it again changes
    nothing.

    Args:
        folder: `<slug>/<run_id>`, as `rh-bench evaluate` wrote it, or an experiment's `<slug>/<kind>-<id>`.
        dry_run: find out what would be sent, and send nothing.
        announce: is shown what is to be sent, before anything is.

    Raises:
        CheckFailed: it is not valid.
        InputError: it is nothing that can be submitted, the repository holds it already with other content or does not
            hold the runs that it is about, or the Hub does not take it.
    """
    access, ref = access or Access(), parse_repo(repo)
    if ref.revision is not None:
        raise InputError("submissions go to the main branch", where=repo, hint="leave out @" + ref.revision)
    where, sizes = _check(folder)
    place, word = where.folder, where.kind.word
    warnings = _warnings(load_json(folder / where.kind.document))
    ours = {f"{place}/{name}": regular_file(folder, name) for name in where.kind.files}
    there = list_files(ref, "main", access)
    _refuse_without_runs(folder, where, there, ref)
    known = [path for path in ours if path in there]
    lacking = [path for path in ours if path not in there or there[path].hash not in file_hashes(ours[path])]
    if not lacking:
        return Submission(ref.repo_id, place, (), None, False, None, None, ())
    if known:
        raise InputError(
            f"the repository already has this {word}, with another {lacking[0].rpartition('/')[2]}",
            where=f"{ref}/{place}",
            hint=f"the same inputs give the same {word}: ask the maintainers which is right",
        )
    sent = tuple((path, sizes[path.rpartition("/")[2]]) for path in lacking)
    plan = Submission(ref.repo_id, place, sent, None, False, None, None, warnings)
    announce(plan)
    if dry_run:
        return plan
    name = user_name(access)

    def send() -> Submission:
        return _send(ref, place, ours, sent, name, warnings, access)

    with write_errors(ref), plain_errors(ref, "dataset"):
        return again(send, access)


def _send(
    ref: RepoRef,
    place: str,
    ours: dict[str, Path],
    sent: tuple[tuple[str, int], ...],
    name: str,
    warnings: tuple[str, ...],
    access: Access,
) -> Submission:
    """Looks first what is there, since a try before may have arrived although its answer was lost."""
    title = title_of(place)
    pull = next((p for p in open_pulls(ref, access, name) if p.title == title), None)
    if pull is None:
        main = head_commit(ref, "main", access)
        files: dict[str, Path | bytes] = {path: ours[path] for path, _ in sent}
        commit, num = commit_files(
            ref, files, title, description=_description(place), new_pull=True, parent=main, access=access
        )
        if num is None:
            raise InputError("the Hub did not open a pull request", where=f"dataset {ref}", hint="try again")
        return Submission(ref.repo_id, place, sent, num, False, commit, address(ref, num, access), warnings)
    return _update(ref, place, ours, pull, warnings, access)


def _update(
    ref: RepoRef, place: str, ours: dict[str, Path], pull: Pull, warnings: tuple[str, ...], access: Access
) -> Submission:
    head = head_commit(ref, pull.ref, access)
    there = list_files(ref, head, access)
    lacking: dict[str, Path | bytes] = {
        path: file for path, file in ours.items() if path not in there or there[path].hash not in file_hashes(file)
    }
    sent = tuple((path, ours[path].stat().st_size) for path in lacking)
    page = address(ref, pull.num, access)
    if not lacking:
        return Submission(ref.repo_id, place, (), pull.num, True, head, page, warnings)
    commit, _ = commit_files(ref, lacking, f"Update {pull.title}", pull=pull, parent=head, access=access)
    return Submission(ref.repo_id, place, sent, pull.num, True, commit, page, warnings)


def _check(folder: Path) -> tuple[Place, dict[str, int]]:
    """Where a run or an experiment goes in the repository, and bytes by file name."""
    if not folder.is_dir():
        raise InputError("no such folder", where=folder, hint="give the folder of a finished run or an experiment")
    if is_import(folder):
        raise InputError(
            "imported from another project's file: there are no events to verify",
            where=folder,
            hint="measure the model with `rh-bench evaluate`",
        )
    experiment = is_experiment(folder)
    problems = validate_experiment(folder) if experiment else validate_path(folder)
    if problems:
        first = problems[0]
        more = f" (and {len(problems) - 1} more; see rh-bench validate)" if len(problems) > 1 else ""
        raise CheckFailed(f"{folder}: not valid: {first.file}{first.pointer}: {first.message}{more}")
    slug, name = folder.resolve().parts[-2:]
    place = find_place(f"{EXPERIMENTS}/{slug}/{name}/{DOCUMENT}" if experiment else f"{RUNS}/{slug}/{name}/run.json")
    if place is None:
        what = "<model>/<kind>-<experiment id>" if experiment else "<model>/<run id>"
        raise InputError(f"is not a {what} folder", where=folder, hint="give it as it was written")
    sizes = {file: regular_file(folder, file).stat().st_size for file in place.kind.files}
    if sum(sizes.values()) > MOST_BYTES:
        raise InputError(f"has {sum(sizes.values())} bytes; at most {MOST_BYTES} are allowed", where=folder)
    return place, sizes


def _refuse_without_runs(folder: Path, place: Place, there: Mapping[str, RemoteFile], ref: RepoRef) -> None:
    """An experiment is worth nothing if the runs that it is about are not."""
    for run in load_json(folder / place.kind.document).get("runs", ()) if place.kind.root == EXPERIMENTS else ():
        name = f"{run['slug']}/{run['run_id']}"
        if f"{RUNS}/{name}/run.json" not in there:
            imported = run["origin"] == "imported"
            raise InputError(
                f"is about {'an imported list' if imported else 'the run'} {name}, which {ref} does not have",
                where=folder,
                hint="imports cannot be submitted" if imported else "submit the run first",
            )


def _warnings(document: Json) -> tuple[str, ...]:
    """What will keep a maintainer from verifying more than that it is valid."""
    found = []
    model, data = document["model"], document.get("haystack") or document.get("data")
    if data is None:
        return ()  # nothing was measured beside the runs
    if model["source"] != "hub":
        where = "in memory" if model["source"] == "memory" else "a local file"
        found.append(f"the model was {where}: nobody else can reproduce its prompts or measure it again")
    if data["revision"] is None and not str(data.get("source")).startswith("synthetic-pairs:"):
        found.append("the set was a local folder: publish it and measure on REPO@REVISION to have it verified further")
    if "haystack" in document:  # a run: experiments are not ranked
        covered = coverage(document)
        if not covered.whole:
            found.append(f"it will not be ranked: measured on {covered.words}; measure the whole set to be ranked")
    return tuple(found)


def _description(place: str) -> str:
    return (
        f"Submitted by `rh-bench submit`. Verify it with `rh-bench verify REPO#PR`, where PR is the number of this pull"
        f" request. It adds `{place}` and touches nothing else."
    )
