"""What answers of the Hub's API must look like, request by request: anything else did not come from a Hub.

A proxy, a broken server or a hostile one can answer anything. The client library assumes that answers are well formed,
so they are checked before it sees them. Fields that nothing reads are not checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rh_bench.errors import InputError
from rh_bench.system.files import shown
from rh_bench.system.schema import parse_json

Shape = Callable[[object, str], None]
"""Raises :class:`Misshapen` for a value at a place that it does not accept."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LOG = re.compile(r"/api/jobs/[^/]+/[^/]+/logs$")
_LONGEST = 60
_MEND = "check HF_ENDPOINT, if set, and that no proxy answers instead"


class Misshapen(Exception):
    """An answer is malformed."""


def check_answer(method: str, path: str, content: bytes, where: str) -> None:
    """Check an answer of the API.

    Args:
        path: the path requested, without the query.
        where: for the error.

    Raises:
        InputError: it is not a Hub's answer to this request.
    """
    shape = next((shape for verb, route, shape in _SHAPES if verb == method and route.search(path)), None)
    if shape is None:
        return
    try:
        shape(parse_json(content.decode("utf-8")), "")
    except Misshapen as error:
        raise InputError(f"the server is not a Hub: {error}", where=where, hint=_MEND) from None
    except (ValueError, RecursionError):
        raise InputError("the server is not a Hub: its answer is not JSON", where=where, hint=_MEND) from None


def is_api(path: str) -> bool:
    """Whether a path belongs to the API, whose answers are documents, not to a file or a log."""
    return (
        "/resolve/" not in path
        and not _LOG.search(path)
        and ("/api/" in path or path.endswith("/info/lfs/objects/batch"))
    )


@dataclass(frozen=True)
class _Fields:
    """An object with these fields; optional ones may also be null."""

    must: Mapping[str, Shape]
    may: Mapping[str, Shape]

    def __call__(self, value: object, at: str) -> None:
        if not isinstance(value, dict):
            raise Misshapen(f"{at or 'the answer'} is {_said(value)}, not an object")
        for name, shape in self.must.items():
            if name not in value:
                raise Misshapen(f"{at or 'the answer'} has no {name}")
            shape(value[name], f"{at}/{name}")
        for name, shape in self.may.items():
            if value.get(name) is not None:
                shape(value[name], f"{at}/{name}")


def _fields(must: Mapping[str, Shape], may: Mapping[str, Shape] | None = None) -> Shape:
    return _Fields(must, may or {})


def _said(value: object) -> str:
    words = shown(repr(value))
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"


def _list(of: Shape) -> Shape:
    def check(value: object, at: str) -> None:
        if not isinstance(value, list):
            raise Misshapen(f"{at or 'the answer'} is {_said(value)}, not a list")
        for place, item in enumerate(value):
            of(item, f"{at}/{place}")

    return check


def _text(value: object, at: str) -> None:
    if not isinstance(value, str):
        raise Misshapen(f"{at} is {_said(value)}, not a string")


def _words(value: object, at: str) -> None:
    _text(value, at)
    if not value:
        raise Misshapen(f"{at} is empty")


def _bool(value: object, at: str) -> None:
    if not isinstance(value, bool):
        raise Misshapen(f"{at} is {_said(value)}, not true or false")


def _any(value: object, at: str) -> None:
    """A value that nothing reads."""


