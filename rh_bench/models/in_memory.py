"""A model that its user holds in memory, made ready to measure where it is, and given back as it was.

It may be freshly trained, wrapped by PEFT or `torch.compile`, quantised, or hooked: what is measured is what it does in
evaluation mode. What cannot be measured right where it lies is refused in one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rh_bench.attention.modes import evaluation_mode
from rh_bench.engines.layers import find_layers
from rh_bench.errors import InputError
from rh_bench.models.identity import HOOKS, identify, revision
from rh_bench.models.load import LoadedModel, Prompts, check_tokenizer, no_window_note, processor_name
from rh_bench.models.loading import quiet_libraries, refuse_encoders
from rh_bench.models.multimodal import is_multimodal, keep_text_part
from rh_bench.models.source import ModelSource
from rh_bench.models.window import find_window, refuse_beyond_table
from rh_bench.prompting.vocabulary import embedding_rows, largest_token, refuse_beyond_embedding
from rh_bench.system.faults import model_code
from rh_bench.system.files import shown
from rh_bench.system.memory import MemoryPlan, available_memory, model_shape, plan_memory
from rh_bench.system.slugs import MEMORY, is_memory_id, memory_slug

_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
_LONGEST_NAME = 200
_PROBE = 8


@dataclass(frozen=True)
class InMemory:
    """A model and its tokenizer, as their user holds them."""

    model: Any
    tokenizer: Any
    name: str | None = None
    """What to call it; its configuration's name or its class without."""

    @contextmanager
    def held(self) -> Iterator[Loader]:
        """Gives, inside the block, a function that makes the model ready; after it the model is as it was: modes of
        its modules, buffers, parts, gradients and hooks.

        Raises:
            InputError: it is nothing that can be measured.
        """
        inner = unwrapped(self.model)
        _refuse_own_attention(inner)
        with as_it_was(inner), evaluation_mode(inner), _plain_arithmetic(inner):
            yield Loader(self, inner)


@dataclass(frozen=True)
class Loader:
    """Makes a held model ready to measure; called as :func:`rh_bench.models.load.load_model` is, but for the model."""

    held: InMemory
    inner: Any

    def __call__(
        self,
        *,
        dtype: str = "auto",
        device: str = "auto",
        positions: int | None = None,
        on_plan: Callable[[MemoryPlan], None] | None = None,
        window: int | None = None,
        prompts: Prompts | None = None,
    ) -> LoadedModel:
        """Arguments as for `load_model`.

        Raises:
            InputError: the model is unsupported, or does not fit the options, its tokenizer or the memory.
        """
        model, tokenizer = self.inner, self.held.tokenizer
        check_tokenizer(tokenizer, "tokenizer")
        source = _source(self.held, model)
        here, numbers = _device(model, source.id, device), _dtype(model, source.id, dtype)
        limit = find_window(model.config, window)
        largest = None if prompts is None else largest_token(prompts(tokenizer, limit.size, source.id))
        refuse_beyond_embedding(largest, embedding_rows(model), tokenizer, source.id)
        refuse_beyond_table(limit, model, source.id)
        memory = None if positions is None else _plan(model, positions, here)
        if memory is not None and on_plan is not None:
            on_plan(memory)
        notes = [*_notes(source, model, numbers), *no_window_note(limit)]
        whole = None
        if is_multimodal(model.config):
            whole = type(model).__name__
            with quiet_libraries(), torch.device(here):
                removed = keep_text_part(model, source.id).removed
            whole = whole if removed else None
            notes += [f"of {whole} the text decoder is measured, with text prompts alone"] if removed else []
        with model_code("while its layers were looked for", source.id, type(model).__name__):
            layers = find_layers(model)
        return LoadedModel(
            model,
            tokenizer,
            source,
            layers,
            numbers,
            here.type,
            processor_name(here),
            memory,
            limit,
            whole,
            tuple(notes),
        )


