"""By what a model in memory is recognised: SHA-256 over its state, its configuration and its tokenizer.

**The rule.** Weights are hashed where that is cheap and says all: they take at most 4 GiB, are plain dense tensors that
lie in the memory of one device, and nothing acts on the model that they do not hold (a forward hook, a `forward` that
was replaced). The hash goes over the state dict and the buffers that it leaves out, in the order of their names: name,
type, shape and the SHA-256 of the bytes. Everything else is said to be unhashed, with the reason; the revision of such
a model is drawn at random, so that no two of its runs are ever taken for one.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from rh_bench.artifacts.run import memory_revision
from rh_bench.models.source import Memory

MOST_HASHED = 4 << 30
"""Bytes of weights that are hashed at most: some seconds."""
_SAYS_NOTHING = (
    "transformers_version",
    "dtype",
    "torch_dtype",
    "architectures",
    "use_cache",
    "base_model_name_or_path",
    "inference_mode",
    "peft_version",
)
"""Fields of a configuration, a model's or an adapter's, that decide nothing about what is measured; nor do those with a
leading underscore."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
"""Where torch keeps the hooks of a module's forward pass."""
_OF_TRANSFORMERS = "transformers.utils.output_capturing"
"""Its hooks collect what `output_attentions=True` asks for, stay on a model, and change nothing."""


def identify(model: Any, tokenizer: Any, adapters: Mapping[str, Any] | None = None) -> Memory:
    """What a model in memory is recognised by.

    Args:
        model: a transformers model, without a wrapper around it.
        adapters: settings of its adapters, by name, as dictionaries.
    """
    hooks = sum(len(_hooks(module)) for module in model.modules())
    unhashed = why_unhashed(model)
    return Memory(
        weights_sha256=None if unhashed else weights_sha256(model),
        config_sha256=_sha256(_configuration(model, adapters or {})),
        tokenizer_sha256=_sha256(_tokenizer(tokenizer)),
        unhashed=unhashed,
        adapters=tuple(sorted(_plain(one.get("peft_type")) for one in (adapters or {}).values())),
        quantisation=_quantisation(model),
        hooks=hooks,
    )


def revision(memory: Memory) -> str:
    """64 hexadecimal digits: of what the model is recognised by; random where its weights were not hashed."""
    return memory_revision(memory.describe()) or secrets.token_hex(32)


def why_unhashed(model: Any) -> str | None:
    """Why the weights of a model are not hashed; None if they are."""
    for name, module in model.named_modules():
        where = name or type(module).__name__
        if _hooks(module):
            return f"a forward hook on {where} takes part"
        if "forward" in module.__dict__:
            return f"the forward of {where} was replaced"
    total = 0
    for name, value in _state(model):
        if type(value) not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer):
            return f"{name} is of the type {type(value).__name__}"
        if value.is_meta or value.layout != torch.strided or value.is_quantized:
            return f"{name} is no plain tensor"
        total += value.numel() * value.element_size()
    if total > MOST_HASHED:
        return f"its weights take {total / 2**30:.1f} GiB, at most {MOST_HASHED >> 30} are hashed"
    return None


def weights_sha256(model: Any) -> str:
    """SHA-256 over the state of a model whose weights can be hashed, see :func:`why_unhashed`."""
    known: dict[tuple[object, ...], str] = {}
    digest = hashlib.sha256()
    for name, value in _state(model):
        # Matrices that both ends of a model share are hashed once.
        key = (value.data_ptr(), value.dtype, tuple(value.shape), value.stride())
        if key not in known or not value.numel():
            known[key] = _tensor_sha256(value)
        digest.update(f"{name} {value.dtype} {list(value.shape)} {known[key]}\n".encode())
    return digest.hexdigest()


def _state(model: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) of the state dict and of the buffers that it leaves out, by name."""
    state = dict(model.state_dict(keep_vars=True))
    state |= {name: value for name, value in model.named_buffers() if name not in state}
    yield from sorted(state.items())


def _tensor_sha256(value: torch.Tensor) -> str:
    flat = value.detach().reshape(-1).cpu().contiguous()
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()


def _configuration(model: Any, adapters: Mapping[str, Any]) -> object:
    """All that decides what a model does beside its weights, as far as it can be told."""
    generation = getattr(model, "generation_config", None)
    return {
        "config": _said(model.config.to_dict()),
        "eos_token_id": getattr(generation, "eos_token_id", None),
        "modules": [[name, type(part).__module__, type(part).__qualname__] for name, part in model.named_modules()],
        "adapters": {name: _said(settings) for name, settings in sorted(adapters.items())},
        "in_force": [[name, *_in_force(module)] for name, module in model.named_modules() if _is_adapted(module)],
    }


def _is_adapted(module: Any) -> bool:
    """Whether PEFT has put adapters on a module."""
    return hasattr(module, "merged_adapters") and hasattr(module, "active_adapters")


def _in_force(module: Any) -> list[object]:
    """Which adapters of a module act, how strongly, and which are in its weights already."""
    scaling = getattr(module, "scaling", {})
    return [
        list(module.active_adapters),
        bool(getattr(module, "disable_adapters", False)),
        list(module.merged_adapters),
        dict(scaling) if isinstance(scaling, Mapping) else str(scaling),
    ]


def _said(settings: Any) -> Any:
    """Settings without what says nothing, at any depth."""
    if isinstance(settings, dict):
        return {
            str(key): _said(value)
            for key, value in settings.items()
            if not str(key).startswith("_") and key not in _SAYS_NOTHING
        }
    if isinstance(settings, list | tuple):
        return [_said(value) for value in settings]
    return sorted(map(str, settings)) if isinstance(settings, set | frozenset) else settings


def _tokenizer(tokenizer: Any) -> object:
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    # Left behind by whoever called it last; they do not decide the tokens of a prompt.
    rest = {name: value for name, value in backend.items() if name not in ("truncation", "padding")}
    return [rest, tokenizer.chat_template, tokenizer.bos_token, tokenizer.eos_token]


def _quantisation(model: Any) -> str | None:
    settings = getattr(model.config, "quantization_config", None)
    if settings is None:
        return None
    method = settings.get("quant_method") if isinstance(settings, dict) else getattr(settings, "quant_method", None)
    return _plain(method or type(settings).__name__)


def _plain(value: Any) -> str:
    """A name as text, also of an enumeration."""
    return str(getattr(value, "value", value))[:100]


def _hooks(module: Any) -> list[Any]:
    """The forward hooks that someone put on a module."""
    found = [hook for name in HOOKS for hook in getattr(module, name).values()]
    return [hook for hook in found if getattr(hook, "__module__", None) != _OF_TRANSFORMERS]


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
