"""The formats of other projects by name; each has a module of its own, with a reader and a writer.

* ``seed``: the paper's released detections, ``{"layer-head": [score of each successful sample]}``.
* ``pairs``: a bare list ``[[[layer, head], score], …]``.
* ``duo``: DuoAttention's gates, a TSV of layers × key/value heads, with ``config.json`` beside it.
* ``qrhead``: QRHead's YAML, a set of heads without scores.
* ``profile``: retrieval-head-profile's JSON, shares of prompts and chosen heads.
* ``atlas``: retrieval-head-atlas's JSON, attention mass, keyed by ``model_id``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from rh_bench.errors import InputError
from rh_bench.interchange.atlas import is_atlas, read_atlas, write_atlas
from rh_bench.interchange.base import HEAD, MOST_JSON, Written, head_names, parse_head
from rh_bench.interchange.duo import REDUCTIONS, read_duo, write_duo
from rh_bench.interchange.pairs import read_pairs, write_pairs
from rh_bench.interchange.profile import read_profile, write_profile
from rh_bench.interchange.qrhead import read_qrhead, write_qrhead
from rh_bench.interchange.records import HeadList
from rh_bench.interchange.seed import read_seed, write_seed
from rh_bench.system.files import shown
from rh_bench.system.plain_yaml import plain_yaml
from rh_bench.system.schema import load_json

__all__ = [
    "MOST_JSON",
    "READERS",
    "REDUCTIONS",
    "Written",
    "guess_format",
    "head_names",
    "parse_head",
    "plain_yaml",
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


def write(heads: HeadList, format: str, *, kv_heads: int | None = None, reduce: str = "max") -> Written:
    """The files of one of READERS' formats. For `duo`, see :func:`rh_bench.interchange.duo.write_duo`.

    Raises:
        InputError: the list lacks what the format is made of.
    """
    if format == "duo":
        return write_duo(heads, kv_heads, reduce)
    return _WRITERS[format](heads)


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