def unwrapped(model: Any) -> Any:
    """The transformers model within the wrappers of PEFT and `torch.compile`.

    Raises:
        InputError: it is not a causal language model of transformers, or a wrapper does something that is left out
            without it.
    """
    inner = model
    while (within := _within(inner)) is not None:
        _refuse_hooks(inner)
        inner = within
    name: str = type(inner).__name__
    if not isinstance(inner, torch.nn.Module) or not hasattr(inner, "config"):
        hint = "give a transformers model, or a model's name as a string"
        raise InputError(f"{name} is not a transformers causal language model", where="model", hint=hint)
    ends: Any = getattr(inner, "get_output_embeddings", None)
    if not hasattr(inner, "generate") or ends is None or ends() is None:
        raise InputError(
            f"{name} has no head that predicts tokens", where="model", hint="load it with AutoModelForCausalLM"
        )
    refuse_encoders(inner.config, name)
    if inner is not model:
        _refuse_acting(model, inner)
    return inner


def _within(model: Any) -> Any:
    """What a wrapper holds; None if there is none.

    Raises:
        InputError: the wrapper puts tokens of its own before a prompt.
    """
    compiled = getattr(model, "_orig_mod", None)
    if compiled is not None:
        return compiled
    if not (hasattr(model, "peft_config") and hasattr(model, "get_base_model")):
        return None
    settings = model.peft_config
    if any(getattr(one, "is_prompt_learning", False) for one in settings.values()):
        raise InputError(
            "its adapter adds positions before every prompt, so no prompt has its stated length",
            where=type(model).__name__,
            hint="adapters that change weights can be measured",
        )
    return model.get_base_model()


def _refuse_hooks(wrapper: Any) -> None:
    if any(getattr(wrapper, name, None) for name in ("_forward_hooks", "_forward_pre_hooks")):
        raise InputError(
            "there is a forward hook on the wrapper, which is not used",
            where=type(wrapper).__name__,
            hint="register it on the wrapped model (PEFT: get_base_model())",
        )


def _refuse_own_attention(model: Any) -> None:
    """While it is measured, a model's attention is computed by kernels of the library: a function that its user has put
    in their place would be left out.

    Raises:
        InputError: there is such a function.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    for part in model.modules():
        named = getattr(getattr(part, "config", None), "_attn_implementation", None)
        function = ALL_ATTENTION_FUNCTIONS.get(named) if named is not None and named != "eager" else None
        if function is not None and not str(getattr(function, "__module__", "")).startswith("transformers."):
            raise InputError(
                f"its attention is a function of its user's ({shown(str(named))[:60]}), which measuring replaces",
                where=type(model).__name__,
                hint='give it back its own: model.set_attn_implementation("sdpa")',
            )


def _refuse_acting(model: Any, inner: Any) -> None:
    """A wrapper that changes what the model within says is refused, whatever it is called."""
    rows = int(inner.get_input_embeddings().weight.shape[0])
    ids = (torch.arange(_PROBE, device=inner.device) % rows)[None]
    with (
        torch.inference_mode(),
        evaluation_mode(model),
        model_code("while it was tried", "model", type(model).__name__),
    ):
        both = [one(input_ids=ids, use_cache=False).logits.float() for one in (model, inner)]
    # torch.compile may fuse, and so round otherwise.
    scale = float(both[1].abs().max())
    if not bool((both[0] - both[1]).abs().max() <= 1e-3 * max(scale, 1e-6)):
        raise InputError(
            f"{type(model).__name__} changes the wrapped model in a way that would be lost",
            where="model",
            hint="merge the adapter into the model (merge_and_unload) first",
        )


@contextmanager
def as_it_was(model: Any) -> Iterator[None]:
    """After the block the parts, buffers, hooks and attributes of a model's modules are those of before."""
    modules = list(model.modules())
    attributes = [(module, dict(module.__dict__)) for module in modules]
    tables = [(table, dict(table)) for module in modules for table in (getattr(module, name) for name in _TABLES)]
    kept = [(value, value.clone()) for module in modules for value in module._buffers.values() if _is_small(value)]
    for module in modules:
        if getattr(module, "_compiled_call_impl", None) is not None:
            # Attention is routed through functions that it was not compiled with.
            module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, before in attributes:
            _put_back(module.__dict__, before)
        for table, before in tables:
            _put_back(table, before)
        with torch.no_grad():
            for value, number in kept:
                if not torch.equal(value, number):
                    value.copy_(number)


_TABLES = ("_modules", "_buffers", *HOOKS)
"""Where torch keeps a module's parts, buffers and hooks. Attributes beside them are lengths of prompts seen, say."""
_SMALL = 1 << 20


