"""The formats of other projects by name; each has a module of its own, with a reader and a writer.

* ``seed``: the paper's released detections, ``{"layer-head": [score of each successful sample]}``.
* ``pairs``: a bare list ``[[[layer, head], score], …]``.
* ``duo``: DuoAttention's gates, a TSV of layers × key/value heads, with ``config.json`` beside it.
* ``qrhead``: QRHead's YAML, a set of heads without scores.
* ``profile``: retrieval-head-profile's JSON, shares of prompts and chosen heads.
* ``atlas``: retrieval-head-atlas's JSON, attention mass, keyed by ``model_id``.

An installed package can add others (:class:`rh_bench.interchange.base.Format`); nothing of it is imported before its
format is asked for by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from rh_bench.errors import InputError
from rh_bench.interchange.atlas import is_atlas, read_atlas, write_atlas
from rh_bench.interchange.base import HEAD, MOST_JSON, Format, Written, head_names, parse_head
from rh_bench.interchange.duo import REDUCTIONS, read_duo, write_duo
from rh_bench.interchange.pairs import read_pairs, write_pairs
from rh_bench.interchange.profile import read_profile, write_profile
from rh_bench.interchange.qrhead import read_qrhead, write_qrhead
from rh_bench.interchange.records import HeadList
from rh_bench.interchange.seed import read_seed, write_seed
from rh_bench.system.files import shown
from rh_bench.system.plain_yaml import plain_yaml
from rh_bench.system.plugins import load_plugin, plugin_names
from rh_bench.system.schema import load_json

__all__ = [
    "MOST_JSON",
    "READERS",
    "REDUCTIONS",
    "REPORTS",
    "Format",
    "Written",
    "guess_format",
    "head_names",
    "parse_head",
    "plain_yaml",
    "read",
    "read_qrhead",
    "write",
]

READERS: Mapping[str, Callable[[Path], HeadList]] = {
    "seed": read_seed,
    "pairs": read_pairs,
    "duo": read_duo,
    "qrhead": read_qrhead,
    "profile": read_profile,
    "atlas": read_atlas,
}
_WRITERS: Mapping[str, Callable[[HeadList], Written]] = {
    "seed": write_seed,
    "pairs": write_pairs,
    "qrhead": write_qrhead,
    "profile": write_profile,
    "atlas": write_atlas,
}


GROUP = "rh_bench.formats"
"""Entry points of formats that installed packages add."""
REPORTS = ("eee", "eval-results")
"""What a run is also exported as, and nothing is read from: see :mod:`rh_bench.interchange.export`."""


def read(path: Path, format: str) -> HeadList:
    """Read a file of a format, rh_bench's own or an installed package's.

    Raises:
        InputError: the file is damaged, or there is no such format to read.
    """
    if format in READERS:
        return READERS[format](path)
    found = _installed(format)
    if found.read is None:
        raise InputError(f"nothing reads the format {shown(format)!r}", where=path, hint="it can only be written")
    heads = found.read(path)
    if heads.format != format:
        raise InputError(f"the reader of {shown(format)!r} calls it {shown(heads.format)!r}", where=path)
    return heads


def write(heads: HeadList, format: str, *, kv_heads: int | None = None, reduce: str = "max") -> Written:
    """The files of a format, rh_bench's own or an installed package's. For `duo`, see
    :func:`rh_bench.interchange.duo.write_duo`.

    Raises:
        InputError: the list lacks what the format is made of, or there is no such format to write.
    """
    if format == "duo":
        return write_duo(heads, kv_heads, reduce)
    if format in _WRITERS:
        return _WRITERS[format](heads)
    found = _installed(format)
    if found.write is None:
        raise InputError(f"nothing writes the format {shown(format)!r}", where="format", hint="it can only be read")
    return found.write(heads)


def _installed(name: str) -> Format:
    """The format of this name that an installed package adds.

    Raises:
        InputError: none does, or it is no format of this name.
    """
    found = load_plugin(GROUP, name)
    if found is None:
        known = ", ".join([*READERS, *REPORTS, *plugin_names(GROUP)])
        raise InputError(f"unknown format {shown(name)!r}", where="format", hint=f"there are {known}")
    if not isinstance(found, Format) or found.name != name:
        raise InputError("is no rh_bench.interchange.base.Format of this name", where=f"format {shown(name)!r}")
    return found


def guess_format(path: Path) -> str:
    """The format of a file by its name and by what its JSON says of itself.

    Raises:
        InputError: it is none that is known.
    """
    hint = "give --format " + ", ".join(READERS)
    if path.is_dir() or path.suffix == ".tsv":
        return "duo"
    if path.suffix in (".yaml", ".yml"):
        return "qrhead"
    if path.suffix != ".json":
        raise InputError("this is no format that is known", where=path, hint=hint)
    document = load_json(path, max_bytes=MOST_JSON, constant=lambda text: None)
    found = _json_format(document)
    if found is None:
        raise InputError(f"this is no format that is known: {_said(document)}", where=path, hint=hint)
    return found


def _json_format(document: object) -> str | None:
    if isinstance(document, dict):
        if isinstance(document.get("argmax_scores"), list):
            return "profile"
        if any(HEAD.fullmatch(key) for key in document):
            return "seed"
        return "atlas" if is_atlas(document) else None
    if isinstance(document, list) and document and isinstance(document[0], list):
        return "pairs" if document[0] and isinstance(document[0][0], list) else None
    return None


def _said(document: object) -> str:
    """What a document of no known format is, in a few words."""
    if isinstance(document, dict):
        keys = ", ".join(shown(key[:30]) for key in list(document)[:4])
        return f"an object with {keys}" + (" and more" if len(document) > 4 else "") if document else "an empty object"
    if isinstance(document, list):
        return "a list of anything but [[layer, head], score]" if document else "an empty list"
    return "neither an object nor a list"
