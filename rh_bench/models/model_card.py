"""What a model's card says of where the model comes from.

A card is anyone's text: it is read within bounds, and one that cannot be read says nothing.
"""

from __future__ import annotations

from pathlib import Path

from rh_bench.errors import InputError
from rh_bench.system.files import regular_file
from rh_bench.system.plain_yaml import plain_yaml

CARD = "README.md"
MOST_BASES = 8
LONGEST_BASE = 300
_MOST_CARD = 1 << 20
_FENCE = "---"


def base_models(folder: Path) -> list[str] | None:
    """The `base_model` of the card in a model's folder: the models that this one was derived from, as the card names
    them, in its order; None if there is no card or it names none.

    Names longer than 300 characters, with unprintable ones, or beyond the eighth are left out, and so are paths, which
    are of someone's machine.
    """
    try:
        # Files of the Hub's cache are links, and what they lead to was downloaded by its digest.
        path = (folder / CARD).resolve()
        with regular_file(path.parent, path.name).open("rb") as file:
            text = file.read(_MOST_CARD).decode("utf-8", errors="replace")
        front = _front_matter(text)
        document = plain_yaml(front, CARD) if front else None
    except (InputError, OSError):
        return None
    named = document.get("base_model") if isinstance(document, dict) else None
    listed = named if isinstance(named, list) else [named]
    found = [name.strip() for name in listed if isinstance(name, str)]
    kept = [name for name in found if 0 < len(name) <= LONGEST_BASE and name.isprintable() and not _is_path(name)]
    return list(dict.fromkeys(kept))[:MOST_BASES] or None


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or "\\" in name


def _front_matter(text: str) -> str | None:
    """The YAML between the two lines of hyphens that a card starts with."""
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != _FENCE:
        return None
    for place, line in enumerate(lines[1:], start=1):
        if line.rstrip() == _FENCE:
            return "\n".join(lines[1:place])
    return None
