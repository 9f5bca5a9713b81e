"""Loading a model and saying exactly which one it was.

MODEL is a Hub id (``org/name[@revision]``), a local folder, or ``gguf:<file>``. Weights are safetensors or GGUF, never
pickle; code from a repository runs only when the user asked for it.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rh_bench.environment import usable_cores
from rh_bench.errors import InputError
from rh_bench.files import sha256_file
from rh_bench.gguf_check import check_gguf_tokenizer
from rh_bench.hub import fetch_model, parse_repo
from rh_bench.memory import MemoryPlan, available_memory, model_shape, plan_memory
from rh_bench.model_card import base_models
from rh_bench.records import Json, Layer
from rh_bench.runs import model_slug

DTYPES = ("auto", "float32", "bfloat16", "float16")
_DESCRIBED = ("*.safetensors", "*.json", "*.gguf", "tokenizer.model", "*.txt", "*.jinja", "*.py")


@dataclass(frozen=True)
class ModelSource:
    """Where a model's files lie and what they are called."""

    kind: str
    """"hub", "folder" or "gguf"."""
    id: str
    slug: str
    folder: Path
    revision: str
    """The Hub's commit, or the SHA-256 over the names and hashes of the files."""
    files: tuple[tuple[str, str, int], ...]
    """(name, sha256, bytes) of each file."""
    gguf_file: str | None = None


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

    @property
    def window(self) -> int | None:
        """Largest number of positions the model's configuration allows."""
        config = self.model.config.get_text_config(decoder=True)
        return getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)

    def describe(self) -> Json:
        """The `model` object of run.json."""
        return {
            "id": self.source.id,
            "slug": self.source.slug,
            "revision": self.source.revision,
            "source": self.source.kind,
            "files": [{"path": p, "sha256": s, "bytes": b} for p, s, b in self.source.files],
            "architecture": type(self.model).__name__,
            "model_type": str(self.model.config.model_type),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "window": self.window,
            "chat_template": self.tokenizer.chat_template is not None,
            "layers": [asdict(layer) for layer in self.layers],
            "base_model": None if self.source.kind == "gguf" else base_models(self.source.folder),
        }


def resolve_model(text: str, *, trust_remote_code: bool = False) -> ModelSource:
    """Find a model's files, downloading them if it is on the Hub, and hash them.

    Raises:
        InputError: there is no such file, folder or repository, or its weights are in an unsafe format.
    """
    if text.startswith("gguf:"):
        return _gguf_source(Path(text.removeprefix("gguf:")).expanduser())
    path = Path(text).expanduser()
    if path.is_dir():
        return _folder_source(path.resolve())
    if text.startswith((".", "/", "~")) or "\\" in text or text.count("/") > 1:
        raise InputError("no such folder", where=text, mend="give a Hub id, a local folder or gguf:<file>")
    ref = parse_repo(text)
    folder, commit = fetch_model(ref, trust_remote_code=trust_remote_code)
    return ModelSource("hub", ref.repo_id, model_slug(ref.repo_id), folder, commit, _hashes(folder))


def _gguf_source(path: Path) -> ModelSource:
    if not path.is_file():
        raise InputError("no such file", where=f"gguf:{path}", mend="give the path of a .gguf file")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise InputError("this is not a GGUF file", where=path)
    digest = sha256_file(path)
    files = ((path.name, digest, path.stat().st_size),)
    return ModelSource("gguf", f"gguf:{path.name}", model_slug(path.stem), path.parent, digest, files, path.name)


def _folder_source(path: Path) -> ModelSource:
    if not (path / "config.json").is_file():
        raise InputError("there is no config.json", where=path, mend="give the folder that save_pretrained wrote")
    if not list(path.glob("*.safetensors")):
        raise InputError("there are no safetensors weights", where=path, mend="convert them; pickle is never loaded")
    files = _hashes(path)
    lines = "".join(f"{digest}  {name}\n" for name, digest, _ in files)
    return ModelSource(
        "folder", path.name, model_slug(path.name), path, hashlib.sha256(lines.encode()).hexdigest(), files
    )


def _hashes(folder: Path) -> tuple[tuple[str, str, int], ...]:
    names = sorted({file for pattern in _DESCRIBED for file in folder.glob(pattern) if file.is_file()})
    return tuple((file.name, sha256_file(file), file.stat().st_size) for file in names)


def load_tokenizer(text: str, *, trust_remote_code: bool = False) -> tuple[Any, str]:
    """The fast tokenizer of a model (Hub id, folder or ``gguf:<file>``), and the model's slug."""
    source = resolve_model(text, trust_remote_code=trust_remote_code)
    return _tokenizer(source, trust_remote_code), source.slug


