"""What a command left, as hashes of bytes: by this a disturbed command is compared with an undisturbed one.

All bytes of all files count, hidden ones too, and every folder. Left out is only what must differ between two
measurements of the same thing, and only where it stands: in run.json `timings` and the hash of samples.parquet (which
is compared with the file first); in samples.parquet the column `seconds`; in the records of a review `date`; in a
site's cache the times of the files that it was made from, which are those of a download.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq

from rh_bench.artifacts.tables import table_bytes
from rh_bench.leaderboard.cache import CACHE
from rh_bench.system.files import sha256_file
from rh_bench.system.schema import dump_json

Snapshot = Mapping[str, str]
"""What each path holds; folders end in a slash."""


def snapshot(root: Path, parts: tuple[str, ...] = ("out", "home/rh_bench")) -> dict[str, str]:
    """Files and folders below some parts of a case's folder."""
    found = {}
    for part in parts:
        for path in sorted((root / part).rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.is_dir() and not path.is_symlink():
                found[f"{name}/"] = "folder"
            elif path.name == "run.json":
                found[name] = digest(run_document(path))
            elif path.name == "samples.parquet" and part == "out" and "data" not in path.parts:
                found[name] = digest(without_seconds(path.read_bytes()))
            elif path.name == CACHE:
                found[name] = digest(without_file_times(path.read_bytes()))
            else:
                found[name] = digest(path.read_bytes())
    return found


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def run_document(path: Path) -> bytes:
    """run.json without what differs between two measurements; its hashes are checked against the files before."""
    data = path.read_bytes()
    try:
        document = json.loads(data)
        wrong = [name for name, claimed in document["files"].items() if sha256_file(path.parent / name) != claimed]
    except (ValueError, KeyError, Exception) as error:
        return b"damaged: " + repr(error).encode()
    if wrong:
        return f"damaged: another {wrong[0]}".encode()
    document.pop("timings", None)
    document["files"].pop("samples.parquet", None)
    return dump_json(document)


def without_seconds(data: bytes) -> bytes:
    try:
        table = pq.read_table(io.BytesIO(data))
    except Exception:
        return data
    return table_bytes(table.drop_columns(["seconds"])) if "seconds" in table.column_names else data


def without_file_times(data: bytes) -> bytes:
    """What a build of the site leaves for the next one, without what it says of the times of the files that it read."""
    head, *lines = data.splitlines()
    kept = [json.loads(line) for line in lines]
    return json.dumps([json.loads(head)["code"], [[line[0], *line[2:]] for line in kept]]).encode()


def undated(data: bytes) -> bytes:
    """A maintainer's record without the times at which it was made."""
    document = json.loads(data)
    for part in (document, document.get("draw"), document.get("verdict")):
        if isinstance(part, dict):
            part.pop("date", None)
    return dump_json(document)


def differences(found: Snapshot, wanted: Snapshot) -> list[str]:
    """Paths by which two differ, and how."""
    lines = [f"{name} is left" for name in sorted(set(found) - set(wanted))]
    lines += [f"{name} is missing" for name in sorted(set(wanted) - set(found))]
    return lines + [f"{name} differs" for name in sorted(set(found) & set(wanted)) if found[name] != wanted[name]]


def half_done(found: Snapshot, before: Snapshot, wanted: Snapshot) -> list[str]:
    """What a command that was refused left that is neither what was there nor what it was to make, and what it lost.
    The journal of an unfinished run is meant to be there."""
    lines = []
    for name, value in found.items():
        meant = name.endswith("/journal.jsonl") or any(other != name and other.startswith(name) for other in found)
        if value not in (before.get(name), wanted.get(name)) and not meant:
            lines.append(f"{name} is neither the old one nor the new one")
    return lines + [f"{name} is lost" for name in before if name not in found]
