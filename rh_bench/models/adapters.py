"""A PEFT adapter, merged into the weights of its base.

Merged, because everything that looks at heads finds plain modules then: what is measured is the model whose weights are
base plus change. The sum is taken in float32 and rounded once to the type of the measurement; PEFT without merging adds
the two products instead, which in half types rounds elsewhere.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from rh_bench.errors import InputError
from rh_bench.models.adapter_config import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from rh_bench.models.loading import quiet_libraries
from rh_bench.models.source import Adapter
from rh_bench.system.faults import TRACE, in_words
from rh_bench.system.files import shown

_NAME = "default"
_PREFIX = "base_model.model."
"""What PEFT puts before the names of a base's modules."""
_EMBEDDING = re.compile(
    r"\.(embed_tokens|lm_head|wte|embed_in|embed_out|word_embeddings)"
    r"\.(modules_to_save\.|original_module\.|(token_adapter\.)?base_layer\.)?weight$"
)
"""Whole embeddings in an adapter's file."""
_OUTPUTS = ("lm_head", "embed_out")
_COPY = re.compile(r"\.(modules_to_save|original_module)\.(weight|bias)$")
"""A second copy that PEFT saves of a module that it saves whole: what it was and what became of it."""
_IGNORED = ("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "runtime_config")
"""Settings that say nothing of the weights, or where they come from."""


def refuse_without_peft(where: str) -> None:
    """Refuse an adapter where PEFT is not installed: without it the base alone would be measured.

    Raises:
        InputError: it is not installed.
    """
    if find_spec("peft") is None:
        raise InputError(
            "is an adapter, but PEFT, which loads adapters, is not installed",
            where=where,
            hint="run: pip install 'rh-bench[peft]'",
        )


def merge_adapter(
    model: Any, adapter: Adapter, folder: Path, where: str, removed: Sequence[str] = ()
) -> tuple[Any, tuple[str, ...]]:
    """A base model with an adapter merged into its weights; changes the base.

    Args:
        model: the base, on the CPU.
        folder: of the adapter.
        where: the adapter's name.
        removed: modules that the base as a whole has and that were taken off, by name.

    Returns:
        The model, and what a reader should know.

    Raises:
        InputError: PEFT is not installed, or adapter and base do not belong together.
    """
    refuse_without_peft(where)
    if getattr(model, "hf_quantizer", None) is not None and getattr(model, "is_quantized", False):
        raise InputError(
            "its base is quantised, and an adapter cannot be merged into it without loss",
            where=where,
            hint="use a base with unquantised weights",
        )
    try:
        with quiet_libraries(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = _config(adapter, where)
            _resize(model, folder, where)
            return _merged(model, config, folder, where, tuple(f"{_PREFIX}{name}." for name in removed))
    except InputError:
        raise
    except Exception as error:  # files from outside, and the two libraries, fail in any way
        raise InputError(
            f"the adapter cannot be applied to its base {adapter.base.id} ({type(error).__name__}: {in_words(error)})",
            where=where,
            hint=f"use the base it was trained on; {TRACE}",
        ) from error


def _config(adapter: Adapter, where: str) -> Any:
    """The adapter's settings as PEFT has them. PEFT itself leaves out settings that it does not know.

    Raises:
        InputError: there are such.
    """
    import dataclasses

    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    cls = PEFT_TYPE_TO_CONFIG_MAPPING.get(PeftType(adapter.config.method))
    if cls is None:
        raise InputError(
            f"this PEFT does not support {adapter.config.method}", where=where, hint="install a newer peft"
        )
    known = {field.name for field in dataclasses.fields(cls)}
    settings = {name: value for name, value in adapter.config.settings.items() if name not in _IGNORED}
    unknown = sorted(name for name, value in settings.items() if name not in known and value)
    if unknown:
        raise InputError(
            f"{ADAPTER_CONFIG} has {shown(unknown[0])[:60]!r}, which this version of PEFT does not support",
            where=where,
            hint="install a newer peft",
        )
    return cls(**{name: value for name, value in settings.items() if name in known}, inference_mode=True)


def _resize(model: Any, folder: Path, where: str) -> None:
    """Give the base as many rows of embedding as the adapter was saved with: tokens may have been added.

    Raises:
        InputError: rows that the base lacks are not all in the adapter.
    """
    from safetensors import safe_open

    rows: dict[bool, set[int]] = {True: set(), False: set()}
    """Of the matrices at the input (True) and at the output."""
    with safe_open(str(folder / ADAPTER_WEIGHTS), framework="pt") as file:
        for name in list(file.keys()):
            match = _EMBEDDING.search(name)
            if match:
                rows[match[1] not in _OUTPUTS].add(int(file.get_slice(name).get_shape()[0]))
    wanted = max(rows[True] | rows[False], default=None)
    first, last = model.get_input_embeddings(), model.get_output_embeddings()
    if wanted is None or wanted == first.weight.shape[0]:
        return
    ends = (True,) if last is None or last.weight is first.weight else (True, False)
    if any(rows[end] != {wanted} for end in ends):
        raise InputError(
            f"it was trained with {wanted} embedding rows, not all of which it contains, and its base has"
            f" {first.weight.shape[0]}",
            where=where,
            hint="save it with modules_to_save for both embeddings",
        )
    model.resize_token_embeddings(wanted, mean_resizing=False)


def _merged(model: Any, config: Any, folder: Path, where: str, outside: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    mapping = getattr(model, "_checkpoint_conversion_mapping", {})
    peft_model = PeftModel(model, config, adapter_name=_NAME)
    result = peft_model.load_adapter(str(folder), _NAME, torch_device="cpu", key_mapping=mapping)
    copies = _copies(folder)
    # torch does not miss what belongs to a module that was taken off.
    beside = [name for name in _names(folder) if name.startswith(outside)]
    unknown = [name for name in result.unexpected_keys if name not in copies and name not in beside]
    for what, names in (("missing from", result.missing_keys), ("unknown to the base of", unknown)):
        if names:
            many = "1 weight is" if len(names) == 1 else f"{len(names)} weights are"
            raise InputError(
                f"{many} {what} the adapter ({', '.join(shown(n)[:120] for n in names[:3])})",
                where=where,
                hint="use the base it was trained on",
            )
    layers = [module for module in peft_model.modules() if isinstance(module, BaseTunerLayer)]
    if not layers and not config.modules_to_save:
        raise InputError("the adapter changes no layer of its base", where=where)
    with torch.no_grad():
        for layer in layers:
            _merge_layer(layer)
    notes = (f"{len(beside)} weights of the adapter are not used: they are for parts that were taken off",)
    return peft_model.merge_and_unload().eval(), notes if beside else ()


def _names(folder: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(str(folder / ADAPTER_WEIGHTS), framework="pt") as file:
        return sorted(file.keys())


def _copies(folder: Path) -> set[str]:
    """Names of weights that an adapter's file holds a second time, equal, under the name that counts; and of those that
    were replaced."""
    from safetensors import safe_open

    copies = set()
    with safe_open(str(folder / ADAPTER_WEIGHTS), framework="pt") as file:
        names = set(file.keys())
        for name in names:
            match = _COPY.search(name)
            plain = _COPY.sub(r".\2", name)
            if match is None or plain not in names:
                continue
            if match[1] == "original_module" or torch.equal(file.get_tensor(name), file.get_tensor(plain)):
                copies.add(name)
    return copies


def _merge_layer(layer: Any) -> None:
    """Merge one layer in float32; its weights are rounded once to the type that they had."""
    base = layer.get_base_layer()
    types = {name: parameter.dtype for name, parameter in base.named_parameters(recurse=False)}
    base.float()
    layer.float()
    layer.merge(safe_merge=True)
    for name, parameter in base.named_parameters(recurse=False):
        parameter.data = parameter.data.to(types.get(name, parameter.dtype))
