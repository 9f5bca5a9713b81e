"""The writing side of the loopback Hub: repositories, uploads, commits, tags, for the unmodified client without Xet.

Content of large files goes to another origin than the Hub's own, as on the real one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from loopback_hub import LFS_SUFFIXES, Blob, HubError, Kind, LoopbackHub, Pull, Repo, Tree
from loopback_jobs import JOBS, HubJob
from loopback_pulls import PULLS, open_pull

TOKEN = "hf_loopback_token"
"""Of the owner, who may write to every repository."""
STRANGER = "hf_another_token"
"""Of somebody who may read and open pull requests."""
ROBOT = "hf_robot_of_a_job"
"""Of a job: may read, and open pull requests."""
NAMES = {TOKEN: "owner", STRANGER: "stranger", ROBOT: "robot"}


class WritableHub(LoopbackHub):
    """A Hub that takes writes from whoever shows TOKEN, and pull requests from whoever shows STRANGER too.

    `failures` are (path pattern, HTTP status) that are answered once each instead of the thing asked for; status 0
    drops the connection, and 1 drops it after the thing was done. `slow` seconds pass before each answer. `meddle`, if
    set, is called once before a commit is taken or a pull request merged, as another writer would come. `retry_after`
    goes with each failure, as the seconds that the client is to wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self.routes += [*WRITING, *PULLS, *JOBS]
        self.jobs: dict[str, HubJob] = {}
        self.large: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.failures: list[tuple[str, int]] = []
        self.meddle: Callable[[WritableHub], None] | None = None
        self.slow = 0.0
        self.retry_after: int | None = None

    def before(self, method: str, path: str) -> None:
        time.sleep(self.slow)
        for failure in list(self.failures):
            pattern, status = failure
            if status != 1 and re.search(pattern, f"{method} {path}"):
                self.failures.remove(failure)
                if status == 0:
                    raise ConnectionAbortedError("dropped on demand")
                raise HubError(status, None, "failed on demand", retry_after=self.retry_after)

    def before_merge(self, pull: Pull) -> None:
        """Called when a merge has been asked for and is not done yet."""
        if self.meddle is not None:
            meddle, self.meddle = self.meddle, None
            meddle(self)

    def after(self, method: str, path: str) -> None:
        """Drop the connection of something that has been done, where that was asked for."""
        for failure in list(self.failures):
            pattern, status = failure
            if status == 1 and re.search(pattern, f"{method} {path}"):
                self.failures.remove(failure)
                raise ConnectionAbortedError("dropped on demand")


def name_of(handler: Any) -> str:
    """Who shows this token.

    Raises:
        HubError: nobody.
    """
    token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
    if token not in NAMES:
        raise HubError(HTTPStatus.UNAUTHORIZED, None, "Invalid username or password.")
    return NAMES[token]


def _may_write(handler: Any) -> None:
    if handler.headers.get("Authorization") != f"Bearer {TOKEN}":
        status = HTTPStatus.FORBIDDEN if "Authorization" in handler.headers else HTTPStatus.UNAUTHORIZED
        raise HubError(status, None, "You do not have write access")


def _create(handler: Any) -> None:
    _may_write(handler)
    asked = json.loads(handler.body)
    kinds: dict[str | None, Kind] = {"dataset": "datasets", "space": "spaces"}
    kind = kinds.get(asked.get("type"), "models")
    if kind == "spaces" and asked.get("sdk") != "static":
        raise HubError(HTTPStatus.BAD_REQUEST, None, "A Space needs an SDK, and this Hub knows the static one")
    owner = asked.get("organization")
    repo_id = f"{owner}/{asked['name']}" if owner else asked["name"]
    if (kind, repo_id) in handler.hub.repos:
        answer = {"error": "You already created this dataset repo", "url": f"{handler.hub.url}/{kind}/{repo_id}"}
        handler.send_json(answer, status=HTTPStatus.CONFLICT)
        return
    repo = handler.hub.repos[kind, repo_id] = Repo(kind, repo_id)
    repo.commit({".gitattributes": Blob(b"*.parquet filter=lfs\n", lfs=False)})
    handler.send_json({"url": f"{handler.hub.url}/{kind}/{repo_id}", "name": repo_id})


SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B")


def _validate_yaml(handler: Any) -> None:
    asked = json.loads(handler.body)
    errors = [{"message": message} for message in card_errors(asked["content"])]
    status = HTTPStatus.BAD_REQUEST if errors else HTTPStatus.OK
    handler.send_json({"errors": errors, "warnings": []}, status=status)


def card_errors(text: str) -> list[str]:
    """What the Hub would have against a card's metadata, as far as it is documented."""
    parts = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    if parts is None:
        return []  # a card without metadata is taken
    front = yaml.safe_load(parts[1])
    if not isinstance(front, dict):
        return ["metadata must be a mapping"]
    errors = [f'"size_categories" has {size}' for size in front.get("size_categories", ()) if size not in SIZES]
    names = [config.get("config_name") for config in front.get("configs", ())]
    if len(set(names)) != len(names) or None in names:
        errors.append('"configs" must have names, each once')
    infos = front.get("dataset_info", [])
    unknown = [info["config_name"] for info in infos if info.get("config_name") not in names]
    return errors + [f'"dataset_info" has {name}, which is no config' for name in unknown]


def _asks_for_pull(handler: Any) -> bool:
    return parse_qs(urlsplit(handler.path).query).get("create_pr") == ["1"]


