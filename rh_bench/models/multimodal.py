"""The text decoder of a model that also sees or hears.

The whole model is loaded by the class that transformers has for it, so that every weight is accounted for and its own
code computes the logits of a text prompt; then the parts that a text prompt never reaches are taken off. What is left
is that model with its own `forward` and `generate`, and all attention in it is the decoder's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from rh_bench.engines.base import not_finite
from rh_bench.errors import InputError
from rh_bench.system.faults import in_words

_PROBE = 12
"""Tokens of the prompt that is tried."""
_ROUNDING = {torch.float32: 1e-3}
"""Differences of logits, in shares of the largest, that are rounding, by type."""
_ROUNDING_OF_HALF = 0.03


@dataclass(frozen=True)
class TextPart:
    """What was left of a model for text alone."""

    removed: tuple[str, ...]
    """Modules that were taken off, by name."""


def auto_class(config: Any) -> Any:
    """The transformers class that loads a configuration's model: of causal language models, or, for what also takes
    images, sound or video, of those."""
    import transformers

    for name in ("AutoModelForImageTextToText", "AutoModelForMultimodalLM"):
        auto = getattr(transformers, name, None)
        if auto is not None and type(config) in auto._model_mapping:
            return auto
    return transformers.AutoModelForCausalLM


def class_names(config: Any) -> tuple[str, ...]:
    """The classes that load a configuration's model, by name; none where there is none."""
    found = auto_class(config)._model_mapping.get(type(config), ())
    return tuple(one.__name__ for one in (found if isinstance(found, tuple | list) else (found,)))


def is_multimodal(config: Any) -> bool:
    """Whether a model of this configuration takes more than text."""
    import transformers

    return auto_class(config) is not transformers.AutoModelForCausalLM


def speaking_config(config: Any) -> Any:
    """The part of a configuration that writes text, where a model also speaks: as a whole it has no logits."""
    thinker = getattr(config, "thinker_config", None)
    return config if thinker is None else thinker


@dataclass(frozen=True)
class Architecture:
    """What of a configuration is built."""

    config: Any
    """The configuration itself, or that of its text part."""
    whole: str | None = None
    """The class of which the text part alone is built from the start; None if all is."""
    why: str | None = None


def choose_architecture(config: Any) -> Architecture:
    """The whole model; or its text part, where the whole cannot be built for want of a library and transformers has a
    class for that part which reads the whole's files."""
    import transformers

    if not is_multimodal(config):
        return Architecture(config)
    try:
        with torch.device("meta"):
            auto_class(config).from_config(config)
    except ImportError as error:
        text, causal = config.get_text_config(decoder=True), transformers.AutoModelForCausalLM._model_mapping
        if text is not config and type(text) in causal:
            return Architecture(
                text, auto_class(config)._model_mapping[type(config)].__name__, in_words(error).partition(". ")[0]
            )
    except Exception:  # told when it is built in earnest
        pass
    return Architecture(config)


def keep_text_part(model: Any, where: str) -> TextPart:
    """Take off a loaded model what a text prompt never reaches, in place.

    Raises:
        InputError: it cannot be run on text alone, reads a prompt in both directions, counts positions in a way of its
            own, or computes other logits without those parts.
    """
    name, ids = type(model).__name__, _prompt(model)
    with torch.inference_mode():
        called, logits = _run_and_watch(model, ids, where)
        if not bool(torch.isfinite(logits.amax(dim=-1)).all()):
            raise not_finite(model)
        other = ids.clone()
        other[0, -1] = ids[0, 0]
        if _differ(logits[:, :-1], _logits(model, other)[:, :-1]):
            raise InputError(
                f"{name} reads a prompt in both directions, so no token can be predicted from those before it",
                where=where,
                hint="only models that read from left to right can be measured",
            )
        positions = torch.arange(ids.shape[1])[None]
        if _differ(logits, _logits(model, ids, position_ids=positions)):
            raise InputError(
                f"{name} counts the positions of a text prompt in its own way", where=where, hint="not supported"
            )
        removed = _take_off(model, called, ids, logits)
    return TextPart(removed)


def _prompt(model: Any) -> torch.Tensor:
    """Ids of ordinary text, int64 [1, _PROBE], as far as can be told: none that a configuration gives a meaning."""
    text = model.config.get_text_config(decoder=True)
    special = {value for config in (model.config, text) for value in config.to_dict().values() if type(value) is int}
    rows = int(model.get_input_embeddings().weight.shape[0])
    plain = [number for number in range(min(rows, 4 * len(special) + 400)) if number not in special]
    chosen = (plain or list(range(rows)))[-_PROBE:]
    return torch.tensor([(chosen * _PROBE)[:_PROBE]])


def _run_and_watch(model: Any, ids: torch.Tensor, where: str) -> tuple[set[int], torch.Tensor]:
    """The modules that a text prompt reaches, by identity, and its logits."""
    called: set[int] = set()
    hooks = [m.register_forward_pre_hook(lambda module, _: called.add(id(module))) for m in model.modules()]
    try:
        return called, _logits(model, ids)
    except Exception as error:  # a model that wants an image says so in a way of its own
        raise InputError(
            f"{type(model).__name__} cannot be run on text alone ({in_words(error)})",
            where=where,
            hint="measure its language model separately",
        ) from error
    finally:
        for hook in hooks:
            hook.remove()


def _logits(model: Any, ids: torch.Tensor, **more: Any) -> torch.Tensor:
    return model(input_ids=ids, use_cache=False, **more).logits  # type: ignore[no-any-return]


def _differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape:
        return True
    rounding = _ROUNDING.get(one.dtype, _ROUNDING_OF_HALF)
    return not bool((one - other).abs().max() <= rounding * one.abs().max().clamp(min=1e-6))


def _take_off(model: Any, called: set[int], ids: torch.Tensor, logits: torch.Tensor) -> tuple[str, ...]:
    """Remove the modules with weights that were not called; those stay that its code asks something all the same."""
    removed = []
    for parent, name, path in list(_unreached(model, called, "")):
        module = parent._modules[name]
        parent._modules[name] = None
        try:
            same = not _differ(logits, _logits(model, ids))
        except Exception:  # its code looks at what it does not use, for a type or a device
            same = False
        if same:
            removed.append(path)
        else:
            parent._modules[name] = module
    return tuple(removed)


def _unreached(module: Any, called: set[int], path: str) -> Iterator[tuple[Any, str, str]]:
    """(parent, name, path) of the largest modules with weights within which nothing was called.

    Lists of modules are not looked into: a layer's experts are not all called by one prompt.
    """
    for name, child in module.named_children():
        place = f"{path}{name}"
        if not any(True for _ in child.parameters()):
            continue
        if not any(id(part) in called for part in child.modules()):
            yield module, name, place
        elif not isinstance(child, torch.nn.ModuleList | torch.nn.ModuleDict):
            yield from _unreached(child, called, f"{place}.")
