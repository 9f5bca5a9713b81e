"""Folder names made from model names: one rule for runs, experiments and imports."""

from __future__ import annotations

import hashlib
import re

SLUG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}"
"""A valid folder name of a model, as a regular expression. Schemas and submissions enforce it."""
_LONGEST, _DIGITS = 200, 16
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)
"""Names that Windows takes for devices, whatever their suffix."""


MEMORY = "memory:"
"""What the id of a model starts with that was measured in memory."""


def is_memory_id(model_id: str) -> bool:
    """Whether an id is one of a model in memory."""
    name = model_id.removeprefix(MEMORY)
    return model_id.startswith(MEMORY) and bool(name) and name.isprintable() and name == name.strip()


def memory_slug(model_id: str) -> str:
    """The folder name of a model in memory."""
    return model_slug(f"memory-{model_id.removeprefix(MEMORY)}")


def model_slug(model_id: str) -> str:
    """A folder name for a model: ``org/name`` becomes ``org__name``; anything unsafe becomes a hyphen.

    A name longer than 200 characters is cut, and one that is left empty or is reserved on Windows is replaced; both end
    with digits of the name's hash, so that no two models collide.
    """
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", model_id.replace("/", "__"))
    slug = re.sub(r"\.{2,}", ".", slug).strip(".-")
    digits = hashlib.sha256(model_id.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    if not re.search(r"[A-Za-z0-9]", slug):
        return f"model-{digits}"
    if _RESERVED.match(slug):
        slug = f"model-{slug[:_LONGEST]}-{digits}"
    if len(slug) > _LONGEST:
        return f"{slug[: _LONGEST - _DIGITS - 1].rstrip('.-')}-{digits}"
    return slug
