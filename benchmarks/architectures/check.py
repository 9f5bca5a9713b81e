"""One type of model, measured through the product's own loader and engines and compared with transformers itself."""

from __future__ import annotations

import tempfile
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.architectures import truth as transformers_says
from benchmarks.architectures.prompts import NEW_TOKENS, ORIGINAL, make_prompts
from benchmarks.architectures.tiny_configs import POSITIONS, save_tiny, tiny_config, tiny_model
from rh_bench.engines import make_engine
from rh_bench.engines.base import StopRule
from rh_bench.engines.fast import FastEngine
from rh_bench.engines.follow import Claimed, Follower
from rh_bench.errors import InputError
from rh_bench.records import Decoded, Prompt
from rh_bench.scores.events import copy_events

EXACT, REFUSED, WRONG, TRACEBACK, NOT_BUILT = "exact", "refused", "wrong", "traceback", "not built"
CHUNK = 7
"""Tokens of a piece: fewer than any prompt has, and no divisor of their lengths."""

_SEEDS = 4
"""Random models that are tried until one copies."""

ROPE: Mapping[str, dict[str, Any]] = {
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": ORIGINAL},
    "longrope": {"factor": 4.0, "original_max_position_embeddings": ORIGINAL},
    "llama3": {
        "factor": 4.0,
        "original_max_position_embeddings": ORIGINAL,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    },
}
"""Kinds of scaled rotary embeddings, beside the type's default."""

_NEAR = 1e-3
"""Scores and logits that differ by less are equal, in float32 with these large random weights."""

_DISPUTED = "transformers' pass without a cache differs from its own generate(), which the engines agree with"


@dataclass(frozen=True)
class Row:
    """What came out for one type and one kind of rotary embedding."""

    model_type: str
    rope: str
    state: str
    reason: str = ""
    scored: int = 0
    events: int = 0
    notes: tuple[str, ...] = ()


def check_type(model_type: str, ropes: tuple[str, ...] | None = None) -> Iterator[Row]:
    """A row for the type as it is, then one for each kind of rotary embedding that it takes.

    Args:
        ropes: kinds of ROPE to try; None for all of them.
    """
    try:
        config = tiny_config(model_type)
    except Exception as error:
        yield Row(model_type, "", NOT_BUILT, _short(error))
        return
    first = _check(model_type, "", config)
    yield first
    if first.state != EXACT:
        return
    for rope in ROPE if ropes is None else ropes:
        scaled = scaled_rope(model_type, rope)
        if scaled is not None:
            yield _check(model_type, rope, scaled)


def check_default_memory(model_type: str) -> str | None:
    """What is wrong with the memory plan of a type's default configuration; None if it is made."""
    from transformers import AutoConfig

    from rh_bench.system.memory import model_shape, plan_memory

    try:
        config = AutoConfig.for_model(model_type)
    except Exception:
        return None
    try:
        plan_memory(model_shape(config, 1), 2, 1000, "cpu", None)
    except Exception as error:
        return _short(error)
    return None


def scaled_rope(model_type: str, rope: str) -> Any:
    """The type's tiny configuration with a scaled rotary embedding; None if it has none to scale."""
    plain = tiny_config(model_type).get_text_config(decoder=True)
    before = getattr(plain, "rope_parameters", None)
    if not before:
        return None
    nested = all(isinstance(value, dict) for value in before.values())
    changes = {
        "rope_parameters": {kind: _scaled(plain, own, rope) for kind, own in before.items()}
        if nested
        else _scaled(plain, before, rope),
        "max_position_embeddings": ORIGINAL if rope == "dynamic" else POSITIONS,
    }
    if hasattr(plain, "original_max_position_embeddings"):
        changes["original_max_position_embeddings"] = ORIGINAL
    try:
        return tiny_config(model_type, **changes)
    except Exception:
        return None


def _scaled(config: Any, before: dict[str, Any], rope: str) -> dict[str, Any]:
    scaled = {**{k: v for k, v in before.items() if k not in ROPE["llama3"]}, "rope_type": rope, **ROPE[rope]}
    scaled.setdefault("rope_theta", 10_000.0)
    if rope == "longrope":
        # As many factors as frequencies: half of what is rotated of a head.
        width = getattr(config, "qk_rope_head_dim", None) or getattr(config, "head_dim", None)
        width = width or config.hidden_size // config.num_attention_heads
        half = int(width * before.get("partial_rotary_factor", 1.0)) // 2
        scaled |= {"short_factor": [1.0 + 0.1 * i for i in range(half)], "long_factor": [3.0 + i for i in range(half)]}
    if config.model_type == "phimoe":  # reads these whatever the kind
        scaled |= {"short_mscale": 1.0, "long_mscale": 1.2, "original_max_position_embeddings": ORIGINAL}
    return scaled


def _check(model_type: str, rope: str, config: Any) -> Row:
    """The row of a configuration: with other random weights, where the first few copy nothing."""
    for seed in range(_SEEDS):
        row = _check_weights(model_type, rope, config, seed)
        if row.state != EXACT or row.events:
            break
    return row


