"""Names of folders that are made from names of models: the one rule, for runs, experiments and imports."""

from __future__ import annotations

import hashlib
import re

SLUG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}"
"""What a folder of a model may be called, as a regular expression. The schemas and submissions hold to it."""
_LONGEST, _DIGITS = 200, 16
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)
"""What Windows takes for a device, whatever its ending."""


MEMORY = "memory:"
"""What the id of a model begins with that was measured in memory."""


def is_memory_id(model_id: str) -> bool:
    """Whether an id is one of a model in memory."""
    name = model_id.removeprefix(MEMORY)
    return model_id.startswith(MEMORY) and bool(name) and name.isprintable() and name == name.strip()


def memory_slug(model_id: str) -> str:
    """The folder name of a model in memory."""
    return model_slug(f"memory-{model_id.removeprefix(MEMORY)}")


def model_slug(model_id: str) -> str:
    """A folder name for a model: ``org/name`` becomes ``org__name``; anything unsafe becomes a hyphen.

    A name that is longer than 200 characters is cut, and one that has none that can be kept or that is no folder's on
    Windows gets another; both end with digits of the name's hash, so that no two models meet.
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
