"""adapter_config.json of a PEFT adapter, read without trust: which kind it is, and which model it belongs to.

It is anyone's file. What it cannot be measured with is refused here, before anything is downloaded or loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rh_bench.errors import InputError
from rh_bench.records import Json
from rh_bench.system.files import shown
from rh_bench.system.schema import load_json

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_MOST_BYTES = 4 << 20
METHODS = ("LORA", "ADALORA", "IA3", "LOHA", "LOKR", "OFT", "HRA", "LN_TUNING", "TRAINABLE_TOKENS")
"""Kinds that change weights and nothing else, so that they can be merged into those of the base; each has a test."""
_VIRTUAL_TOKENS = ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE")
_TASKS = (None, "CAUSAL_LM")
_NOT_MERGED = ("alora_invocation_tokens", "arrow_config", "layer_replication", "megatron_config", "monteclora_config")
"""Settings of LoRA with which it is more than a change of weights, or runs a module that the file names."""


@dataclass(frozen=True)
class AdapterConfig:
    """What an adapter says of itself."""

    method: str
    """As PEFT writes it, "LORA" for example."""
    base: str | None
    """A Hub id or a path."""
    base_revision: str | None
    settings: Json = field(repr=False)
    """All of it."""


def read_adapter_config(folder: Path, where: str) -> AdapterConfig:
    """The configuration of the adapter in `folder`.

    Args:
        where: the adapter's name, for errors.

    Raises:
        InputError: it cannot be read, or is of a kind that cannot be measured.
    """
    # Files of the Hub's cache are links, and what they lead to was downloaded by its digest.
    settings = load_json((folder / ADAPTER_CONFIG).resolve(), max_bytes=_MOST_BYTES, constant=lambda text: None)
    if not isinstance(settings, dict):
        raise InputError(f"{ADAPTER_CONFIG} is not a JSON object", where=where)
    method, task = _text(settings, "peft_type", where), _text(settings, "task_type", where)
    if method is None:
        raise InputError(f"{ADAPTER_CONFIG} has no peft_type", where=where, hint="save the adapter with a current peft")
    _refuse_method(method, where)
    if task not in _TASKS:
        raise InputError(
            f"this adapter is for the task {shown(task)[:60]}, not for generating text",
            where=where,
            hint="use one whose task_type is CAUSAL_LM",
        )
    more = next((name for name in _NOT_MERGED if settings.get(name)), None)
    if more is not None:
        raise InputError(
            f"its {more} cannot be merged into the weights of its base",
            where=where,
            hint="this adapter is not supported",
        )
    return AdapterConfig(
        method, _text(settings, "base_model_name_or_path", where), _text(settings, "revision", where), settings
    )


def _refuse_method(method: str, where: str) -> None:
    if method in METHODS:
        return
    if method in _VIRTUAL_TOKENS:
        raise InputError(
            f"this adapter ({method}) adds virtual tokens before the prompt, which shift the positions of its tokens",
            where=where,
            hint=f"adapters that change weights are supported: {', '.join(METHODS)}",
        )
    raise InputError(
        f"adapters of the kind {shown(method)[:60]} are not supported", where=where, hint=f"use {', '.join(METHODS)}"
    )


def _text(settings: Json, name: str, where: str) -> str | None:
    value = settings.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InputError(f"{name} in {ADAPTER_CONFIG} is not a string", where=where)
    return value
