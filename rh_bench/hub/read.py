"""The door to the Hugging Face Hub: only this module, which reads, and the other `hub_*` import huggingface_hub.

A download gives a folder and the full commit it was taken from, so that what was measured can be named for good. What
is in the local cache is used as it is when the Hub is out of reach (or `HF_HUB_OFFLINE=1` is set).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rh_bench.errors import InputError, LimitError
from rh_bench.hub.client import Access, Most, again
from rh_bench.system.limits import DOWNLOADED
from rh_bench.system.workshop import PATIENCE, sweep, workshop

Kind = Literal["model", "dataset", "space"]

SET_FILES = ("manifest.json", "README.md", "*.parquet")

RESULT_FILES = ("runs/*", "verification/*", "experiments/*", "judgements/*", "attestations/*")

MODEL_FILES = (
    "*.json",
    "*.safetensors",
    "*.jinja",
    "*.txt",  # merges and vocabularies of byte-pair tokenizers
    "*.tiktoken",
    "tokenizer.model*",
    "spiece.model",
    "sentencepiece*.model",
    "README.md",  # says which model this one was derived from
)
"""What a model is loaded from, and its card. Never *.bin, *.pt or *.pkl: those are pickles, which run code when they
are loaded."""

# Weights that are never loaded: copies in folders, and Mistral's second copy in its own format.
SPARE_WEIGHTS = ("*/*.safetensors", "*/*.gguf", "consolidated*.safetensors")

MOST_DOWNLOAD = 64 << 30
"""Bytes that a model or a set which a stranger names may take, unless told otherwise."""
MOST_FILES = 2_000
"""That a model or a set which a stranger names may bring, of those that are fetched."""
MOST_LISTED = 1_000_000
"""Files of a commit that are listed at all."""
_SLACK = 1 << 20
"""Bytes that are sent beside the files, for redirections."""
_ALLOWED: ContextVar[int | None] = ContextVar("_ALLOWED", default=None)

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LONGEST_REPO_ID = 96


@dataclass(frozen=True, slots=True)
class RepoRef:
    """A repository on the Hub, and optionally the branch, tag or commit that is meant."""

    repo_id: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.revision}" if self.revision else self.repo_id


def parse_repo(text: str) -> RepoRef:
    """Read `org/name` or `org/name@revision`.

    Raises:
        InputError: the text is anything else, or breaks the Hub's rules for names.
    """
    repo_id, at, revision = text.partition("@")
    owner, slash, name = repo_id.partition("/")
    if not (slash and _NAME.fullmatch(owner) and _NAME.fullmatch(name)):
        raise InputError(
            "is no repository of the Hub", where=repr(text), hint="write it as org/name or org/name@revision"
        )
    if len(repo_id) > _LONGEST_REPO_ID or "--" in repo_id or ".." in repo_id or repo_id.endswith(".git"):
        raise InputError(
            f"breaks the Hub's rules for names: at most {_LONGEST_REPO_ID} characters, no '--' or '..', no '.git' at"
            " the end",
            where=repr(text),
            hint="copy the name from the repository's page",
        )
    if at and not _is_revision(revision):
        raise InputError(
            f"{revision!r} is no revision", where=repr(text), hint="give a branch, a tag or a commit after the '@'"
        )
    return RepoRef(repo_id, revision or None)


def fetch_set(
    ref: RepoRef, cache_dir: Path | None = None, *, endpoint: str | None = None, token: str | None = None
) -> tuple[Path, str]:
    """Download a haystack set.

    Args:
        ref: the dataset repository.
        cache_dir: the cache to use instead of huggingface_hub's own.
        endpoint: the Hub to ask instead of the one that huggingface_hub is set up for.
        token: the token to use instead of the one that huggingface_hub is set up for.

    Returns:
        The folder with the set's files, and the 40-digit commit they belong to.

    Raises:
        InputError: the repository cannot be had, or holds no haystack set.
    """
    snapshot, commit = _download(ref, "dataset", SET_FILES, (), cache_dir, endpoint, token)
    folder = _without_links(snapshot, _sets_folder(cache_dir) / snapshot.parents[1].name / commit)
    if not (folder / "manifest.json").is_file():
        raise InputError(
            "holds no manifest.json, so it is not a haystack set of rh-bench",
            where=f"dataset {ref}",
            hint="name a repository that `rh-bench publish` made, or build a set with `rh-bench build`",
        )
    return folder, commit


def fetch_results(
    ref: RepoRef, cache_dir: Path | None = None, *, endpoint: str | None = None, token: str | None = None
) -> tuple[Path, str]:
    """Download the runs, verifications and experiments of a results repository. Arguments and result as of `fetch_set`.

    Raises:
        InputError: the repository cannot be had, or holds no runs.
    """
    snapshot, commit = _download(ref, "dataset", RESULT_FILES, (), cache_dir, endpoint, token)
    if not (snapshot / "runs").is_dir():
        raise InputError("holds no runs", where=f"dataset {ref}", hint="name a results repository")
    return _without_links(snapshot, _sets_folder(cache_dir) / snapshot.parents[1].name / commit), commit


def fetch_verifications(
    ref: RepoRef, *, endpoint: str | None = None, token: str | None = None
) -> dict[tuple[str, str], Path]:
    """Download the verification records of a results repository; those in the cache are not fetched again.

    Returns:
        Their files by the two folder names of the run.

    Raises:
        InputError: the repository cannot be had.
    """
    snapshot, _ = _download(ref, "dataset", RESULT_FILES[1:2], (), None, endpoint, token)
    return {(path.parent.name, path.stem): path for path in sorted(snapshot.glob("verification/*/*.json"))}


def _sets_folder(cache_dir: Path | None) -> Path:
    from huggingface_hub import constants

    return (cache_dir or Path(constants.HF_HOME)) / "rh_bench"


def _without_links(snapshot: Path, folder: Path) -> Path:
    """The files of a snapshot as plain files. In the client's cache they are symbolic links, which no reader of ours
    follows, because a set from anywhere else could lead out of its folder with one.

    Raises:
        InputError: the folder cannot be written.
    """
    names = sorted(path.relative_to(snapshot) for path in snapshot.rglob("*") if path.is_file())

    def whole() -> bool:
        return folder.is_dir() and all((folder / name).is_file() for name in names)

    if whole():
        sweep(folder)
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with workshop(folder, patience=PATIENCE) as made:
            if whole():  # another process was faster
                return folder
            fresh = made.fresh()
            for name in names:
                target = fresh / name
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link((snapshot / name).resolve(), target)
                except OSError:  # another file system, or one without hard links
                    shutil.copyfile(snapshot / name, target)
            made.put(fresh)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", where=folder) from None
    return folder


def repo_commit(ref: RepoRef, kind: Kind, *, endpoint: str | None = None, token: str | None = None) -> str:
    """The 40-digit commit that a repository's revision names now.

    Raises:
        InputError: the repository cannot be had.
    """
    from huggingface_hub import HfApi

    with plain_errors(ref, kind):
        api = HfApi(endpoint=endpoint, token=token)
        access = Access(endpoint, token)
        commit = again(lambda: api.repo_info(ref.repo_id, repo_type=kind, revision=ref.revision).sha, access)
    if commit is None or not _COMMIT.fullmatch(commit):
        raise InputError(f"the Hub named {commit!r} where a commit was expected", where=f"{kind} {ref}")
    return commit


def fetch_model(
    ref: RepoRef,
    *,
    allow_gguf: bool = False,
    trust_remote_code: bool = False,
    cache_dir: Path | None = None,
    endpoint: str | None = None,
    token: str | None = None,
) -> tuple[Path, str]:
    """Download a model's configuration, tokenizer and safetensors weights, and nothing that runs code on loading.

    Args:
        ref: the model repository.
        allow_gguf: fetch GGUF weights too, and be content with them alone.
        trust_remote_code: fetch the repository's own Python files too.
        cache_dir, endpoint, token: as in `fetch_set`.

    Returns:
        The folder with the model's files, and the 40-digit commit they belong to.

    Raises:
        InputError: the repository cannot be had, or its weights are in no safe format, or are incomplete.
    """
    wanted = [*MODEL_FILES, *(["*.gguf"] if allow_gguf else []), *(["*.py"] if trust_remote_code else [])]
    folder, commit = _download(ref, "model", wanted, SPARE_WEIGHTS, cache_dir, endpoint, token)
    where = f"model {ref}"
    if missing := _missing_shards(folder, where):
        raise InputError(
            f"the download is incomplete: {missing[0]} is missing" + _and_more(len(missing) - 1),
            where=where,
            hint="run again while the Hub can be reached",
        )
    formats = ("*.safetensors", "*.gguf") if allow_gguf else ("*.safetensors",)
    if not any(path for pattern in formats for path in folder.glob(pattern)):
        raise InputError(
            "has no *.safetensors: weights must be safetensors or GGUF, never pickle, which runs code when it is"
            " loaded",
            where=where,
            hint="choose a revision or a copy with safetensors, or download its .gguf and give gguf:FILE",
        )
    return folder, commit


def fetch_config(ref: RepoRef) -> Path:
    """Download a model's config.json alone.

    Raises:
        InputError: the repository cannot be had, or has none.
    """
    path = _download(ref, "model", ("config.json",), (), None, None, None)[0] / "config.json"
    if not path.is_file():
        raise InputError("has no config.json", where=f"model {ref}")
    return path


def eval_results_yaml(repo_id: str, task_id: str, value: float, *, revision: str | None, date: str, notes: str) -> str:
    """An entry of `.eval_results/*.yaml`, by huggingface_hub's own class; without a verification token, which only the
    Hub can give.

    Args:
        repo_id, task_id: the benchmark dataset, and the task in it.
        revision: the benchmark's commit.

    Raises:
        InputError: `repo_id` is no repository's name.
    """
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    parse_repo(repo_id)
    entry = EvalResultEntry(
        dataset_id=repo_id, task_id=task_id, value=value, dataset_revision=revision, date=date, notes=notes
    )
    text: str = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)
    return text


def _is_revision(text: str) -> bool:
    """Whether git would take `text` as the name of a branch, a tag or a commit."""
    return (
        _REVISION.fullmatch(text) is not None
        and not any(part in text for part in ("..", "//", "/."))
        and not text.endswith(("/", ".", ".lock"))
    )


@contextmanager
def allowing(most: int | None) -> Iterator[None]:
    """Inside the block no download takes more than `most` bytes, nor more than :data:`MOST_FILES` files.

    What would be taken is known from the list of files before anything is; what is sent beyond it is cut off.
    """
    before = _ALLOWED.set(most)
    try:
        yield
    finally:
        _ALLOWED.reset(before)


def _download(
    ref: RepoRef,
    kind: Kind,
    wanted: list[str] | tuple[str, ...],
    unwanted: tuple[str, ...],
    cache_dir: Path | None,
    endpoint: str | None,
    token: str | None,
) -> tuple[Path, str]:
    """The files of a repository that match `wanted` and not `unwanted`, as a cached folder, and their commit."""
    from huggingface_hub import snapshot_download

    access, allowed = Access(endpoint, token), _ALLOWED.get()
    most = None if allowed is None else _announced(ref, kind, wanted, unwanted, allowed, access)

    def fetch() -> str:
        return snapshot_download(
            ref.repo_id,
            repo_type=kind,
            revision=ref.revision,
            cache_dir=cache_dir,
            endpoint=endpoint,
            token=token,
            allow_patterns=list(wanted),
            ignore_patterns=list(unwanted),
        )

    with plain_errors(ref, kind):
        folder = Path(again(fetch, access, most=most, patient=False))
    # The cache keeps each snapshot in a folder named after its commit, which spares asking the Hub a second time (and
    # perhaps getting a newer answer).
    if not _COMMIT.fullmatch(folder.name):
        raise InputError(f"the cache gave {folder.name!r} where a commit was expected", where=f"{kind} {ref}")
    return folder, folder.name


def _announced(
    ref: RepoRef,
    kind: Kind,
    wanted: list[str] | tuple[str, ...],
    unwanted: tuple[str, ...],
    allowed: int,
    access: Access,
) -> Most:
    """How much a download takes, by the repository's own list of its files. Where the Hub is out of reach, what is in
    the cache is taken as it is.

    Raises:
        InputError: it is more than `allowed`, or it is too many files.
    """
    from huggingface_hub.utils._paths import filter_repo_objects

    try:
        sizes = {path: size for path, _, size in listed(ref, kind, ref.revision, access, patient=False)}
    except InputError as error:
        if isinstance(error.__cause__, ConnectionError):
            return Most(allowed, "may be downloaded")
        raise
    names = list(filter_repo_objects(sizes, allow_patterns=list(wanted), ignore_patterns=list(unwanted)))
    total, where = sum(sizes[name] for name in names), f"{kind} {ref}"
    if len(names) > MOST_FILES:
        words = f"takes more than the {MOST_FILES:,} files that may be downloaded: {len(names):,}"
        raise LimitError(words, DOWNLOADED, where=where)
    if total > allowed:
        raise LimitError(
            f"takes more than the {size_text(allowed)} that may be downloaded: {size_text(total)}",
            DOWNLOADED,
            where=where,
            hint="allow more with --most-download",
        )
    return Most(total + _SLACK)


def listed(
    ref: RepoRef, kind: Kind, revision: str | None, access: Access, *, patient: bool = True
) -> list[tuple[str, str, int]]:
    """Path, hash and bytes of every file of a commit. The hash is SHA-256 for large files, else git's.

    Raises:
        InputError: it cannot be read, or it has more than :data:`MOST_LISTED` files.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(endpoint=access.endpoint, token=access.token)

    def read() -> list[tuple[str, str, int]]:
        found: list[tuple[str, str, int]] = []
        for file in api.list_repo_tree(ref.repo_id, repo_type=kind, recursive=True, revision=revision):
            if len(found) >= MOST_LISTED:
                raise InputError(f"has more than {MOST_LISTED:,} files", where=f"{kind} {ref}")
            if isinstance(file, RepoFile):
                large = file.lfs
                found.append((file.path, large.sha256 if large else file.blob_id, large.size if large else file.size))
        return found

    with plain_errors(ref, kind):
        return again(read, access, patient=patient)


