"""The tests' loopback Hub, with faults at requests by their number, and what it holds at the end."""

from __future__ import annotations

import copy
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.faults.snapshot import digest, undated

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from loopback_hub import Blob, Repo  # noqa: E402
from loopback_write import STRANGER, TOKEN, WritableHub  # noqa: E402

__all__ = ["BROKEN", "STRANGER", "TOKEN", "Blob", "FaultyHub", "Repo"]

BROKEN = ("dropped before", "dropped after", "cut in half", "500", "503", "not JSON")
"""Ways in which an answer goes wrong; "after" means that what was asked for has been done."""
Fault = str | Callable[["FaultyHub"], None]


class FaultyHub(WritableHub):
    """`plan` says what happens at which request, from 1: one of BROKEN, "kill before" or "kill after" of the process
    `victim` with `signal`, or a function that is called before the answer."""

    def __init__(self, repos: Mapping[Any, Repo], plan: Mapping[int, Fault] | None = None) -> None:
        super().__init__()
        self.repos = copy.deepcopy(dict(repos))
        self.large = {blob.sha256: blob.content for blob in self._blobs() if blob.lfs}
        self.plan = dict(plan or {})
        self.victim: subprocess.Popen[bytes] | None = None
        self.signal = 0
        self.seen: list[str] = []
        self.struck: str | None = None
        self._lock = threading.Lock()
        self._server.RequestHandlerClass = _faulty(self._server.RequestHandlerClass)
        self._server.handle_error = lambda request, address: None  # type: ignore[method-assign]

    def _blobs(self) -> list[Blob]:
        return [blob for repo in self.repos.values() for tree in repo.commits.values() for blob in tree.values()]

    def next_fault(self, line: str) -> Fault | None:
        """What is to happen at this request, which is counted."""
        with self._lock:
            self.seen.append(line)
            fault = self.plan.pop(len(self.seen), None)
            if fault is not None:
                self.struck = f"request {len(self.seen)}, {line}"
        return fault

    def kill(self) -> None:
        if self.victim is not None and self.victim.poll() is None:
            os.kill(self.victim.pid, self.signal)

    def state(self) -> dict[str, str]:
        """All that the repositories hold, as of `snapshot`: every file of every branch, tags, pull requests."""
        found = {}
        for (kind, repo_id), repo in self.repos.items():
            for branch, commit in repo.branches.items():
                for path, blob in repo.commits[commit].items():
                    record = path.startswith(("verification/", "judgements/"))
                    data = undated(blob.content) if record else blob.content
                    found[f"hub:{kind}/{repo_id}@{branch}/{path}"] = digest(data)
            for tag, commit in repo.tags.items():
                tree = {path: blob.oid for path, blob in sorted(repo.commits[commit].items())}
                found[f"hub:{kind}/{repo_id}@{tag}"] = digest(json.dumps(tree).encode())
            for num, pull in repo.pulls.items():
                found[f"hub:{kind}/{repo_id}#{num}"] = f"{pull.title}, by {pull.author}, {pull.status}"
        return found


def _faulty(base: Any) -> Any:
    class Handler(base):  # type: ignore[misc]
        fault: Fault | None = None

        def answer(self) -> None:
            hub, line = self.hub, f"{self.command} {self.path.partition('?')[0]}"
            self.fault = hub.next_fault(line)
            if callable(self.fault):
                self.fault(hub)
            if self.fault == "kill before":
                hub.kill()
            if self.fault in ("kill before", "dropped before"):
                self.hang_up()
                return
            if self.fault in ("500", "503"):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                super().send(b"<html>Sorry</html>", status=int(self.fault), headers={"Content-Type": "text/html"})
                return
            super().answer()

        def send(self, content: bytes, *, status: int = 200, headers: dict[str, str]) -> None:
            if self.fault == "kill after":
                self.hub.kill()
            if self.fault in ("kill after", "dropped after"):
                self.hang_up()
            elif self.fault == "cut in half":
                self.send_half(content, status, headers)
            elif self.fault == "not JSON":
                super().send(b"<html>Welcome to the airport</html>", headers={"Content-Type": "text/html"})
            else:
                super().send(content, status=status, headers=headers)

        def send_half(self, content: bytes, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(max(len(content), 2)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.hang_up()

        def hang_up(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    return Handler
