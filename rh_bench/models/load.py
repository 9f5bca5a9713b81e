"""Loading a model for measuring: found, checked, loaded whole, or refused in one line.

MODEL is a Hub id (``org/name[@revision]``), a local folder, or ``gguf:<file>``. Weights are safetensors or GGUF, never
pickle; code from a repository runs only when the user asked for it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rh_bench.errors import InputError, RhBenchWarning
from rh_bench.models import weights_header
from rh_bench.models.config_bounds import refuse_beyond_bounds
from rh_bench.models.gguf_tokenizer import check_gguf_tokenizer
from rh_bench.models.loading import (
    empty_model,
    find_architecture,
    load_checkpoint,
    load_weights,
    quiet_libraries,
    read_config,
    refuse_unheld,
    weight_shapes,
)
from rh_bench.models.model_card import base_models
from rh_bench.models.multimodal import class_names, is_multimodal
from rh_bench.models.source import ModelSource, resolve_model
from rh_bench.models.weights_header import count_weights
from rh_bench.models.window import Window, find_window, refuse_beyond_table, stated_positions
from rh_bench.prompting.vocabulary import embedding_rows, largest_token, refuse_beyond_embedding
from rh_bench.records import IntArray, Json, Layer
from rh_bench.system.environment import usable_cores
from rh_bench.system.faults import TRACE, in_words, model_code
from rh_bench.system.files import shown
from rh_bench.system.memory import MemoryPlan, available_memory, model_shape, plan_memory
from rh_bench.system.schema import load_json

__all__ = [
    "DTYPES",
    "LoadedModel",
    "ModelSource",
    "load_model",
    "load_tokenizer",
    "load_weights",
    "read_config",
    "resolve_model",
]

Prompts = Callable[[Any, int | None, str], Iterable[IntArray]]
"""Gives the ids of every prompt for a tokenizer, the model's window and its name; refuses what does not fit."""
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to measure."""

    model: Any
    tokenizer: Any
    source: ModelSource
    layers: tuple[Layer, ...]
    dtype: str
    device: str
    device_name: str
    memory: MemoryPlan | None = None
    limit: Window | None = None
    """The window and who says so; None if it is what the configuration says."""
    whole: str | None = None
    """The class of which this is the text decoder; None if it is all there is."""
    notes: tuple[str, ...] = ()
    """What a reader of the run should know of how the model was loaded."""

    @classmethod
    @contextmanager
    def wrap(cls, model: Any, tokenizer: Any, *, name: str | None = None, **options: Any) -> Iterator[LoadedModel]:
        """A model that its user holds in memory, ready to measure inside the block and as it was after it.

        Args:
            model: a transformers causal language model; PEFT and `torch.compile` may be around it.
            name: what to call it.
            options: see :func:`load_model`, but for what finds files.

        Raises:
            InputError: see :mod:`rh_bench.models.in_memory`.
        """
        from rh_bench.models.in_memory import InMemory

        with InMemory(model, tokenizer, name).held() as load:
            yield load(**options)

    @property
    def window(self) -> int | None:
        """Largest number of positions; None if unknown."""
        return self._limit.size

    @property
    def _limit(self) -> Window:
        return self.limit or find_window(self.model.config)

    def describe(self) -> Json:
        """The `model` object of run.json."""
        return {
            **describe_named(self.source, self._limit, self.tokenizer),
            "architecture": type(self.model).__name__,
            "model_type": str(self.model.config.model_type),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "text_part_of": self.whole,
            "layers": [asdict(layer) for layer in self.layers],
            "notes": list(self.notes),
        }


def describe_named(source: ModelSource, limit: Window, tokenizer: Any) -> Json:
    """The part of `model` in run.json that its files give without its weights."""
    bases = None if source.kind in ("gguf", "memory") else base_models(source.folder)
    if source.adapter is not None:
        bases = [source.adapter.base.id]
    return {
        **source.describe(),
        "window": limit.size,
        "window_from": limit.origin,
        "chat_template": tokenizer.chat_template is not None,
        "base_model": bases,
    }


@dataclass(frozen=True)
class Outline:
    """What a configuration gives of the model that is measured, without its weights: what can be, where only loading
    decides."""

    architectures: frozenset[str]
    model_types: frozenset[str]
    has_parts: bool
    """Its text decoder can be measured alone."""
    parameters: frozenset[int]
    """One or two numbers; none where only loading decides."""
    most_parameters: int | None
    stated_window: int | None
    """As the configuration says it, whatever its rotary embedding makes of it."""


def outline(source: ModelSource, config: Any) -> Outline:
    """The outline of a model.

    Args:
        config: of what :func:`read_config` gave.

    Raises:
        InputError: there is no class for it, or it cannot be what its weights are.
    """
    refuse_unheld(source, config)
    architecture = find_architecture(config)
    configs = {id(one): one for one in (config, architecture.config)}.values()
    if is_multimodal(config):
        text = config.get_text_config(decoder=True)
        configs = {id(one): one for one in (*configs, text)}.values()
    names = {name for one in configs for name in class_names(one)}
    exact, most = _counts(source, architecture)
    return Outline(
        frozenset(names),
        frozenset(str(one.model_type) for one in configs),
        is_multimodal(config),
        exact,
        most,
        stated_positions(config),
    )


def _counts(source: ModelSource, architecture: Any) -> tuple[frozenset[int], int | None]:
    """The numbers of parameters that a model can have, and the largest; nothing if it cannot be built here."""
    held = None if source.weights.gguf_file else count_weights(weight_shapes(source.weights))
    try:
        empty = empty_model(architecture, where=source.id)
    except InputError:  # for want of a library, say
        return frozenset(), held
    number = sum(parameter.numel() for parameter in empty.parameters())
    first: Any = getattr(empty.get_input_embeddings(), "weight", None)
    last: Any = getattr(empty.get_output_embeddings(), "weight", None)
    # Files can hold an output matrix of its own where the configuration shares one.
    untied = number if last is None or last is not first else number + int(last.numel())
    if is_multimodal(architecture.config):
        return frozenset(), untied
    if source.adapter is not None:  # it can bring rows for tokens that were added
        own = weights_header.weight_shapes(
            source.folder, [name for name, _, _ in source.files if name.endswith(".safetensors")], source.id
        )
        return frozenset(), untied + count_weights(own)
    return frozenset((number, untied)), untied


def load_tokenizer(text: str, *, trust_remote_code: bool = False) -> tuple[Any, str]:
    """The fast tokenizer of a model (Hub id, folder or ``gguf:<file>``), and the model's slug."""
    source = resolve_model(text, trust_remote_code=trust_remote_code)
    return tokenizer_of(source, trust_remote_code), source.slug


