"""Whether a checkpoint and an architecture belong together: the loader's own report, judged.

transformers fills weights that a checkpoint lacks with random numbers, leaves out those that it does not know, and says
both in a warning. A run of such a model would be well formed, reproducible and about nothing. So every weight of the
text decoder must come from the files, and every weight in the files must be used or be known to be no part of it.
Neither torch nor transformers is imported.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rh_bench.errors import InputError
from rh_bench.system.files import shown

_NAMED = 3
"""Weights that a line names."""
_MEND = "use the files and the config.json of one model, as save_pretrained writes them"

_BUFFERS = re.compile(
    r"(^|\.)(rotary_emb\.(inv_freq|cos_cached|sin_cached)|rope\.freqs|masked_bias|causal_mask|position_ids"
    r"|embed_positions\.(weights|_float_tensor)|version)$"
)
"""What older code saved and newer code computes: frequencies, masks, counters."""
_MASK = re.compile(r"(^|\.)(attn|attention)\.bias$")
"""GPT-2's and its relatives' causal mask: [1, 1, N, N]. By this name alone it could be something else."""
_NEXT_TOKENS = re.compile(r"(^|\.)(mtp|mtp_layers|mtp_block|nextn|eagle|medusa_heads?)(\.|$)")
"""Heads that predict tokens further ahead, for speculative decoding."""
_LAYER = re.compile(r"(^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
_OTHER_HEADS = re.compile(r"^(score|v_head|value_head|reward_head|regression_head|classifier|classification_head)\.")
_TOWERS = re.compile(
    r"^(model\.)?(vision|visual|vit|image|audio|video|speech|mm_|multi_modal|embed_vision|embed_audio|talker|token2wav"
    r"|code2wav|vqmodel|connector|qformer)"
)
"""What multimodal checkpoints have beside their text decoder."""
_CACHE_SCALES = re.compile(r"(^|\.)([kv]_scale|kv_scale|[kv]_proj\.output_scale)$")
"""Of key/value caches in 8 bits, which are not used here."""


@dataclass(frozen=True)
class LoadingReport:
    """What a loader says of a checkpoint and a model."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, Sequence[int], Sequence[int]], ...]
    """(name, shape in the files, shape in the model)."""
    errors: tuple[str, ...] = ()

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> LoadingReport:
        """What ``from_pretrained(..., output_loading_info=True)`` returns beside the model."""
        return cls(
            tuple(sorted(said.get("missing_keys", ()))),
            tuple(sorted(said.get("unexpected_keys", ()))),
            tuple(sorted((name, tuple(a), tuple(b)) for name, a, b in said.get("mismatched_keys", ()))),
            tuple(said.get("error_msgs", ())),
        )


def judge(
    report: LoadingReport, shapes: Mapping[str, Sequence[int]], config: Any, where: str, outside: Iterable[str] = ()
) -> tuple[str, ...]:
    """Refuse weights that were not loaded.

    Args:
        shapes: of the weights in the files, by name, as far as they are known.
        config: the model's configuration.
        where: the model's name.
        outside: modules of the model that a text prompt never reaches, by name.

    Returns:
        What is not used and need not be, in words.

    Raises:
        InputError: names the first weights that are missing, do not fit or are left over.
    """
    parts = tuple(f"{name}." for name in outside)
    missing = [name for name in report.missing if not name.startswith(parts) and not _BUFFERS.search(name)]
    wrong = [one for one in report.mismatched if not one[0].startswith(parts)]
    groups = _unused(report.unexpected, shapes, config, parts)
    unknown = groups.pop("", [])
    problems = list(report.errors[:1])
    if missing:
        problems.append(f"{_count(missing)} missing ({_names(missing)})")
    if wrong:
        name, found, wanted = wrong[0]
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        problems.append(f"{shown(name)} has the shape {list(found)}, the architecture needs {list(wanted)}{more}")
    if unknown:
        problems.append(f"{_count(unknown)} unknown to the architecture ({_names(unknown)})")
    if problems:
        raise InputError(f"its weights do not match its configuration: {'; '.join(problems)}", where=where, hint=_MEND)
    notes = [f"{_count(names)} not used: {words} ({_names(names, 1)})" for words, names in groups.items()]
    lacking = [name for name in report.missing if name.startswith(parts)]
    if lacking:
        notes.append(f"{_count(lacking)} missing beside the text decoder, where it is not used ({_names(lacking, 1)})")
    return tuple(notes)


def _unused(
    names: Sequence[str], shapes: Mapping[str, Sequence[int]], config: Any, parts: tuple[str, ...]
) -> dict[str, list[str]]:
    """Weights that the architecture does not know, by what they are; "" for those that could be of the decoder."""
    text = config.get_text_config(decoder=True)
    layers, ahead = getattr(text, "num_hidden_layers", 0), getattr(text, "num_nextn_predict_layers", 0)
    beyond = range(layers, layers + ahead) if isinstance(layers, int) and isinstance(ahead, int) else range(0)
    groups: dict[str, list[str]] = {}
    for name in names:
        layer, shape = _LAYER.search(name), _shape(name, shapes)
        mask = shape is not None and len(shape) == 4 and shape[:2] == (1, 1) and shape[2] == shape[3]
        scalar = shape is not None and math.prod(shape) == 1
        if _BUFFERS.search(name) or (_MASK.search(name) and mask):
            continue
        if _NEXT_TOKENS.search(name) or (layer is not None and int(layer[2]) in beyond):
            words = "of heads that predict further tokens"
        elif name.startswith(parts) or _TOWERS.match(name):
            words = "of parts for images, sound or video"
        elif _OTHER_HEADS.match(name):
            words = "of a head beside the language model's"
        elif scalar and _CACHE_SCALES.search(name):
            words = "of scales for a quantised cache, which is not quantised here"
        else:
            words = ""
        groups.setdefault(words, []).append(name)
    return groups


def _shape(name: str, shapes: Mapping[str, Sequence[int]]) -> tuple[int, ...] | None:
    """Shape of a weight; loaders add a prefix to names, or take one away."""
    found = shapes.get(name)
    if found is None:
        ends = (s for key, s in shapes.items() if name.endswith(f".{key}") or key.endswith(f".{name}"))
        found = next(ends, None)
    return None if found is None else tuple(found)


def _count(names: Sequence[str]) -> str:
    return "1 weight is" if len(names) == 1 else f"{len(names)} weights are"


def _names(names: Sequence[str], most: int = _NAMED) -> str:
    listed = ", ".join(shown(name)[:120] for name in names[:most])
    return f"{listed}, …" if len(names) > most else listed
