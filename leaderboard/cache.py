"""What a build leaves for the next one: of every folder what it was made from and what was made, in one file.

The file is believed only if it is whole and of the same code, and a page in it only if the page has the bytes that it
had. Anything else means making things again, never an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from rh_bench.errors import InputError
from rh_bench.experiments.registry import registry
from rh_bench.leaderboard.collect import LeftOut
from rh_bench.leaderboard.render import Document, Frame, write
from rh_bench.records import Json
from rh_bench.system.files import regular_file

CACHE = ".build-cache.json"
"""In the site's folder; no part of the site."""
_FORM = 1
_MADE_WITH = ("jinja2", "markupsafe", "numpy", "pyarrow")


@dataclass(frozen=True, slots=True)
class Made:
    """What became of one folder."""

    kind: str
    """"run", "import" or "left_out"."""
    document: Json
    """The run's brief, the import's document and folder, or the reasons."""
    files: Mapping[str, str]
    """Its own files of the site and their SHA-256."""

    @classmethod
    def of(cls, kind: str, document: Json, documents: Iterable[Document], fresh: Path) -> Made:
        """Write `documents` below `fresh`, one at a time. `document` is kept as it will come back from JSON."""
        written = {}
        for name, content in documents:
            written[name] = hashlib.sha256(write(fresh, (name, content))).hexdigest()
        return cls(kind, json.loads(json.dumps(document, allow_nan=False)), written)

    @classmethod
    def left_out(cls, one: LeftOut) -> Made:
        return cls("left_out", {"folder": one.folder, "reasons": list(one.reasons)}, {})


@dataclass(frozen=True, slots=True)
class _Line:
    """A folder in the cache: from what it was made, what was made, and the line of the file that says so."""

    fingerprint: str
    made: Made
    text: bytes


@dataclass(frozen=True, slots=True)
class Cache:
    """What the last build left, by the name of the folder; empty if that cannot be used."""

    code: str
    found: Mapping[str, _Line]

    @classmethod
    def read(cls, site: Path, code: str) -> Cache:
        """The cache of `site`, as far as it is whole and was made by the code that has the digest `code`."""
        try:
            head, _, body = regular_file(site, CACHE).read_bytes().partition(b"\n")
            if json.loads(head) == _head(code, body):
                return cls(code, dict(map(_parsed, body.splitlines())))
        except (InputError, OSError, ValueError):
            pass
        return cls(code, {})

    def keep(self, name: str, fingerprint: str, old: Path, fresh: Path) -> Made | None:
        """Bring the files of a folder over from the site `old` to `fresh`; None if anything about them has changed."""
        line = self.found.get(name)
        if line is None or line.fingerprint != fingerprint:
            return None
        # Texts rather than paths: with a thousand runs, this is where a build that changes nothing spends its time.
        source, target = f"{old}{os.sep}", f"{fresh}{os.sep}"
        if not all(_same(source + path, digest) for path, digest in line.made.files.items()):
            return None
        for folder in sorted({path.rpartition("/")[0] for path in line.made.files}):
            Path(target + folder).mkdir(parents=True, exist_ok=True)
        for path in line.made.files:
            _bring(source + path, target + path)
        return line.made

    def write(self, fresh: Path, made: Mapping[str, tuple[str, Made]]) -> None:
        """Leave the cache of this build in the new site."""
        body = b"\n".join(self._line(name, fingerprint, one) for name, (fingerprint, one) in made.items())
        write(fresh, (CACHE, json.dumps(_head(self.code, body)).encode() + b"\n" + body))

    def _line(self, name: str, fingerprint: str, made: Made) -> bytes:
        kept = self.found.get(name)
        if kept is not None and kept.made is made:
            return kept.text
        content = [name, fingerprint, made.kind, made.document, made.files]
        return json.dumps(content, separators=(",", ":"), ensure_ascii=True).encode()


def _parsed(text: bytes) -> tuple[str, _Line]:
    name, fingerprint, kind, document, written = json.loads(text)
    return name, _Line(fingerprint, Made(kind, document, written), text)


def code_digest(frame: Frame) -> str:
    """SHA-256 over all that turns a run into pages: this package with its templates and assets, the core and its
    schemas, kinds of experiments that are installed beside it, the versions of what they use, and what all pages have
    in common."""
    return hashlib.sha256(json.dumps([_FORM, _code(_added()), asdict(frame)]).encode()).hexdigest()


def _added() -> tuple[str, ...]:
    """Folders of experiments that other packages bring."""
    return tuple(one.package for one in registry().folders if not one.package.startswith("rh_bench."))


@cache
def _code(added: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for package in ("rh_bench", *added):
        _add(digest, files(package))
    for name in _MADE_WITH:
        with contextlib.suppress(PackageNotFoundError):
            digest.update(f"{name} {version(name)}\n".encode())
    return digest.hexdigest()


def _add(digest: Any, folder: Traversable) -> None:
    for child in sorted(folder.iterdir(), key=lambda child: child.name):
        if child.is_dir():
            if child.name != "__pycache__":
                _add(digest, child)
        elif not child.name.startswith("."):
            digest.update(f"{child.name}\n".encode() + hashlib.sha256(child.read_bytes()).digest())


def _head(code: str, body: bytes) -> Json:
    return {"code": code, "sha256": hashlib.sha256(body).hexdigest()}


def _same(path: str, digest: str) -> bool:
    """Whether a plain file has these bytes; what a link leads to is none of the site's."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
    except OSError:
        return False


def _bring(old: str, new: str) -> None:
    """The same file in both folders where the file system can do that: pages are never written in place."""
    try:
        os.link(old, new)
    except OSError:
        shutil.copy2(old, new)
