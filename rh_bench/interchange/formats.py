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
from rh_bench.interchange import atlas, duo, pairs, profile, qrhead, seed
from rh_bench.interchange.base import MOST_JSON, Format, Written, head_names, parse_head
from rh_bench.interchange.duo import REDUCTIONS, write_duo
from rh_bench.interchange.qrhead import read_qrhead
from rh_bench.interchange.records import HeadList
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

FORMATS: Mapping[str, Format] = {
    one.name: one for one in (seed.FORMAT, pairs.FORMAT, duo.FORMAT, qrhead.FORMAT, profile.FORMAT, atlas.FORMAT)
}
"""The formats of this package, by name. A file is of the first that it fits."""
READERS: Mapping[str, Callable[[Path], HeadList]] = {
    name: one.read for name, one in FORMATS.items() if one.read is not None
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
    found = FORMATS.get(format) or _installed(format)
    if found.write is None:
        raise InputError(f"nothing writes the format {shown(format)!r}", where="format", hint="it can only be read")
    return found.write(heads)


def _installed(name: str) -> Format:
    """The format of this name that an installed package adds.

    Raises:
        InputError: none does, or it is not a format of this name.
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
    suffix = "" if path.is_dir() else path.suffix
    for one in FORMATS.values():
        if suffix in one.suffixes and (suffix or path.is_dir()):
            return one.name
    if suffix != ".json":
        raise InputError("unknown format", where=path, hint=hint)
    document = load_json(path, max_bytes=MOST_JSON, constant=lambda text: None)
    for one in FORMATS.values():
        if one.fits is not None and one.fits(document):
            return one.name
    raise InputError(f"unknown format: {_said(document)}", where=path, hint=hint)


def project_of(name: str) -> str:
    """Whose format it is, in words; that of an installed package goes by its name."""
    return FORMATS[name].project if name in FORMATS else name


def _said(document: object) -> str:
    """What a document of no known format is, in a few words."""
    if isinstance(document, dict):
        keys = ", ".join(shown(key[:30]) for key in list(document)[:4])
        return f"an object with {keys}" + (" and more" if len(document) > 4 else "") if document else "an empty object"
    if isinstance(document, list):
        return "a list of something other than [[layer, head], score]" if document else "an empty list"
    return "neither an object nor a list"
