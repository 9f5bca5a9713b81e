"""Pull requests of the loopback Hub: who opened them, what was said, merging as git does it, and the history."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from loopback_hub import DATE, HubError, Kind, Pull, Repo, Tree

PAGE = 2
"""Pull requests on one page of the list: few, so that tests turn pages."""


def open_pull(repo: Repo, title: str, author: str, description: str = "") -> Pull:
    pull = repo.pulls[len(repo.pulls) + 1] = Pull(len(repo.pulls) + 1, title, author)
    say(pull, author, description)
    return pull


def say(pull: Pull, author: str, text: str) -> dict[str, Any]:
    return _event(pull, author, "comment", {"edited": False, "hidden": False, "latest": {"raw": text}})


def _event(pull: Pull, author: str, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    number = f"{len(pull.events):024x}"
    event = {"id": number, "type": kind, "createdAt": DATE, "author": {"name": author}, "data": data}
    pull.events.append(event)
    return event


def _name_of(handler: Any) -> str:
    from loopback_write import name_of

    return name_of(handler)


def _described(repo: Repo, pull: Pull) -> dict[str, Any]:
    return {
        "num": pull.num,
        "title": pull.title,
        "author": {"name": pull.author},
        "createdAt": DATE,
        "status": pull.status,
        "isPullRequest": True,
        "repo": {"name": repo.repo_id, "type": repo.kind[:-1]},
    }


def _pull(handler: Any, kind: Kind, repo_id: str, num: str) -> tuple[Repo, Pull]:
    repo = handler.hub.repo(kind, repo_id)
    if int(num) not in repo.pulls:
        raise HubError(HTTPStatus.NOT_FOUND, None, "Discussion not found")
    return repo, repo.pulls[int(num)]


def _list(handler: Any, kind: Kind, repo_id: str) -> None:
    repo = handler.hub.repo(kind, repo_id)
    query = {name: values[0] for name, values in parse_qs(urlsplit(handler.path).query).items()}
    found = [
        pull
        for pull in repo.pulls.values()
        if query.get("author") in (None, pull.author)
        and (query.get("status") != "open" or pull.status in ("open", "draft"))
    ]
    start = int(query.get("p", "0")) * PAGE
    shown = [_described(repo, pull) for pull in found[start : start + PAGE]]
    handler.send_json({"discussions": shown, "count": len(found), "start": start})


def _details(handler: Any, kind: Kind, repo_id: str, num: str) -> None:
    repo, pull = _pull(handler, kind, repo_id, num)
    extra = {"changes": {"base": "refs/heads/main"}, "filesWithConflicts": False, "events": pull.events}
    handler.send_json(_described(repo, pull) | extra)


def _comment(handler: Any, kind: Kind, repo_id: str, num: str) -> None:
    _, pull = _pull(handler, kind, repo_id, num)
    event = say(pull, _name_of(handler), json.loads(handler.body)["comment"])
    handler.send_json({"newMessage": event})


def _status(handler: Any, kind: Kind, repo_id: str, num: str) -> None:
    _, pull = _pull(handler, kind, repo_id, num)
    asked = json.loads(handler.body)
    if asked.get("comment"):
        say(pull, _name_of(handler), asked["comment"])
    pull.status = asked["status"]
    event = _event(pull, _name_of(handler), "status-change", {"status": pull.status})
    handler.send_json({"newStatus": event})


def _merge(handler: Any, kind: Kind, repo_id: str, num: str) -> None:
    repo, pull = _pull(handler, kind, repo_id, num)
    if _name_of(handler) != "owner":
        raise HubError(HTTPStatus.FORBIDDEN, None, "You do not have write access")
    handler.hub.before_merge(pull)
    branch = f"refs/pr/{num}"
    base = repo.commits[merge_base(repo, branch)]
    ours, theirs = dict(repo.commits[repo.branches["main"]]), repo.commits[repo.branches[branch]]
    for path in set(base) | set(theirs):
        if base.get(path) != theirs.get(path):
            _take(ours, theirs, path)
    repo.commit(ours)
    pull.status = "merged"
    handler.send_json({})


def _take(ours: Tree, theirs: Tree, path: str) -> None:
    if path in theirs:
        ours[path] = theirs[path]
    else:
        ours.pop(path, None)


def history(repo: Repo, revision: str) -> list[str]:
    """Commits from a revision back to the first."""
    found, commit = [], repo.resolve(revision)
    while commit is not None:
        found.append(commit)
        commit = repo.parents.get(commit)
    return found


def merge_base(repo: Repo, branch: str) -> str:
    main = set(history(repo, "main"))
    return next(commit for commit in history(repo, branch) if commit in main)


def _commits(handler: Any, kind: Kind, repo_id: str, revision: str) -> None:
    repo = handler.hub.repo(kind, repo_id)
    if repo.resolve(revision) is None:
        raise HubError(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {revision}")
    listed = [
        {"id": commit, "title": "a commit", "message": "", "authors": [{"user": "owner"}], "date": DATE}
        for commit in history(repo, revision)
    ]
    handler.send_json(listed)


def _whoami(handler: Any) -> None:
    name = _name_of(handler)
    handler.send_json({"type": "user", "name": name, "fullname": name, "orgs": [], "auth": {"type": "access_token"}})


_API = r"/api/(?P<kind>models|datasets)/(?P<repo_id>[^/]+/[^/]+)"
_ONE = _API + r"/discussions/(?P<num>\d+)"
PULLS: list[tuple[tuple[str, ...], re.Pattern[str], Callable[..., None]]] = [
    (("GET",), re.compile(_API + "/discussions"), _list),
    (("GET",), re.compile(_ONE), _details),
    (("POST",), re.compile(_ONE + "/comment"), _comment),
    (("POST",), re.compile(_ONE + "/status"), _status),
    (("POST",), re.compile(_ONE + "/merge"), _merge),
    (("GET",), re.compile(_API + r"/commits/(?P<revision>[^/]+)"), _commits),
    (("GET",), re.compile("/api/whoami-v2"), _whoami),
]