def _check_weights(model_type: str, rope: str, config: Any, seed: int) -> Row:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = tiny_model(config, seed)
            saved = save_tiny(model, Path(folder) / f"tiny-{model_type}")
        except Exception as error:
            return Row(model_type, rope, NOT_BUILT, _short(error))
        try:
            return _measured(model_type, rope, saved)
        except InputError as error:
            return Row(model_type, rope, REFUSED, str(error).replace(str(saved), saved.name))
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            return Row(model_type, rope, TRACEBACK, f"{_short(error)} ({Path(where.filename).name}:{where.lineno})")


def _measured(model_type: str, rope: str, saved: Path) -> Row:
    from rh_bench.models.load import load_model

    prompts = make_prompts(seed=3)
    longest = max(len(prompt.ids) for prompt in prompts)
    loaded = load_model(str(saved), device="cpu", dtype="float32", positions=longest + NEW_TOKENS)
    model, layers, never = loaded.model, loaded.layers, StopRule(frozenset())
    engines = {
        "reference": make_engine("reference", model, layers, never, max_new_tokens=NEW_TOKENS),
        "fast": make_engine("fast", model, layers, never, max_new_tokens=NEW_TOKENS),
        "fast in pieces": FastEngine(model, layers, never, NEW_TOKENS, chunk=CHUNK),
    }
    answers = {name: {d.sample_id: d for d in engine.decode(prompts)} for name, engine in engines.items()}
    alone = FastEngine(model, layers, never, NEW_TOKENS, chunk=CHUNK)
    answers["fast without sharing"] = {p.sample.sample_id: next(iter(alone.decode([p]))) for p in prompts}
    problem, disputed, events = _held_against(saved, rope, prompts, answers, layers)
    problem = problem or _follow_problem(Follower(model, layers, never, CHUNK), prompts, answers["fast"], layers)
    notes = engines["fast"].notes + ((disputed,) if disputed else ())
    scored = sum(layer.scored for layer in layers)
    if problem:
        return Row(model_type, rope, WRONG, problem, scored, events, notes)
    return Row(model_type, rope, EXACT, "", scored, events, notes)


def _held_against(
    saved: Path, rope: str, prompts: list[Prompt], answers: Mapping[str, Mapping[str, Decoded]], layers: Any
) -> tuple[str, str, int]:
    """What an engine has other than transformers, what transformers has other than itself, and copy events."""
    eager = transformers_says.load_eager(saved)
    events, disputed = 0, ""
    for prompt in prompts:
        name = prompt.sample.sample_id
        said = transformers_says.generate(eager, prompt, NEW_TOKENS, layers)
        truths = {"generate()": said}
        if not _switches(rope, prompt):
            alone = transformers_says.without_cache(eager, prompt, said.generated, layers)
            if transformers_says.agree(said, alone):
                truths["a pass without a cache"] = alone
            else:
                disputed = _DISPUTED
        sinks = any("sinks" in key or "sink_proj" in key for key in eager.state_dict())
        for engine, decoded in answers.items():
            one = decoded[name]
            for source, expected in truths.items():
                problem = transformers_says.differing(expected, one.generated, one.targets, sinks)
                if problem:
                    return f"{engine} against {source}, {name}: {problem}", disputed, events
            fast = answers["fast"][name]
            equal = copy_events(prompt, one, layers).tolist() == copy_events(prompt, fast, layers).tolist()
            if not equal and (one.targets == fast.targets).all():
                return f"{engine}, {name}: other events from equal positions", disputed, events
        events += len(copy_events(prompt, answers["fast"][name], layers))
    return "", disputed, events


def _follow_problem(follower: Follower, prompts: list[Prompt], answers: Mapping[str, Decoded], layers: Any) -> str:
    """What differs when the answers are followed rather than found: verification does that."""
    claims = {name: Claimed((), tuple(one.generated.tolist()), ends=False) for name, one in answers.items()}
    by_id = {prompt.sample.sample_id: prompt for prompt in prompts}
    scored = [layer for layer in layers if layer.scored]
    for one in follower.follow(prompts, claims):
        decoded = answers[one.sample_id]
        if one.gaps.max(initial=0.0) > _NEAR:
            return f"followed, {one.sample_id}: another token by {one.gaps.max()} in logits"
        lead = one.inside.max(axis=1) - one.outside
        places = {layer.index: place for place, layer in enumerate(scored)}
        events = np.zeros(lead.shape, dtype=np.bool_)
        for layer, head, step, _ in copy_events(by_id[one.sample_id], decoded, layers).tolist():
            events[step, places[layer], head] = True
        has = np.asarray((one.offsets >= 0).any(axis=1))[:, None, None]
        for place, layer in enumerate(scored):
            differs = ((lead > 0) & has != events)[:, place, : layer.query_heads]
            if (differs & (np.abs(lead[:, place, : layer.query_heads]) > _NEAR)).any():
                return f"followed, {one.sample_id}: other events in layer {layer.index}"
    return ""


def _switches(rope: str, prompt: Prompt) -> bool:
    """Whether the factors of the rotary embedding change during the answer, so that no single pass has them all."""
    end = len(prompt.ids) + NEW_TOKENS
    if rope == "dynamic":
        return end > ORIGINAL
    return rope == "longrope" and len(prompt.ids) <= ORIGINAL < end


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
