"""A small Hub on 127.0.0.1 that unmodified Hugging Face clients can talk to: repositories are folders of the test.

It speaks the read side of the real Hub's API (repository info, trees, paths-info, refs, file downloads with LFS
redirects and ranges) and its error codes. Point a client at it with `endpoint=hub.url`, or with `hub.environment()`
for a subprocess, since huggingface_hub reads HF_ENDPOINT once, when it is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

Kind = Literal["models", "datasets", "spaces"]

LFS_SUFFIXES = (".parquet", ".safetensors", ".bin", ".gguf")
NO_PROXY = "127.0.0.1,localhost"
DATE = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Blob:
    """One file of a commit, as git and the Hub name it."""

    content: bytes
    lfs: bool

    @property
    def oid(self) -> str:
        """The git object id of the file (not of its LFS pointer, which no client looks at)."""
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


Tree = dict[str, Blob]


def read_tree(folder: Path) -> Tree:
    """Every file below `folder`, by its path with forward slashes."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): Blob(path.read_bytes(), path.suffix in LFS_SUFFIXES) for path in paths}


@dataclass
class Pull:
    """A pull request: its commits are on the branch `refs/pr/<num>`."""

    num: int
    title: str
    author: str
    status: str = "open"
    events: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Repo:
    """A repository: commits by their id, and branches and tags that name them."""

    kind: Kind
    repo_id: str
    gated: bool = False
    commits: dict[str, Tree] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    parents: dict[str, str | None] = field(default_factory=dict)
    pulls: dict[int, Pull] = field(default_factory=dict)

    def commit(self, tree: Tree, branch: str = "main", *, parent: str | None = None) -> str:
        """Put `tree` on a branch and give its commit: made up, but the same for the same history.

        Args:
            parent: where a branch that is new begins.
        """
        before = self.branches.get(branch, parent)
        history = json.dumps([before, {path: blob.oid for path, blob in sorted(tree.items())}])
        commit = hashlib.sha1(f"{self.kind}/{self.repo_id}/{history}".encode()).hexdigest()
        self.commits[commit] = tree
        self.branches[branch] = commit
        self.parents[commit] = before
        return commit

    def resolve(self, revision: str) -> str | None:
        """The full commit that a branch, a tag or a full commit names."""
        if revision in self.commits:
            return revision
        return self.branches.get(revision) or self.tags.get(revision)


@dataclass(frozen=True)
class Request:
    """What a client asked for, as tests look at it."""

    method: str
    path: str
    headers: dict[str, str]


