"""Jobs of the loopback Hub: started, listed, inspected, their logs; and carried out, here, when a test says so.

Whoever is no member of a namespace gets 404 for whatever is asked about its jobs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from loopback_hub import DATE, HubError

MEMBERS = {"owner": ("owner",), "org": ("owner",), "stranger": ("stranger",)}
"""Who may start and read jobs, by namespace."""
OWNERS = {name: f"{place:024x}" for place, name in enumerate(MEMBERS, 1)}
"""The Hub's own ids of the namespaces."""


@dataclass
class HubJob:
    """A job: what was asked for, with its secrets, and what has become of it."""

    id: str
    namespace: str
    spec: dict[str, Any]
    described: dict[str, Any]
    """What the Hub answers; a test may change it."""
    log: list[str] = field(default_factory=list)
    gone: bool = False


def _described(hub: Any, job_id: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": job_id,
        "createdAt": DATE,
        "startedAt": None,
        "finishedAt": None,
        "dockerImage": spec.get("dockerImage"),
        "spaceId": spec.get("spaceId"),
        "command": spec["command"],
        "arguments": spec["arguments"],
        "environment": spec["environment"],
        "secrets": sorted(spec.get("secrets", {})),
        "flavor": spec["flavor"],
        "labels": spec.get("labels"),
        "status": {"stage": "SCHEDULING", "message": None},
        "owner": {"id": OWNERS[namespace], "name": namespace, "type": "user" if namespace == "owner" else "org"},
        "initiator": {"type": "user", "id": OWNERS["owner"], "name": "owner"},
    }


def carry_out(hub: Any, job: HubJob, home: Path) -> int:
    """Run a job's command here as its container would, with the Hub's variables, and end it. The log has both streams,
    one after the other."""
    first, *words = [*job.spec["command"], *job.spec["arguments"]]
    assert first == "rh-bench", "images that hold rh-bench alone are carried out"
    python_path = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    secrets: dict[str, str] = job.spec.get("secrets", {})
    variables = hub.environment(home) | job.spec["environment"] | secrets
    done = subprocess.run(
        [sys.executable, "-m", "rh_bench", *words],
        env=variables | {"JOB_ID": job.id, "ACCELERATOR": "none", "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    job.log = ["===== Job started at 2026-01-01 =====", *(done.stderr + done.stdout).splitlines()]
    finish(job, "COMPLETED" if done.returncode == 0 else "ERROR")
    return done.returncode


def finish(job: HubJob, stage: str = "COMPLETED") -> None:
    job.described |= {"startedAt": DATE, "finishedAt": DATE, "status": {"stage": stage, "message": None}}


def _member(handler: Any, namespace: str) -> None:
    from loopback_write import name_of

    if name_of(handler) not in MEMBERS.get(namespace, ()):
        raise HubError(HTTPStatus.NOT_FOUND, None, "Not found")


def _start(handler: Any, namespace: str) -> None:
    _member(handler, namespace)
    hub, spec = handler.hub, json.loads(handler.body)
    job_id = f"{0x68000000 + len(hub.jobs):024x}"
    hub.jobs[job_id] = HubJob(job_id, namespace, spec, _described(hub, job_id, namespace, spec))
    hub.after(handler.command, urlsplit(handler.path).path)
    handler.send_json(hub.jobs[job_id].described)


def _list(handler: Any, namespace: str) -> None:
    _member(handler, namespace)
    asked = dict(pair.split("=", 1) for pair in parse_qs(urlsplit(handler.path).query).get("label", []))
    found = [
        job.described
        for job in handler.hub.jobs.values()
        if job.namespace == namespace and asked.items() <= (job.spec.get("labels") or {}).items()
    ]
    handler.send_json(found)


def _job(handler: Any, namespace: str, job_id: str) -> HubJob:
    _member(handler, namespace)
    job = handler.hub.jobs.get(job_id)
    if job is None or job.namespace != namespace or job.gone:
        raise HubError(HTTPStatus.NOT_FOUND, None, "Job not found")
    return job


def _inspect(handler: Any, namespace: str, job_id: str) -> None:
    handler.send_json(_job(handler, namespace, job_id).described)


def _logs(handler: Any, namespace: str, job_id: str) -> None:
    lines = _job(handler, namespace, job_id).log
    tail = parse_qs(urlsplit(handler.path).query).get("tail")
    shown = lines[-int(tail[0]) :] if tail else lines
    events = "".join(f"data: {json.dumps({'data': line, 'timestamp': DATE})}\n\n" for line in shown)
    handler.send(events.encode(), headers={"Content-Type": "text/event-stream"})


_NAMESPACE = r"/api/jobs/(?P<namespace>[^/]+)"
JOBS: list[tuple[tuple[str, ...], re.Pattern[str], Callable[..., None]]] = [
    (("POST",), re.compile(_NAMESPACE), _start),
    (("GET",), re.compile(_NAMESPACE), _list),
    (("GET",), re.compile(_NAMESPACE + r"/(?P<job_id>[^/]+)"), _inspect),
    (("GET",), re.compile(_NAMESPACE + r"/(?P<job_id>[^/]+)/logs"), _logs),
]
