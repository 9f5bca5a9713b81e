"""Failures of the Hub, the network and the disk, each as one line that says what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from rh_bench.errors import InputError
from rh_bench.hub.refs import Kind, RepoRef


@contextmanager
def plain_errors(ref: RepoRef | None, kind: Kind) -> Iterator[None]:
    """Turn expected failures of the Hub into one line that says what to do. Anything else is a bug and passes
    through."""
    try:
        yield
    except Exception as error:
        plain = _explain(_sender(error), ref, kind)
        if plain is None:
            raise
        raise plain from _sender(error)


def _sender(error: Exception) -> Exception:
    """Why a file was not sent, if the library says only that it was not."""
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
            hint="give a branch, a tag or a full commit after the '@'",
        )
    if isinstance(error, errors.HFValidationError):
        return InputError(str(error), where=where, hint="write it like org/name or org/name@revision")
    return _explain_transport(error, where)


def _explain_absence(error: Exception, ref: RepoRef, kind: Kind) -> InputError:
    """The client looked in the cache because it got nothing from the Hub: explain why."""
    from huggingface_hub import errors

    where, cause = f"{kind} {ref}", error.__cause__
    if isinstance(cause, errors.HfHubHTTPError | errors.FileMetadataError):
        explained = _explain(cause, ref, kind)
        if explained is not None:
            return explained
    partly = "only partly" if isinstance(error, errors.IncompleteSnapshotError) else "not"
    if _forbidden(cause):
        return InputError(
            f"is {partly} in the local cache, and HF_HUB_OFFLINE forbids access to the Hub",
            where=where,
            hint="unset HF_HUB_OFFLINE, or give a local folder",
        )
    return InputError(
        f"the Hub cannot be reached, and this is {partly} in the local cache",
        where=where,
        hint="check the connection (and HF_ENDPOINT, if set) and run again, or give a local folder",
    )


def _forbidden(error: BaseException | None) -> bool:
    """Whether the user forbade the client to use the network."""
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
        hint = "check HF_ENDPOINT, if set, and that no proxy answers instead"
        return InputError("the server is not a Hub", where=where, hint=hint)
    if isinstance(error, ValueError) and of_library(error):  # in the library's own words
        return InputError(str(error)[:300], where=where)
    if _forbidden(error):
        return InputError("HF_HUB_OFFLINE forbids access to the Hub", where=where, hint="unset it")
    if isinstance(error, NotReached):
        return InputError(f"the connection to the Hub was lost ({error.how})", where=where, hint=again)
    # The first base is HTTPError of the HTTP client, which is httpx in huggingface_hub 1 and httpx2 in 2.
    network_errors = (errors.HfHubHTTPError.__bases__[0], ConnectionError, errors.XetDownloadError)
    if isinstance(error, network_errors):
        return InputError(f"the download was interrupted ({type(error).__name__})", where=where, hint=again)
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return InputError(f"the download failed: {reason}", where=where, hint="check the cache's disk, or set HF_HOME")
    return None
