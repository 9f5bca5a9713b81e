"""Whether the model that transformers made of a GGUF file is the one that the file describes.

transformers leaves out tensors that it has no name for, a scaled rotary embedding among them, and says nothing. So
tensors are counted, and the file's own words on its positions are read.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from rh_bench.errors import InputError
from rh_bench.models.config_bounds import bounds_problems
from rh_bench.system.faults import TRACE, in_words

_BLOCK = re.compile(r"blk\.(\d+)\.")
_FACTORS = re.compile(r"rope_(freqs|factors_\w+)\.weight$")


def check_gguf_weights(path: Path, model: Any) -> None:
    """Compare a loaded model with the file that it was made from.

    Raises:
        InputError: the file has blocks that the model lacks, more or fewer numbers than the model, or a scaling of its
            positions that was not read.
    """
    from gguf import GGUFReader

    reader = GGUFReader(path)
    architecture = _value(reader, "general.architecture")
    config = model.config.get_text_config(decoder=True)
    _refuse_unread_scaling(path, reader, architecture, config)
    ahead = _value(reader, f"{architecture}.nextn_predict_layers") or 0
    sizes = {str(tensor.name): math.prod(int(size) for size in tensor.shape) for tensor in reader.tensors}
    blocks = {name: int(match[1]) for name in sizes if (match := _BLOCK.match(name))}
    beyond = sorted(name for name, block in blocks.items() if block >= config.num_hidden_layers)
    if beyond and not ahead:
        raise _no_match(path, f"{len(beyond)} tensors belong to layers beyond those in its metadata ({beyond[0]})")
    if _is_reported(architecture):
        return
    used = sum(size for name, size in sizes.items() if name not in beyond and not _FACTORS.search(name))
    if getattr(config, "tie_word_embeddings", False):
        used -= sizes.get("output.weight", 0)  # a second copy
    has = sum({tensor.data_ptr(): tensor.numel() for tensor in model.state_dict().values()}.values())
    if used != has:
        raise _no_match(path, f"it has {used:,} parameters, but {type(model).__name__} with its metadata has {has:,}")


def refuse_gguf_beyond_bounds(path: Path) -> None:
    """Refuse a file whose metadata says more than any model has, or more layers than it has tensors, before a library
    builds what it says.

    Raises:
        InputError: it cannot be read; or names the field and the bound.
    """
    from gguf import GGUFReader

    where = f"gguf:{path.name}"
    try:
        reader = GGUFReader(path)
        found = {str(name): field.contents() for name, field in reader.fields.items() if len(field.types) == 1}
    except Exception as error:  # a file from outside fails its parser in any way
        raise InputError(f"its metadata cannot be loaded ({in_words(error)})", where=where, hint=TRACE) from error
    numbers = {name.replace(".", "_"): value for name, value in found.items() if isinstance(value, int | float)}
    problem = next(bounds_problems(numbers), None)
    layers = max((value for name, value in numbers.items() if name.endswith("_block_count")), default=0)
    if problem is None and layers > len(reader.tensors):
        problem = f"it has {layers} layers and {len(reader.tensors)} tensors"
    if problem is not None:
        raise InputError(f"its metadata: {problem}", where=where, hint="this is not a model that can be measured")


def _is_reported(architecture: str) -> bool:
    """Whether transformers loads files of an architecture by its newer way, whose report has every tensor."""
    try:
        from transformers.integrations.gguf.utils import is_gguf_arch_supported
    except ImportError:  # older versions have the other way alone
        return False
    return bool(is_gguf_arch_supported(architecture))


def _refuse_unread_scaling(path: Path, reader: Any, architecture: str, config: Any) -> None:
    """Refuse a file whose positions are scaled where the model's are not: its prompts would be read in another way."""
    kind = _value(reader, f"{architecture}.rope.scaling.type")
    factor = _value(reader, f"{architecture}.rope.scaling.factor")
    factors = [tensor.data for tensor in reader.tensors if _FACTORS.search(str(tensor.name))]
    scaled = kind not in (None, "none") and factor not in (None, 0.0, 1.0)
    scaled = scaled or any(not np.allclose(np.asarray(one, dtype=np.float32), 1.0) for one in factors)
    rope = getattr(config, "rope_parameters", None) or {}
    if scaled and rope.get("rope_type", "default") == "default":
        raise InputError(
            "its positions are scaled for long contexts, which transformers does not read from GGUF files",
            where=f"gguf:{path.name}",
            hint="use the model's safetensors folder",
        )


def _value(reader: Any, name: str) -> Any:
    field = reader.get_field(name)
    return None if field is None else field.contents()


def _no_match(path: Path, why: str) -> InputError:
    return InputError(
        f"its tensors do not match its metadata: {why}",
        where=f"gguf:{path.name}",
        hint="convert the model again, or use its safetensors folder",
    )
