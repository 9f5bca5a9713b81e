"""What a model's own config.json says of its layers and heads, read without transformers and without the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rh_bench.errors import InputError
from rh_bench.hub.models import fetch_config
from rh_bench.hub.refs import RepoRef, parse_repo
from rh_bench.models.adapter_config import ADAPTER_CONFIG
from rh_bench.models.config_bounds import MOST_CONFIG, bounds_problems
from rh_bench.records import Json
from rh_bench.system.schema import load_json

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")


def config_problems(model: Json, named: str | None) -> list[str]:
    """What of a run's layers and heads differs from its model's configuration; nothing if there is none to ask.

    Args:
        model: `model` of a valid run.json.
        named: the model as of `rh-bench evaluate`, where it is not the run's own.

    Raises:
        InputError: the configuration cannot be fetched or read.
    """
    path = _config_path(model, named)
    if path is None:
        return []
    config = load_json(path, max_bytes=MOST_CONFIG, constant=lambda text: None)
    beyond = next(bounds_problems(config), None) if isinstance(config, dict) else None
    if beyond is not None:
        return [f"the model's configuration: {beyond}"]
    layers, heads = _number(config, _LAYERS), _number(config, _HEADS)
    claimed = max((layer["query_heads"] for layer in model["layers"]), default=0)
    problems = []
    if layers is not None and layers != len(model["layers"]):
        problems.append(f"run.json has {len(model['layers'])} layers, the model's configuration {layers}")
    if heads is not None and heads != claimed:
        problems.append(f"run.json has {claimed} query heads per layer, the model's configuration {heads}")
    return problems


def _config_path(model: Json, named: str | None) -> Path | None:
    """Where the configuration lies; None for a model that is a local file nobody named, or GGUF, which has none.

    That of an adapter lies with its base, which run.json names: an adapter's folder has none, or a copy.
    """
    base = (model.get("adapter") or {}).get("base")
    if base is not None:
        return _hub_config(base) if base["source"] == "hub" else None
    if named is None and model["source"] == "hub":
        return _hub_config(model)
    if named is None or named.startswith("gguf:"):
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        return fetch_config(parse_repo(named))
    if model["source"] == "memory" and (folder / ADAPTER_CONFIG).is_file():
        return None  # the adapter that was in force, saved by itself
    if not (folder / "config.json").is_file():
        raise InputError("there is no config.json", where=folder, hint="give a folder written by save_pretrained")
    return folder / "config.json"


def _hub_config(model: Json) -> Path:
    return fetch_config(RepoRef(parse_repo(model["id"]).repo_id, model["revision"]))


def _number(config: Any, names: tuple[str, ...]) -> int | None:
    """A number by the first of its names, of the language model first; None if it is no one number."""
    if not isinstance(config, dict):
        return None
    speaking = config.get("thinker_config")  # a model that also speaks keeps what writes in a part of its own
    text = (speaking if isinstance(speaking, dict) else config).get("text_config")
    for part in (text if isinstance(text, dict) else {}, config):
        for name in names:
            if type(part.get(name)) is int:
                return int(part[name])
    return None
