"""What transformers itself says: tokens and attention of `generate()`, and of one pass without a cache.

Nothing of rh_bench computes here, so that both of its engines can be compared with it.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rh_bench.records import Layer, Prompt

TIE = 1e-5
"""Weights that differ by less are equal in float32, whose sums depend on their order: either position is right."""


@dataclass(frozen=True)
class Truth:
    """Of one prompt: the tokens, and the attention of the rows that produced them, by layer.

    `rows[layer]` is float32 [T, H, L + T], zero if a row has no key.
    """

    generated: tuple[int, ...]
    rows: tuple[npt.NDArray[np.float32], ...]


def load_eager(folder: Path) -> Any:
    """The model as transformers loads it, with attention weights that can be looked at."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    model.generation_config = GenerationConfig(pad_token_id=0)
    return model


@contextmanager
def _sinks_shown(model: Any) -> Iterator[None]:
    """Inside the block attention with sinks returns weights that leave the sink's out, as most types do by themselves.

    Some divide by it afterwards (Granite), and their weights do not show it. What the model computes stays its own.
    """
    import torch

    names = vars(sys.modules[type(model).__module__])
    own = names.get("eager_attention_forward")
    if own is None or not any(isinstance(getattr(m, "sinks", None), torch.nn.Parameter) for m in model.modules()):
        yield
        return

    def attention(module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **kwargs: Any) -> Any:
        out, weights = own(module, query, key, value, mask, scaling=scaling, **kwargs)
        sinks = getattr(module, "sinks", None)
        if sinks is None:
            return out, weights
        scores = query @ key.repeat_interleave(query.shape[1] // key.shape[1], dim=1).transpose(2, 3) * scaling
        scores = scores if mask is None else scores + mask[..., : scores.shape[-1]]
        both = torch.cat([scores, sinks.reshape(1, -1, 1, 1).expand(*scores.shape[:3], 1)], dim=-1)
        return out, both.softmax(dim=-1)[..., :-1]

    names["eager_attention_forward"] = attention
    try:
        yield
    finally:
        names["eager_attention_forward"] = own


def generate(model: Any, prompt: Prompt, new_tokens: int, layers: Sequence[Layer]) -> Truth:
    """Greedy decoding by `generate()`, with the cache and the way of preparing inputs that the model itself has."""
    import torch

    own = copy.deepcopy(model)  # some rotary embeddings keep what a prompt before this one made of them
    ids = torch.from_numpy(prompt.ids.astype(np.int64))[None]
    with _sinks_shown(own):
        out = own.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new_tokens,
            do_sample=False,
            output_attentions=True,
            return_dict_in_generate=True,
            pad_token_id=0,
        )
    generated = tuple(out.sequences[0, ids.shape[1] :].tolist())
    steps = [_of_scored(step, layers) for step in out.attentions]
    total = len(prompt.ids) + len(generated)
    rows = []
    for place in range(len(steps[0])):
        weights = np.zeros((len(steps), steps[0][place].shape[1], total), dtype=np.float32)
        for number, step in enumerate(steps):
            row = step[place][0, :, -1].numpy()
            end = len(prompt.ids) + number
            weights[number, :, end - row.shape[1] : end] = row
        rows.append(weights)
    return Truth(generated, tuple(rows))


def without_cache(model: Any, prompt: Prompt, generated: tuple[int, ...], layers: Sequence[Layer]) -> Truth:
    """One pass over the prompt and its answer, with no cache at all."""
    import torch

    own = copy.deepcopy(model)
    ids = torch.from_numpy(np.concatenate([prompt.ids, np.asarray(generated)]).astype(np.int64))[None]
    with torch.inference_mode(), _sinks_shown(own):
        out = own(input_ids=ids, use_cache=False, output_attentions=True)
    first = len(prompt.ids) - 1
    wanted = slice(first, first + len(generated))
    tokens = tuple(out.logits[0, wanted].argmax(-1).tolist())
    rows = [w[0, :, wanted].transpose(0, 1).numpy() for w in _of_scored(out.attentions, layers)]
    return Truth(tokens, tuple(rows))


def _of_scored(attentions: Sequence[Any], layers: Sequence[Layer]) -> list[Any]:
    """The weights of softmax attention; some types return something for their other layers, too."""
    if len(attentions) == len(layers):
        attentions = [one for one, layer in zip(attentions, layers, strict=True) if layer.scored]
    return [one for one in attentions if one is not None]


def agree(one: Truth, other: Truth) -> bool:
    """Whether two ways in which transformers computes have the same tokens and the same largest weights."""
    if one.generated != other.generated or len(one.rows) != len(other.rows):
        return False
    return all(
        bool((np.take_along_axis(b, a.argmax(-1)[..., None], -1)[..., 0] >= b.max(-1) - TIE).all())
        for a, b in zip(one.rows, other.rows, strict=True)
    )


def differing(
    truth: Truth, generated: npt.NDArray[np.int32], targets: npt.NDArray[np.int32], sinks: bool
) -> str | None:
    """What an engine's answer and positions have that the truth has not; None if they agree.

    Args:
        targets: int32 [T, A, H]; -1 where a row has no target.
        sinks: whether a row's largest weight may be that of an attention sink, which the truth's rows leave out.
    """
    if list(truth.generated) != generated.tolist():
        place = next((i for i, (a, b) in enumerate(zip(truth.generated, generated, strict=False)) if a != b), -1)
        return f"token {place} differs"
    if len(truth.rows) != targets.shape[1]:
        return f"{targets.shape[1]} layers are scored, transformers shows attention of {len(truth.rows)}"
    for place, weights in enumerate(truth.rows):
        largest = weights.max(axis=-1)
        sunk = (1 - weights.sum(axis=-1, dtype=np.float64) > largest) if sinks else np.zeros(largest.shape, dtype=bool)
        for step in range(len(generated)):
            for head in range(weights.shape[1]):
                target = int(targets[step, place, head])
                if sunk[step, head] or target < 0:
                    if sunk[step, head] != (target < 0):
                        return f"step {step}, layer place {place}, head {head}: sink or not"
                    continue
                if weights[step, head, target] < largest[step, head] - TIE:
                    right = int(weights[step, head].argmax())
                    return f"step {step}, layer place {place}, head {head}: position {target} instead of {right}"
    return None