class HubError(Exception):
    """An answer that is not the thing asked for, with the code that clients tell errors apart by."""

    def __init__(self, status: int, code: str | None, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after


class LoopbackHub:
    """The server. `with LoopbackHub() as hub:` runs it in a thread; leaving the block ends it.

    `broken` makes every answer a web page with that HTTP status, as a Hub with a fault or a proxy in between gives.
    `instead` is answered with status 200 to requests that match a pattern, whatever they ask for; `links` are headers
    `Link` of others. `cut` are (pattern,
    bytes) after which the connection is dropped, once each, in the middle of an answer that announced more.
    """

    def __init__(self) -> None:
        self.repos: dict[tuple[Kind, str], Repo] = {}
        self.requests: list[Request] = []
        self.broken: int | None = None
        self.instead: dict[str, bytes] = {}
        self.links: dict[str, str] = {}
        self.cut: list[tuple[str, int]] = []
        self.routes = list(ROUTES)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def content_url(self) -> str:
        """Where the content of large files lies: for a client another host, as on the real Hub."""
        return f"http://localhost:{self._server.server_address[1]}"

    def add(self, kind: Kind, repo_id: str, folder: Path, *, branch: str = "main", gated: bool = False) -> str:
        """Commit the files of `folder` on a branch of a repository, made if need be. Returns the commit."""
        repo = self.repos.setdefault((kind, repo_id), Repo(kind, repo_id))
        repo.gated = gated
        return repo.commit(read_tree(folder), branch)

    def tag(self, kind: Kind, repo_id: str, name: str, commit: str) -> None:
        self.repos[kind, repo_id].tags[name] = commit

    def repo(self, kind: Kind, repo_id: str) -> Repo:
        found = self.repos.get((kind, repo_id))
        if found is None:
            raise HubError(HTTPStatus.NOT_FOUND, "RepoNotFound", "Repository not found")
        return found

    def environment(self, home: Path) -> dict[str, str]:
        """Variables for a subprocess whose Hugging Face clients know this Hub only and cache below `home`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        return kept | {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": NO_PROXY,
            "no_proxy": NO_PROXY,
        }

    def before(self, method: str, path: str) -> None:
        """Called before each answer; a subclass can raise HubError here."""

    def stop(self) -> None:
        """End the server early: connections to its port are refused from now on."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> LoopbackHub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            self.stop()


# --- The routes. Those that write are in loopback_write. ---


class _Handler(BaseHTTPRequestHandler):
    """One connection: finds the route of a request and sends what the route answers."""

    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Silence: `hub.requests` keeps what was asked."""

    def answer(self) -> None:
        # Read whatever was sent, or what is left of it would be taken for the next request of the connection.
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(Request(self.command, self.path, dict(self.headers)))
        if self.hub.broken:
            self.send(b"<html>Sorry</html>", status=self.hub.broken, headers={"Content-Type": "text/html"})
            return
        path = urlsplit(self.path).path
        for pattern, content in self.hub.instead.items():
            if re.search(pattern, f"{self.command} {path}"):
                self.send(content, headers={"Content-Type": "application/json"})
                return
        try:
            self.hub.before(self.command, path)
            for methods, pattern, route in self.hub.routes:
                match = pattern.fullmatch(path)
                if match and self.command in methods:
                    route(self, **{name: unquote(text) for name, text in match.groupdict(default="").items()})
                    return
            raise HubError(HTTPStatus.NOT_FOUND, None, f"No such page: {path}")
        except HubError as error:
            # As the real Hub does, hide from strangers which repositories exist.
            stranger = error.code == "RepoNotFound" and "Authorization" not in self.headers
            headers = {"X-Error-Message": error.message} | ({"X-Error-Code": error.code} if error.code else {})
            if error.retry_after is not None:
                headers["Retry-After"] = str(error.retry_after)
            status = HTTPStatus.UNAUTHORIZED if stranger else error.status
            self.send_json({"error": error.message}, status=status, headers=headers)

    def send_json(self, document: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(document).encode()
        self.send(content, status=status, headers={"Content-Type": "application/json"} | (headers or {}))

    def send(self, content: bytes, *, status: int = 200, headers: dict[str, str]) -> None:
        self.send_response(status)
        asked = f"{self.command} {urlsplit(self.path).path}"
        links = [("Link", link) for pattern, link in self.hub.links.items() if re.search(pattern, asked)]
        for name, value in [*{"Content-Length": str(len(content)), **headers}.items(), *links]:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: self.allowed(len(content))])

    def allowed(self, size: int) -> int:
        """How many bytes of an answer are sent before its connection is dropped."""
        for one in self.hub.cut:
            pattern, most = one
            if most < size and re.search(pattern, f"{self.command} {urlsplit(self.path).path}"):
                self.hub.cut.remove(one)
                self.close_connection = True
                return most
        return size


def _handler_of(of_hub: LoopbackHub) -> type[_Handler]:
    class Handler(_Handler):
        hub = of_hub

    return Handler


def _tree_of(handler: _Handler, kind: Kind, repo_id: str, revision: str) -> tuple[Repo, str, Tree]:
    repo = handler.hub.repo(kind, repo_id)
    commit = repo.resolve(revision)
    if commit is None:
        raise HubError(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {revision}")
    return repo, commit, repo.commits[commit]


def _info(handler: _Handler, kind: Kind, repo_id: str, revision: str = "") -> None:
    repo, commit, tree = _tree_of(handler, kind, repo_id, revision or "main")
    handler.send_json(
        {
            "_id": commit[:24],
            "id": repo_id,
            "author": repo_id.partition("/")[0],
            "sha": commit,
            "createdAt": DATE,
            "lastModified": DATE,
            "private": False,
            "gated": "manual" if repo.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": path} for path in tree],
        }
    )


def _refs(handler: _Handler, kind: Kind, repo_id: str) -> None:
    repo = handler.hub.repo(kind, repo_id)

    def listed(names: dict[str, str], prefix: str) -> list[dict[str, str]]:
        return [{"name": name, "ref": prefix + name, "targetCommit": commit} for name, commit in names.items()]

    heads = {name: commit for name, commit in repo.branches.items() if not name.startswith("refs/")}
    answer = {"branches": listed(heads, "refs/heads/"), "tags": listed(repo.tags, "refs/tags/"), "converts": []}
    if "include_prs" in handler.path:
        answer["pullRequests"] = [
            {"name": str(num), "ref": f"refs/pr/{num}", "targetCommit": repo.branches[f"refs/pr/{num}"]}
            for num in repo.pulls
        ]
    handler.send_json(answer)


def _folders(tree: Tree) -> set[str]:
    return {"/".join(parts[:n]) for path in tree if (parts := path.split("/")) for n in range(1, len(parts))}


def _described(path: str, tree: Tree) -> dict[str, Any]:
    """A file or folder as trees and paths-info list it."""
    blob = tree.get(path)
    if blob is None:
        return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(blob.content), "oid": blob.oid}
    if blob.lfs:
        entry["lfs"] = {"oid": blob.sha256, "size": len(blob.content), "pointerSize": 134}
    return entry


def _list_tree(handler: _Handler, kind: Kind, repo_id: str, revision: str, folder: str = "") -> None:
    _, _, tree = _tree_of(handler, kind, repo_id, revision)
    if folder and folder not in _folders(tree):
        raise HubError(HTTPStatus.NOT_FOUND, "EntryNotFound", f"{folder} does not exist on {revision}")
    recursive = parse_qs(urlsplit(handler.path).query).get("recursive", ["false"])[0].lower() in ("true", "1")
    prefix = f"{folder}/" if folder else ""
    below = [path for path in sorted(set(tree) | _folders(tree)) if path.startswith(prefix)]
    shown = [path for path in below if recursive or "/" not in path.removeprefix(prefix)]
    handler.send_json([_described(path, tree) for path in shown])


def _paths_info(handler: _Handler, kind: Kind, repo_id: str, revision: str) -> None:
    _, _, tree = _tree_of(handler, kind, repo_id, revision)
    if handler.headers.get("Content-Type", "").startswith("application/json"):
        asked = json.loads(handler.body)["paths"]
    else:
        asked = parse_qs(handler.body.decode()).get("paths", [])
    known = set(tree) | _folders(tree)
    handler.send_json([_described(path, tree) for path in asked if path in known])


def _resolve(handler: _Handler, kind: Kind | Literal[""], repo_id: str, revision: str, path: str) -> None:
    """A file of a commit. Large ones (LFS) are redirected to where their content lies, as on the real Hub."""
    repo, commit, tree = _tree_of(handler, kind or "models", repo_id, revision)
    if repo.gated:
        status = HTTPStatus.FORBIDDEN if "Authorization" in handler.headers else HTTPStatus.UNAUTHORIZED
        raise HubError(status, "GatedRepo", f"Access to {repo_id} is restricted")
    blob = tree.get(path)
    if blob is None:
        raise HubError(HTTPStatus.NOT_FOUND, "EntryNotFound", "Entry not found")
    headers = {"X-Repo-Commit": commit, "ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
    if not blob.lfs:
        _send_content(handler, blob.content, headers)
        return
    headers |= {
        "X-Linked-Size": str(len(blob.content)),
        "X-Linked-ETag": f'"{blob.sha256}"',
        "Location": f"{handler.hub.content_url}/lfs/{blob.sha256}",
    }
    handler.send(b"", status=HTTPStatus.FOUND, headers=headers)


def _lfs_content(handler: _Handler, sha256: str) -> None:
    blobs = (blob for repo in handler.hub.repos.values() for tree in repo.commits.values() for blob in tree.values())
    found = next((blob for blob in blobs if blob.lfs and blob.sha256 == sha256), None)
    if found is None:
        raise HubError(HTTPStatus.NOT_FOUND, "EntryNotFound", "Entry not found")
    _send_content(handler, found.content, {"ETag": f'"{found.sha256}"', "Accept-Ranges": "bytes"})


def _send_content(handler: _Handler, content: bytes, headers: dict[str, str]) -> None:
    """The whole content, or the range of bytes asked for."""
    headers = {"Content-Type": "application/octet-stream"} | headers
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", handler.headers.get("Range", ""))
    if asked is None or not any(asked.groups()):
        handler.send(content, headers=headers)
        return
    size = len(content)
    first, last = asked.groups()
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        headers |= {"Content-Range": f"bytes */{size}"}
        handler.send(b"", status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=headers)
        return
    headers |= {"Content-Range": f"bytes {start}-{end}/{size}"}
    handler.send(content[start : end + 1], status=HTTPStatus.PARTIAL_CONTENT, headers=headers)


_API = r"/api/(?P<kind>models|datasets|spaces)/(?P<repo_id>[^/]+/[^/]+)"
_READ = ("GET", "HEAD")

ROUTES: list[tuple[tuple[str, ...], re.Pattern[str], Callable[..., None]]] = [
    (_READ, re.compile(_API), _info),
    (_READ, re.compile(_API + r"/revision/(?P<revision>[^/]+)"), _info),
    (_READ, re.compile(_API + r"/refs"), _refs),
    (_READ, re.compile(_API + r"/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?"), _list_tree),
    (("POST",), re.compile(_API + r"/paths-info/(?P<revision>[^/]+)"), _paths_info),
    (
        _READ,
        re.compile(
            r"/(?:(?P<kind>datasets|spaces)/)?(?P<repo_id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"
        ),
        _resolve,
    ),
    (_READ, re.compile(r"/lfs/(?P<sha256>[0-9a-f]{64})"), _lfs_content),
]
