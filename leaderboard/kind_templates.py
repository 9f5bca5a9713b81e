"""Templates that lie in the folders of the kinds of experiments, beside those of the site."""

from __future__ import annotations

from rh_bench.errors import InputError
from rh_bench.experiments.registry import registry, text_of

_CARD = "card.html"


def card_template(package: str) -> str:
    """Name of the template that draws what is shown of a folder."""
    return f"{package}/{_CARD}"


def read_card(name: str) -> str | None:
    """Its text; None if no folder has a template of this name."""
    package, _, file = name.rpartition("/")
    if file != _CARD or package not in {folder.package for folder in registry().folders}:
        return None
    try:
        return text_of(package, file)
    except InputError:
        return None
