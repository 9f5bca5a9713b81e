"""Names of models in foreign files. A quantised variant is another model than the one it was made from: its heads can
differ, so it gets a name of its own even where its file names the original alone."""

from __future__ import annotations

import re

from rh_bench.records import Json
from rh_bench.system.files import shown

_MARK = re.compile(
    r"""(?<![a-z0-9])(?:
        (?:awq|gptq|bnb|bitsandbytes|hqq|aqlm|quip)(?:[-_]?(?:nf|fp|int)?[2-8](?:[-_]?bits?)?)?
      | (?:nf|fp|int)[248] | mxfp[48] | nvfp4 | [2-8][-_]?bits? | w[2-8]a(?:8|16)
      | i?q[1-8]_(?:[01]|k|xxs|xs|s|m|nl)(?:_(?:xl|xs|[sml]))? | i?q[2-8]
      | exl[23] | gguf | quanti[sz]ed
    )(?![a-z0-9])""",
    re.IGNORECASE | re.VERBOSE,
)
_FIELDS = ("quantization", "quantisation", "quant", "quantization_config", "quantisation_config", "quant_method")
_WHOLE = ("", "none", "no", "false", "null", "full", "fp32", "fp16", "bf16", "float32", "float16", "bfloat16")
"""What such a field says of weights that are not quantised."""
_LONGEST = 40


def mark_in(name: str) -> str | None:
    """The part of a model's or a file's name that says how it was quantised: `4bit`, `AWQ`, `Q4_K_M`; `GGUF` where
    nothing says more."""
    marks = [found[0] for found in _MARK.finditer(name)]
    return min(marks, key=_is_vague, default=None)


def _is_vague(mark: str) -> bool:
    """Whether weights that differ can share the mark."""
    return mark.casefold() in ("gguf", "quantized", "quantised")


def quantisation_of(document: Json, *labels: str) -> str | None:
    """How a foreign document says that the model was quantised; None if it does not.

    Args:
        labels: fields in which the document has names of its own for the model, which can hold a mark.
    """
    for field in _FIELDS:
        said = _said(document.get(field))
        if said:
            return said
    for bits in (4, 8):
        if document.get(f"load_in_{bits}bit") is True:
            return f"{bits}bit"
    marks = (mark_in(text) for text in map(document.get, labels) if isinstance(text, str))
    return next((mark for mark in marks if mark), None)


def _said(value: object) -> str | None:
    if isinstance(value, dict):
        parts = [value.get("quant_method"), value.get("bits")]
        words = [str(part) for part in parts if isinstance(part, str | int) and not isinstance(part, bool)]
        loaded = [f"{bits}bit" for bits in (4, 8) if value.get(f"load_in_{bits}bit") is True]
        return _said("-".join([*words, *loaded]))
    if not isinstance(value, str) or value.strip().casefold() in _WHOLE:
        return None
    return shown(" ".join(value.split()))[:_LONGEST]


def own_name(model: str, quantisation: str | None) -> str:
    """A model's name, with how it was quantised where the name does not say so itself: `org/name (bnb4)`."""
    mark = mark_in(model)
    said = mark is not None and not _is_vague(mark)
    return model if quantisation is None or said else f"{model} ({quantisation})"
