"""Where haystack text comes from: written here, a folder of text files, or a text column of a Hub dataset."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rh_bench.data_builders.prose import synthetic_text
from rh_bench.errors import InputError
from rh_bench.system.files import shown

ENOUGH = 6
"""Characters of English that one token rarely exceeds: so many a token are taken where there are as many."""
LEAST = 4
"""With fewer characters a token than this, a common tokenizer would find the haystack too short."""

_HUB = re.compile(
    r"(?P<repo>[^@#:\s]+)@(?P<revision>[^@#:\s]+)(?:#(?P<config>[^/#:\s]+)(?:/(?P<split>[^/#:\s]+))?(?::(?P<column>[^#:\s]+))?)?"
)
_SEED = re.compile(r"[0-9]{1,15}")
_SEPARATOR = "\n\n"


@dataclass(frozen=True, slots=True)
class Source:
    """A source as the user wrote it, taken apart."""

    kind: str
    """"synthetic", "folder" or "hub"."""
    id: str
    """What goes into the manifest: never a path of this machine."""
    seed: int | None = None
    folder: Path | None = None
    repo: str | None = None
    revision: str | None = None
    config: str | None = None
    split: str = "train"
    column: str = "text"


@dataclass(frozen=True, slots=True)
class SourceText:
    """The haystacks' texts, each at least as long as was needed, and the revision that they came from."""

    texts: tuple[str, ...]
    revision: str | None


def parse_source(text: str) -> Source:
    """Read ``synthetic``, ``synthetic:SEED``, ``folder:PATH`` or ``hub:REPO@REVISION[#CONFIG[/SPLIT][:COLUMN]]``.

    Raises:
        InputError: it is none of these.
    """
    kind, _, rest = text.partition(":")
    if kind == "synthetic" and (not rest or _SEED.fullmatch(rest)):
        return Source("synthetic", "synthetic-prose", seed=int(rest or 0))
    if kind == "folder" and rest:
        folder = Path(rest).expanduser()
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-.") or "folder"
        return Source("folder", name, folder=folder)
    if kind == "hub":
        match = _HUB.fullmatch(rest)
        if match is None:
            raise InputError(
                f"{shown(rest)!r} does not name a revision of a Hub dataset",
                where="--source",
                hint="write hub:org/name@revision, with #config/split:column if needed",
            )
        part = {key: value for key, value in match.groupdict().items() if value is not None}
        config, split, column = part.get("config"), part.get("split", "train"), part.get("column", "text")
        label = f"{part['repo']}#{config or 'default'}/{split}:{column}"
        return Source(
            "hub", label, repo=part["repo"], revision=part["revision"], config=config, split=split, column=column
        )
    raise InputError(
        f"{shown(text)!r} is not a source",
        where="--source",
        hint="use synthetic, synthetic:SEED, folder:PATH or hub:REPO@REVISION",
    )


def read_source(source: Source, count: int, longest: int) -> SourceText:
    """`count` haystacks (or as many as the text gives, at least one), each long enough for `longest` tokens.

    Args:
        source: from :func:`parse_source`.
        count: haystacks that are wanted.
        longest: the longest context length, in tokens.

    Raises:
        InputError: the source is missing, empty, not text, or too short.
    """
    wanted = ENOUGH * longest
    if source.kind == "synthetic":
        assert source.seed is not None
        # Seeds of one set are neighbours; those of sets with other seeds are far away.
        texts = tuple(synthetic_text(1000 * source.seed + i, wanted) for i in range(count))
        return SourceText(texts, None)
    if source.kind == "folder":
        assert source.folder is not None
        return SourceText(_cut(_folder_texts(source.folder), count, longest, source.folder), None)
    documents, revision = _hub_texts(source)
    return SourceText(_cut(documents, count, longest, source.id), revision)


def _cut(documents: Iterable[str], count: int, longest: int, where: object) -> tuple[str, ...]:
    """Whole documents, one after the other, until each haystack is long enough."""
    wanted, texts, parts, size = ENOUGH * longest, [], [], 0
    for document in documents:
        parts.append(document)
        size += len(document) + len(_SEPARATOR)
        if size >= wanted:
            texts.append(_SEPARATOR.join(parts))
            parts, size = [], 0
            if len(texts) == count:
                return tuple(texts)
    rest = _SEPARATOR.join(parts)
    if not texts and len(rest) < LEAST * longest:
        raise InputError(
            f"has {len(rest)} characters of text; a length of {longest} tokens needs at least {LEAST * longest}",
            where=where,
            hint="give more text or shorter --lengths",
        )
    return tuple(texts) or (rest,)


def _folder_texts(folder: Path) -> Iterator[str]:
    """The text of the folder's ``*.txt`` files, in the order of their names, whatever the folder's own order is."""
    if not folder.is_dir():
        raise InputError("no such folder", where=folder, hint="give a folder of *.txt files")
    paths = sorted((path for path in folder.glob("*.txt") if path.is_file()), key=lambda path: path.name.encode())
    if not paths:
        raise InputError("there are no *.txt files in it", where=folder, hint="give a folder of *.txt files")
    for path in paths:
        text = _clean(_read_text(path), path)
        if text:
            yield text


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 text (byte {error.start})", where=path, hint="convert it to UTF-8") from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", where=path) from None


def _clean(text: str, where: object) -> str:
    """Line ends as ``\\n``, no white space around."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if "\0" in text:
        raise InputError("contains a NUL character, so it is not text", where=where)
    return text


def _hub_texts(source: Source) -> tuple[Iterator[str], str]:
    """The text column, streamed, and the full commit that the revision names."""
    from rh_bench.hub.download import repo_commit
    from rh_bench.hub.refs import parse_repo

    ref = parse_repo(f"{source.repo}@{source.revision}")
    commit = repo_commit(ref, "dataset")
    return _stream(source, commit), commit


def _stream(source: Source, commit: str) -> Iterator[str]:
    from datasets import load_dataset

    where = f"hub:{source.repo}"
    try:
        rows = load_dataset(source.repo, source.config, split=source.split, revision=commit, streaming=True)
        columns = rows.column_names
        for row in rows:
            if source.column not in row:
                known = ", ".join(columns or row)
                raise InputError(f"there is no column {source.column!r}", where=where, hint=f"there are {known}")
            if not isinstance(row[source.column], str):
                raise InputError(f"column {source.column!r} does not contain text", where=where)
            text = _clean(row[source.column], where)
            if text:
                yield text
    except (ValueError, OSError, RuntimeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"cannot be streamed ({first[:200]})", where=where) from None