def _tokenizer(source: ModelSource, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    options: dict[str, Any] = {"gguf_file": source.gguf_file} if source.gguf_file else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=trust_remote_code, **options)
    except Exception as error:  # files from outside fail their parsers in any way
        raise InputError(f"its tokenizer cannot be loaded ({_first_line(error)})", where=source.id) from None
    if not tokenizer.is_fast:
        raise InputError("its tokenizer gives no character offsets", where=source.id, mend="a fast tokenizer is needed")
    if source.gguf_file:
        check_gguf_tokenizer(source.folder / source.gguf_file, tokenizer)
    return tokenizer


def load_model(
    text: str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    positions: int | None = None,
    on_plan: Callable[[MemoryPlan], None] | None = None,
) -> LoadedModel:
    """Load a model for measuring.

    Args:
        text: Hub id with optional ``@revision``, local folder, or ``gguf:<file>``.
        dtype: "auto" is float32 on a CPU and bfloat16 on a GPU.
        device: "auto" takes a GPU where there is one.
        trust_remote_code: run Python code that the repository ships. Off unless the user asked.
        positions: tokens of the longest prompt with its answer, for a memory plan before the weights are loaded.
        on_plan: called with that plan.

    Raises:
        InputError: the model is missing, unsafe, unsupported, or does not fit the options or the memory.
    """
    import torch

    from rh_bench.engines.layers import find_layers

    torch_device = _device(device)
    name = ("bfloat16" if torch_device.type == "cuda" else "float32") if dtype == "auto" else dtype
    if name not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}", where="--dtype", mend=f"use {', '.join(DTYPES)}")
    if trust_remote_code:
        warnings.warn("code from the model's repository runs on this machine", stacklevel=2)
    if torch_device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        # Threads beyond the quota of a container wait for one another.
        torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
    source = resolve_model(text, trust_remote_code=trust_remote_code)
    tokenizer = _tokenizer(source, trust_remote_code)
    config = read_config(source, trust_remote_code)
    memory = None
    if positions is not None:
        width = getattr(torch, name).itemsize
        shape = model_shape(config, _count_parameters(config, trust_remote_code))
        memory = plan_memory(shape, width, positions, torch_device.type, available_memory(torch_device))
        if on_plan is not None:
            on_plan(memory)
    model = load_weights(source, getattr(torch, name), trust_remote_code).to(torch_device).eval()
    device_name = torch.cuda.get_device_name(torch_device) if torch_device.type == "cuda" else _cpu_name()
    return LoadedModel(model, tokenizer, source, find_layers(model), name, torch_device.type, device_name, memory)


def read_config(source: ModelSource, trust_remote_code: bool = False) -> Any:
    """A model's configuration, as transformers loads it.

    Raises:
        InputError: it cannot be read, or the model is an encoder-decoder.
    """
    from transformers import AutoConfig

    options: dict[str, Any] = {"gguf_file": source.gguf_file} if source.gguf_file else {}
    try:
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=trust_remote_code, **options)
    except Exception as error:  # files from outside fail their parsers in any way
        raise InputError(f"it cannot be loaded ({_first_line(error)})", where=source.id) from None
    if getattr(config, "is_encoder_decoder", False):
        raise InputError("encoder-decoder models are not supported", where=source.id)
    return config


def _count_parameters(config: Any, trust_remote_code: bool) -> int:
    """Of a model that takes no memory."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # a configuration from outside can be wrong in any way
        raise InputError(f"it cannot be built ({_first_line(error)})", where=str(config.model_type)) from None
    return sum(parameter.numel() for parameter in model.parameters())


def load_weights(source: ModelSource, dtype: Any, trust_remote_code: bool = False) -> Any:
    """The model itself, on the CPU: safetensors, or dense weights made of a GGUF file's.

    Args:
        dtype: a torch dtype.

    Raises:
        InputError: it cannot be loaded.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": trust_remote_code}
    if source.gguf_file:
        options |= {"gguf_file": source.gguf_file, **_dequantised()}
    else:
        options["use_safetensors"] = True
    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with _without_gguf_bar():
            return AutoModelForCausalLM.from_pretrained(source.folder, **options)
    except Exception as error:  # files from outside fail their parsers in any way
        raise InputError(f"it cannot be loaded ({_first_line(error)})", where=source.id) from None
    finally:
        if bar:
            logging.enable_progress_bar()


@contextmanager
def _without_gguf_bar() -> Iterator[None]:
    """transformers' bar of GGUF tensors heeds no setting; inside the block it is off, after it as it was."""
    from transformers import modeling_gguf_pytorch_utils as module

    bar = getattr(module, "tqdm", None)
    if bar is None:
        yield
        return
    module.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        module.tqdm = bar


def _dequantised() -> dict[str, Any]:
    """Ask for dense weights: newer transformers keep GGUF blocks packed, which computes slowly and in float32 only."""
    try:
        from transformers import GgufConfig
    except ImportError:  # transformers without packed GGUF always dequantises
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


def _device(text: str) -> Any:
    import torch

    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(text)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"{text!r} cannot be used ({_first_line(error)})", where="--device") from None
    return device


def _cpu_name() -> str:
    import platform

    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _first_line(error: BaseException) -> str:
    lines: Sequence[str] = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