def size_text(count: int) -> str:
    """Bytes as people say them."""
    for unit, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"


def _missing_shards(folder: Path, where: str) -> list[str]:
    """Files that the index of sharded weights names and that are not there. A cached folder can be incomplete."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return []
    try:
        shards = {str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "model.safetensors.index.json names no weight_map of files", where=where, hint="choose another revision"
        ) from error
    return sorted(shard for shard in shards if not (folder / shard).is_file())


def _and_more(count: int) -> str:
    return f", and {count} more" if count else ""


@contextmanager
def plain_errors(ref: RepoRef | None, kind: Kind) -> Iterator[None]:
    """Turn the ways a download can fail into one line that says what to do. Anything else is a bug and stays one."""
    try:
        yield
    except Exception as error:
        plain = _explain(_sender(error), ref, kind)
        if plain is None:
            raise
        raise plain from _sender(error)


def _sender(error: Exception) -> Exception:
    """Why a file was not sent, where the library says no more than that it was not."""
    cause = error.__cause__ if type(error) is RuntimeError else None
    return cause if isinstance(cause, Exception) else error


def _explain(error: Exception, ref: RepoRef | None, kind: Kind) -> InputError | None:
    from huggingface_hub import errors

    if isinstance(error, InputError):
        return None
    if ref is None:
        return _explain_transport(error, "the Hub")
    where = f"{kind} {ref}"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return _explain_absence(error, ref, kind)
    if isinstance(error, errors.GatedRepoError):
        return InputError(
            "is gated", where=where, hint="accept its terms on its page, then `hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return InputError(
            f"the Hub has no {kind} {ref.repo_id}, or it is private",
            where=where,
            hint="check the spelling, or log in with `hf auth login` if it is private",
        )
    if isinstance(error, errors.DisabledRepoError):
        return InputError("the Hub has disabled this repository", where=where, hint="choose another one")
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(
            f"{ref.repo_id} has no revision {ref.revision!r}",
            where=where,
            hint="give a branch, a tag or a full commit of it after the '@'",
        )
    if isinstance(error, errors.HFValidationError):
        return InputError(str(error), where=where, hint="write it as org/name or org/name@revision")
    return _explain_transport(error, where)


def _explain_absence(error: Exception, ref: RepoRef, kind: Kind) -> InputError:
    """The client looked in the cache because it got nothing from the Hub: say why it got nothing."""
    from huggingface_hub import errors

    where, cause = f"{kind} {ref}", error.__cause__
    if isinstance(cause, errors.HfHubHTTPError | errors.FileMetadataError):
        explained = _explain(cause, ref, kind)
        if explained is not None:
            return explained
    partly = "only partly" if isinstance(error, errors.IncompleteSnapshotError) else "not"
    if _forbidden(cause):
        return InputError(
            f"is {partly} in the local cache, and HF_HUB_OFFLINE forbids to ask the Hub",
            where=where,
            hint="unset HF_HUB_OFFLINE, or give a local folder",
        )
    return InputError(
        f"the Hub cannot be reached, and this is {partly} in the local cache",
        where=where,
        hint="check the connection (and HF_ENDPOINT if it is set) and run again, or give a local folder",
    )


def _forbidden(error: BaseException | None) -> bool:
    """Whether the user told the client to ask nobody."""
    from huggingface_hub import errors

    from rh_bench.hub.door import NotReached

    return isinstance(error, errors.OfflineModeIsEnabled) and not isinstance(error, NotReached)


def _explain_transport(error: Exception, where: str) -> InputError | None:
    """Failures below the Hub's own answers: the network, the server, the disk."""
    from huggingface_hub import errors

    from rh_bench.hub.door import NotReached, misread, of_library

    again = "run again: what has been downloaded is kept"
    if isinstance(error, errors.HfHubHTTPError):
        return InputError(f"the Hub answered with HTTP status {error.response.status_code}", where=where, hint=again)
    if isinstance(error, errors.FileMetadataError | json.JSONDecodeError) or misread(error):
        hint = "check HF_ENDPOINT if it is set, and that no proxy answers instead"
        return InputError("what answered is no Hub", where=where, hint=hint)
    if isinstance(error, ValueError) and of_library(error):  # in the library's own words
        return InputError(str(error)[:300], where=where)
    if _forbidden(error):
        return InputError("HF_HUB_OFFLINE forbids to ask the Hub", where=where, hint="unset it")
    if isinstance(error, NotReached):
        return InputError(f"the connection to the Hub broke off ({error.how})", where=where, hint=again)
    # The first base is HTTPError of the HTTP client, which is httpx in huggingface_hub 1 and httpx2 in 2.
    network_errors = (errors.HfHubHTTPError.__bases__[0], ConnectionError, errors.XetDownloadError)
    if isinstance(error, network_errors):
        return InputError(f"the download broke off ({type(error).__name__})", where=where, hint=again)
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return InputError(f"the download failed: {reason}", where=where, hint="check the cache's disk, or set HF_HOME")
    return None