def tokenizer_of(source: ModelSource, trust_remote_code: bool = False) -> Any:
    """The fast tokenizer of a model that was found.

    Raises:
        InputError: it cannot be loaded, gives no character offsets, or is not what a GGUF file describes.
    """
    from transformers import AutoTokenizer

    files = source.tokenizer
    for part in {source.tokenizer.folder: files, source.weights.folder: source.weights}.values():
        if part.gguf_file is None:  # transformers reads the configuration for the tokenizer's sake, too
            refuse_beyond_bounds(part.folder, [name for name, _, _ in part.files], part.id)
    options: dict[str, Any] = {"gguf_file": files.gguf_file} if files.gguf_file else _plain_tokenizer(source, files)
    try:
        with quiet_libraries():
            tokenizer = AutoTokenizer.from_pretrained(files.folder, trust_remote_code=trust_remote_code, **options)
    except Exception as error:  # files from outside fail their parsers in any way
        raise InputError(f"its tokenizer cannot be loaded ({in_words(error)})", where=files.id, hint=TRACE) from error
    check_tokenizer(tokenizer, files.id)
    if files.gguf_file:
        check_gguf_tokenizer(files.folder / files.gguf_file, tokenizer)
    return tokenizer


def check_tokenizer(tokenizer: Any, where: str) -> None:
    """Refuse a tokenizer that does not say where in a text its tokens lie.

    Raises:
        InputError: it gives no character offsets.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError("its tokenizer has no character offsets", where=where, hint="use a fast tokenizer")


def _plain_tokenizer(source: ModelSource, files: ModelSource) -> dict[str, Any]:
    """Options that keep transformers from Mistral's own tokenizer, which gives no character offsets, where there is a
    plain one: it is preferred to that wherever its package is installed."""
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    config = load_json(source.weights.folder / "config.json", constant=lambda text: None)
    kind = config.get("model_type") if isinstance(config, dict) else None
    registered = TOKENIZER_MAPPING_NAMES.get(kind) if isinstance(kind, str) else None
    plain = any(name == "tokenizer.json" for name, _, _ in files.files)
    # Asked or not, no pattern is replaced; but who asks is not given the other tokenizer.
    return {"fix_mistral_regex": False} if plain and registered == "MistralCommonBackend" else {}


def load_model(
    text: str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    positions: int | None = None,
    on_plan: Callable[[MemoryPlan], None] | None = None,
    window: int | None = None,
    base_revision: str | None = None,
    prompts: Prompts | None = None,
) -> LoadedModel:
    """Load a model for measuring.

    Args:
        text: Hub id with optional ``@revision``, local folder, or ``gguf:<file>``; also of a PEFT adapter.
        dtype: "auto" is float32 on a CPU and bfloat16 on a GPU.
        device: "auto" takes a GPU where there is one.
        trust_remote_code: run Python code that the repository ships. Off unless the user asked. Never the code of the
            base that an adapter names.
        positions: tokens of the longest prompt with its answer, for a memory plan before the weights are loaded.
        on_plan: called with that plan.
        window: largest number of positions, instead of what the configuration says.
        base_revision: commit of an adapter's base, instead of what the adapter says.
        prompts: see :data:`Prompts`. What is wrong with them, and tokens that the model has no embedding for, are found
            before the weights are loaded.

    Raises:
        InputError: the model is missing, unsafe, unsupported, damaged, or does not fit the options, its tokenizer or
            the memory.
    """
    import torch

    from rh_bench.engines.layers import find_layers

    torch_device = _device(device)
    name = ("bfloat16" if torch_device.type == "cuda" else "float32") if dtype == "auto" else dtype
    if name not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}", where="--dtype", hint=f"use {', '.join(DTYPES)}")
    if torch_device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        # Threads beyond the quota of a container wait for one another.
        torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
    source = _resolved(text, trust_remote_code, base_revision)
    remote = trust_remote_code and source.adapter is None
    config = read_config(source, remote)
    tokenizer = tokenizer_of(source, remote)
    limit = find_window(config, window)
    largest = None if prompts is None else largest_token(prompts(tokenizer, limit.size, source.id))
    refuse_unheld(source, config, remote)
    architecture, memory = find_architecture(config), None
    if positions is not None or largest is not None:
        empty = empty_model(architecture, remote, source.id)
        if source.adapter is None:
            refuse_beyond_embedding(largest, embedding_rows(empty), tokenizer, source.id)
        if positions is not None:
            with model_code("while its memory was planned", source.id, str(config.model_type)):
                memory = _plan(config, empty, getattr(torch, name).itemsize, positions, torch_device)
            if on_plan is not None:
                on_plan(memory)
    checkpoint = load_checkpoint(source, architecture, getattr(torch, name), remote)
    model, notes = checkpoint.model, [*_notes(source, limit, name), *checkpoint.notes]
    if source.adapter is not None:
        from rh_bench.models.adapters import merge_adapter

        model, more = merge_adapter(model, source.adapter, source.folder, source.id, checkpoint.removed)
        notes += more
    refuse_beyond_embedding(largest, embedding_rows(model), tokenizer, source.id)
    refuse_beyond_table(limit, model, source.id)
    with model_code("while its layers were looked for", source.id, type(model).__name__):
        model = model.to(torch_device).eval()
        layers = find_layers(model)
    return LoadedModel(
        model,
        tokenizer,
        source,
        layers,
        name,
        torch_device.type,
        processor_name(torch_device),
        memory,
        limit,
        checkpoint.whole,
        tuple(notes),
    )


def _resolved(text: str, trust_remote_code: bool, base_revision: str | None) -> ModelSource:
    """The files, with what can be refused before anything of them is read."""
    if trust_remote_code:
        warnings.warn("running code from the model's repository on this machine", RhBenchWarning, stacklevel=3)
    source = resolve_model(text, trust_remote_code=trust_remote_code, base_revision=base_revision)
    if source.adapter is not None:
        from rh_bench.models.adapters import refuse_without_peft

        refuse_without_peft(source.id)
    return source


def _notes(source: ModelSource, limit: Window, dtype: str) -> list[str]:
    """What is said of every such model."""
    notes = []
    if source.adapter is not None:
        base, rounded = source.adapter.base, "" if dtype == "float32" else f" in float32 and rounded to {dtype}"
        notes.append(f"the adapter ({source.adapter.config.method}) is merged into its base {shown(base.id)}{rounded}")
    return [*notes, *no_window_note(limit)]


def no_window_note(limit: Window) -> list[str]:
    """The note of a model of which nobody says how many positions it has."""
    if limit.size is not None:
        return []
    return ["its configuration states no window: no length is refused (--window N states one)"]


def _plan(config: Any, empty: Any, width: int, positions: int, device: Any) -> MemoryPlan:
    shape = model_shape(config, sum(parameter.numel() for parameter in empty.parameters()))
    return plan_memory(shape, width, positions, device.type, available_memory(device))


def _device(text: str) -> Any:
    import torch

    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(text)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"{text!r} cannot be used ({in_words(error)})", where="--device") from error
    return device


def processor_name(device: Any) -> str:
    """What the maker of a device calls it."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()


def _cpu_name() -> str:
    import platform

    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