def _put_back(now: dict[Any, Any], before: dict[Any, Any]) -> None:
    """Give a table the entries of before, in their order."""
    if list(now) != list(before) or any(now[name] is not value for name, value in before.items()):
        now.clear()
        now.update(before)


def _is_small(value: Any) -> bool:
    """Frequencies of positions and the like, which a pass over a long prompt may overwrite."""
    return value is not None and not value.is_meta and value.numel() * value.element_size() <= _SMALL


@contextmanager
def _plain_arithmetic(model: Any) -> Iterator[None]:
    """Inside the block no autocast of its user's changes the type that the model computes in."""
    with ExitStack() as stack:
        for device in {model.device.type, "cpu"} - {"meta"}:
            stack.enter_context(torch.autocast(device, enabled=False))
        yield


def _source(held: InMemory, model: Any) -> ModelSource:
    name = held.name if held.name is not None else _name(model)
    if not isinstance(name, str) or not is_memory_id(MEMORY + name) or len(name) > _LONGEST_NAME:
        where = f"name {shown(str(name)[:80])!r}"
        raise InputError("is not a valid model name", where=where, hint="give a short, printable one")
    adapters = {key: one.to_dict() for key, one in (getattr(held.model, "peft_config", None) or {}).items()}
    memory = identify(model, held.tokenizer, adapters)
    return ModelSource("memory", MEMORY + name, memory_slug(MEMORY + name), Path(), revision(memory), (), memory=memory)


def _name(model: Any) -> str:
    """The last part of the name that a model was loaded by, which may be a path of this machine; or its class."""
    said = str(getattr(model.config, "_name_or_path", "") or "").replace("\\", "/").rstrip("/").rpartition("/")[2]
    return said if said and said.isprintable() and len(said) <= _LONGEST_NAME else type(model).__name__


def _device(model: Any, where: str, wanted: str) -> torch.device:
    """The one device on which all of a model lies.

    Raises:
        InputError: it lies on several, or not in memory, or on another than its user says.
    """
    devices = sorted({str(value.device) for value in (*model.parameters(), *model.buffers())})
    if devices != [str(model.device)] or devices == ["meta"]:
        raise InputError(
            f"it is spread over several devices ({', '.join(devices[:8])})",
            where=where,
            hint="move it to one device: model.to(device)",
        )
    here = torch.device(devices[0])
    if wanted not in ("auto", str(here), here.type):
        raise InputError(f"the model is on {here}", where="device", hint=f"move it: model.to({wanted!r})")
    return here


def _dtype(model: Any, where: str, wanted: str) -> str:
    """The type that a model computes in.

    Raises:
        InputError: it is none that is measured, or another than its user says.
    """
    found = _DTYPES.get(model.dtype)
    if found is None:
        said = str(model.dtype).removeprefix("torch.")
        raise InputError(f"its weights are {said}", where=where, hint=f"cast it to {', '.join(_DTYPES.values())}")
    if wanted not in ("auto", found):
        raise InputError(f"the model computes in {found}", where="dtype", hint="cast the model instead")
    return found


def _plan(model: Any, positions: int, device: torch.device) -> MemoryPlan:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    free = available_memory(device)
    width = model.dtype.itemsize
    # Its weights are there already.
    return plan_memory(
        model_shape(model.config, parameters),
        width,
        positions,
        device.type,
        None if free is None else free + parameters * width,
    )


def _notes(source: ModelSource, model: Any, dtype: str) -> Iterator[str]:
    """What a reader should know of a model that nobody else has."""
    memory = source.memory
    assert memory is not None
    yield "measured in memory: nobody can load it by its name" + (
        f"; its weights are not hashed: {memory.unhashed}" if memory.unhashed else ""
    )
    if memory.adapters:
        yield f"with adapters in force ({', '.join(memory.adapters)}), not merged into the weights"
    if memory.quantisation:
        yield f"its weights are quantised ({memory.quantisation})"
    if memory.hooks:
        yield f"{memory.hooks} forward hooks take part"
    others = {str(one.dtype) for one in model.parameters() if one.is_floating_point()} - {f"torch.{dtype}"}
    if others:
        yield f"some of its weights are {', '.join(sorted(name.removeprefix('torch.') for name in others))}"