def _count(least: int) -> Shape:
    def check(value: object, at: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise Misshapen(f"{at} is {_said(value)}, not a number of at least {least}")

    return check


def _hex(pattern: re.Pattern[str], what: str) -> Shape:
    def check(value: object, at: str) -> None:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise Misshapen(f"{at} is {_said(value)}, not a {what}")

    return check


_commit = _hex(_COMMIT, "commit")
_author = _fields({}, {"name": _text})
_file = _fields(
    {"type": _text, "path": _words, "oid": _hex(_COMMIT, "hash")},
    {"size": _count(0), "lfs": _fields({"oid": _hex(_SHA256, "hash"), "size": _count(0)}, {"pointerSize": _count(0)})},
)
_discussion = _fields(
    {
        "num": _count(1),
        "title": _text,
        "status": _words,
        "isPullRequest": _bool,
        "createdAt": _text,
        "repo": _fields({"name": _text, "type": _text}),
    },
    {"author": _author},
)
_event = _fields({"id": _text, "type": _text, "createdAt": _text}, {"author": _author, "data": _fields({})})
_ref = _fields({"name": _text, "ref": _text, "targetCommit": _commit})


def _entry(value: object, at: str) -> None:
    """A file or a folder of a tree."""
    _file(value, at)
    assert isinstance(value, dict)
    if value["type"] == "file" and value.get("size") is None:
        raise Misshapen(f"{at} is a file without a size")


def _named_texts(value: object, at: str) -> None:
    """An object whose values are strings."""
    _fields({})(value, at)
    assert isinstance(value, dict)
    for name, text in value.items():
        _text(text, f"{at}/{name}")


def _names(value: object, at: str) -> None:
    """Names alone, or with values."""
    (_list(_text) if isinstance(value, list) else _fields({}))(value, at)


def _page(value: object, at: str) -> None:
    """A page of a list of discussions. An empty page that announces more would be requested forever."""
    _fields({"count": _count(0), "start": _count(0), "discussions": _list(_discussion)})(value, at)
    assert isinstance(value, dict)
    if not value["discussions"] and value["start"] < value["count"]:
        raise Misshapen(f"the answer has no discussions, but says that there are {value['count']}")


def _details(value: object, at: str) -> None:
    _discussion(value, at)
    _fields({"events": _list(_event)})(value, at)
    assert isinstance(value, dict)
    if value["isPullRequest"]:
        _fields({"changes": _fields({"base": _text}), "filesWithConflicts": _any})(value, at)


_REPO = r"/api/(?:models|datasets|spaces)/[^/]+/[^/]+"
_INFO = _fields({"id": _words, "sha": _commit}, {"siblings": _list(_fields({"rfilename": _text}))})
_COMMITS = _list(
    _fields(
        {
            "id": _commit,
            "title": _text,
            "message": _text,
            "date": _text,
            "authors": _list(_fields({"user": _text})),
        }
    )
)
_REFS = _fields({"branches": _list(_ref), "tags": _list(_ref)}, {"converts": _list(_ref), "pullRequests": _list(_ref)})
_PREUPLOAD = _fields({"files": _list(_fields({"path": _text, "uploadMode": _text, "shouldIgnore": _bool}))})
_BATCH = _fields({"objects": _list(_fields({}, {"actions": _fields({}), "error": _fields({})}))})
_TEXTS = _list(_text)
_JOB = _fields(
    {
        "id": _words,
        "owner": _fields({"id": _words, "name": _words, "type": _text}),
        "status": _fields({"stage": _words}, {"exposeUrls": _TEXTS, "sshUrl": _text}),
    },
    {
        **dict.fromkeys(("createdAt", "startedAt", "finishedAt", "dockerImage", "spaceId", "flavor"), _text),
        "command": _TEXTS,
        "arguments": _TEXTS,
        "environment": _named_texts,
        "secrets": _names,
        "labels": _named_texts,
        "volumes": _list(_fields({})),
        "initiator": _fields({"type": _text, "id": _text}),
        "network": _fields({"group": _text}),
        "retry": _count(0),
        "expose": _fields({}, {"ports": _list(_count(0)), "portsPublic": _list(_count(0))}),
    },
)
_COMMITTED = _fields({"commitOid": _commit, "commitUrl": _text}, {"pullRequestUrl": _text})

_SHAPES: tuple[tuple[str, re.Pattern[str], Shape], ...] = tuple(
    (verb, re.compile(f"{route}$"), shape)
    for verb, route, shape in (
        ("GET", _REPO, _INFO),
        ("GET", f"{_REPO}/revision/.+", _INFO),
        ("GET", f"{_REPO}/tree/.+", _list(_entry)),
        ("POST", f"{_REPO}/paths-info/.+", _list(_entry)),
        ("GET", f"{_REPO}/commits/.+", _COMMITS),
        ("GET", f"{_REPO}/refs", _REFS),
        ("GET", f"{_REPO}/discussions", _page),
        ("GET", f"{_REPO}/discussions/[0-9]+", _details),
        ("POST", f"{_REPO}/discussions/[0-9]+/comment", _fields({"newMessage": _event})),
        ("POST", f"{_REPO}/discussions/[0-9]+/status", _fields({"newStatus": _event})),
        ("POST", f"{_REPO}/preupload/.+", _PREUPLOAD),
        ("POST", f"{_REPO}/commit/.+", _COMMITTED),
        ("POST", "/info/lfs/objects/batch", _BATCH),
        ("POST", "/api/repos/create", _fields({"url": _text})),
        ("POST", "/api/validate-yaml", _fields({})),
        ("GET", "/api/whoami-v2", _fields({"name": _words})),
        ("GET", "/api/jobs/[^/]+", _list(_JOB)),
        ("POST", "/api/jobs/[^/]+", _JOB),
        ("GET", "/api/jobs/[^/]+/[^/]+", _JOB),
    )
)