def _may_commit(handler: Any, repo: Repo, revision: str) -> None:
    """To a pull request its author may, and whoever may write."""
    if _asks_for_pull(handler):
        name_of(handler)
    elif revision.startswith("refs/pr/"):
        if name_of(handler) not in ("owner", repo.pulls[int(revision.rpartition("/")[2])].author):
            raise HubError(HTTPStatus.FORBIDDEN, None, "You do not have write access")
    else:
        _may_write(handler)


def _preupload(handler: Any, kind: Kind, repo_id: str, revision: str) -> None:
    _may_commit(handler, handler.hub.repo(kind, repo_id), revision)
    repo = handler.hub.repo(kind, repo_id)
    tree = repo.commits[repo.resolve(revision)]
    files = []
    for file in json.loads(handler.body)["files"]:
        there = tree.get(file["path"])
        mode = "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular"
        files.append(
            {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": there.etag if there else None}
        )
    handler.send_json({"files": files})


def _batch(handler: Any, kind: str, repo_id: str) -> None:
    name_of(handler)
    hub = handler.hub
    objects = []
    for asked in json.loads(handler.body)["objects"]:
        answer = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] not in hub.large:
            upload = {"href": f"{hub.content_url}/upload/{asked['oid']}"}
            answer["actions"] = {"upload": upload, "verify": {"href": f"{hub.url}/verify/{asked['oid']}"}}
        objects.append(answer)
    handler.send_json({"transfer": "basic", "objects": objects})


def _upload(handler: Any, sha256: str) -> None:
    if hashlib.sha256(handler.body).hexdigest() != sha256:
        raise HubError(HTTPStatus.BAD_REQUEST, None, "The content is another one")
    if "Authorization" in handler.headers:
        raise HubError(HTTPStatus.BAD_REQUEST, None, "A token was shown to another origin")
    handler.hub.large[sha256] = handler.body
    handler.hub.uploads.append(sha256)
    handler.send(b"", headers={})


def _verify(handler: Any, sha256: str) -> None:
    found = sha256 in handler.hub.large
    handler.send_json({}, status=HTTPStatus.OK if found else HTTPStatus.NOT_FOUND)


def _commit(handler: Any, kind: Kind, repo_id: str, revision: str) -> None:
    hub = handler.hub
    repo = hub.repo(kind, repo_id)
    _may_commit(handler, repo, revision)
    if hub.meddle is not None:
        meddle, hub.meddle = hub.meddle, None
        meddle(hub)
    lines = [json.loads(line) for line in handler.body.decode().splitlines() if line]
    header = lines[0]["value"]
    head = repo.resolve(revision)
    if header.get("parentCommit") not in (None, head):
        raise HubError(HTTPStatus.PRECONDITION_FAILED, None, "A commit has happened since")
    tree: Tree = dict(repo.commits[head])
    for line in lines[1:]:
        value = line["value"]
        if line["key"] == "file":
            tree[value["path"]] = Blob(base64.b64decode(value["content"]), lfs=False)
        elif line["key"] == "lfsFile":
            tree[value["path"]] = Blob(hub.large[value["oid"]], lfs=True)
        elif line["key"] == "deletedFile":
            del tree[value["path"]]
    answer: dict[str, Any] = {"success": True}
    if _asks_for_pull(handler):
        pull = open_pull(repo, header["summary"], name_of(handler), header.get("description", ""))
        revision = f"refs/pr/{pull.num}"
        answer["pullRequestUrl"] = f"{hub.url}/{kind}/{repo_id}/discussions/{pull.num}"
    oid = repo.commit(tree, revision, parent=head)
    hub.after(handler.command, urlsplit(handler.path).path)
    handler.send_json(answer | {"commitOid": oid, "commitUrl": f"{hub.url}/{kind}/{repo_id}/commit/{oid}"})


def _tag(handler: Any, kind: Kind, repo_id: str, revision: str) -> None:
    _may_write(handler)
    repo, name = handler.hub.repo(kind, repo_id), json.loads(handler.body)["tag"]
    if name in repo.tags:
        raise HubError(HTTPStatus.CONFLICT, None, "Tag already exists")
    repo.tags[name] = repo.resolve(revision) or ""
    handler.send_json({})


_API = r"/api/(?P<kind>models|datasets|spaces)/(?P<repo_id>[^/]+/[^/]+)"
WRITING: list[tuple[tuple[str, ...], re.Pattern[str], Callable[..., None]]] = [
    (("POST",), re.compile(r"/api/repos/create"), _create),
    (("POST",), re.compile(r"/api/validate-yaml"), _validate_yaml),
    (("POST",), re.compile(_API + r"/preupload/(?P<revision>[^/]+)"), _preupload),
    (
        ("POST",),
        re.compile(r"/(?:(?P<kind>datasets|spaces)/)?(?P<repo_id>[^/]+/[^/]+)\.git/info/lfs/objects/batch"),
        _batch,
    ),
    (("PUT",), re.compile(r"/upload/(?P<sha256>[0-9a-f]{64})"), _upload),
    (("POST",), re.compile(r"/verify/(?P<sha256>[0-9a-f]{64})"), _verify),
    (("POST",), re.compile(_API + r"/commit/(?P<revision>[^/]+)"), _commit),
    (("POST",), re.compile(_API + r"/tag/(?P<revision>[^/]+)"), _tag),
]
