"""From files to a model in memory: the configuration, the architecture without weights, the weights."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rh_bench.errors import InputError
from rh_bench.models import weights_header
from rh_bench.models.adapter_config import ADAPTER_CONFIG
from rh_bench.models.config_bounds import refuse_beyond_bounds, refuse_more_layers_than_weights
from rh_bench.models.gguf_weights import check_gguf_weights, refuse_gguf_beyond_bounds
from rh_bench.models.loading_report import LoadingReport, judge
from rh_bench.models.multimodal import (
    Architecture,
    auto_class,
    choose_architecture,
    is_multimodal,
    keep_text_part,
    speaking_config,
)
from rh_bench.models.source import ModelSource, refuse_other_files
from rh_bench.system.faults import TRACE, in_words, is_out_of_memory, out_of_memory
from rh_bench.system.files import shown
from rh_bench.system.schema import load_json
from rh_bench.system.workshop import scratch

_ENCODERS = ("bert-generation",)
"""Models that read in both directions unless they are decoders, and that are not trained to fill gaps."""


@dataclass(frozen=True)
class Checkpoint:
    """A model with its weights, on the CPU."""

    model: Any
    whole: str | None
    """The class of which `model` is the text decoder; None if it is all there is."""
    notes: tuple[str, ...]
    removed: tuple[str, ...] = ()
    """Modules of the whole that were taken off, by name."""


def read_config(source: ModelSource, trust_remote_code: bool = False) -> Any:
    """A model's configuration, as transformers loads it.

    Raises:
        InputError: it cannot be read, says more than any model has, or the model is an encoder-decoder or reads in
            both directions.
    """
    from transformers import AutoConfig

    source = source.weights
    options: dict[str, Any] = {"gguf_file": source.gguf_file} if source.gguf_file else {}
    if source.gguf_file is None:
        refuse_other_files(source)
        refuse_beyond_bounds(source.folder, [name for name, _, _ in source.files], source.id)
    else:
        refuse_gguf_beyond_bounds(source.folder / source.gguf_file)
    try:
        with quiet_libraries():
            config = AutoConfig.from_pretrained(source.folder, trust_remote_code=trust_remote_code, **options)
            config = speaking_config(config)
            config.get_text_config(decoder=True)
            _use_plain_code(config)
    except Exception as error:  # files from outside fail their parsers in any way
        raise _unreadable(source, error, trust_remote_code) from error
    refuse_encoders(config, source.id)
    return config


def _unreadable(source: ModelSource, error: Exception, trust_remote_code: bool) -> InputError:
    """Why a configuration could not be read: the two common causes by their names."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    path = source.folder / "config.json"
    try:
        document = load_json(path, constant=lambda text: None) if source.gguf_file is None else {}
    except InputError as unreadable:
        return unreadable
    kind = document.get("model_type") if isinstance(document, dict) else None
    if isinstance(document, dict) and "auto_map" in document and not trust_remote_code:
        hint = "read that code, then use --trust-remote-code"
        return InputError("it ships its own code, which only runs with your permission", where=source.id, hint=hint)
    if isinstance(kind, str) and kind not in CONFIG_MAPPING_NAMES:
        said = f"transformers {transformers.__version__} does not support its model type {shown(kind)[:60]!r}"
        return InputError(said, where=source.id, hint="install a newer transformers")
    return _cannot("be loaded", error, source.id)


def _use_plain_code(config: Any) -> None:
    """Take back what a configuration says of kernels and fused modules: a kernel can be code of any repository of the
    Hub, which nobody asked for, and attention is routed by the engines."""
    if getattr(config, "fusion_config", None) is not None:
        config.fusion_config = None
    left = [config]
    while left:
        part = left.pop()
        if getattr(part, "_attn_implementation_internal", None) not in (None, "eager", "sdpa"):
            part._attn_implementation_internal = None
        left += [sub for name in getattr(part, "sub_configs", ()) if (sub := getattr(part, name, None)) is not None]


def refuse_encoders(config: Any, where: str) -> None:
    """Refuse, before any weight is loaded, what does not predict each token from those before it.

    Raises:
        InputError: names the type of model.
    """
    import transformers

    kind = str(config.model_type)
    if getattr(config, "is_encoder_decoder", False):
        raise InputError(
            f"encoder-decoder models ({kind}) are not supported", where=where, hint="use a decoder-only model"
        )
    text = config.get_text_config(decoder=True)
    # Only the BERT family has an is_decoder that says how it reads; GPT-NeoX has one that says nothing.
    encodes = type(text) in transformers.AutoModelForMaskedLM._model_mapping or text.model_type in _ENCODERS
    both_ways = encodes and not (getattr(text, "is_decoder", False) or getattr(text, "causal", False))
    if both_ways or getattr(text, "use_bidirectional_attention", None) in (True, "all"):
        raise InputError(
            f"models of type {kind} read text in both directions and do not predict the next token",
            where=where,
            hint="use a causal language model"
            + (", or, if this one was trained as a decoder, set is_decoder in its config.json" if encodes else ""),
        )


def _refuse_unknown(config: Any, trust_remote_code: bool) -> None:
    """Refuse a type of model that transformers has no causal language model for.

    Raises:
        InputError: names the type and the version.
    """
    import transformers

    auto = auto_class(config)
    remote = trust_remote_code and auto.__name__ in (getattr(config, "auto_map", None) or {})
    if not remote and type(config) not in auto._model_mapping:
        raise InputError(
            f"transformers {transformers.__version__} has no causal language model of this type",
            where=str(config.model_type),
            hint="use a model of another type, or --trust-remote-code if it ships its own code",
        )


def refuse_unheld(source: ModelSource, config: Any, trust_remote_code: bool = False) -> None:
    """Refuse, before anything is built, a type of model that there is no class for, and more layers than its weights
    can hold.

    Args:
        config: of what :func:`read_config` gave.

    Raises:
        InputError: names it.
    """
    _refuse_unknown(config, trust_remote_code)
    source = source.weights
    if source.gguf_file is None:
        refuse_more_layers_than_weights(source.folder, [name for name, _, _ in source.files], source.id)


def find_architecture(config: Any) -> Architecture:
    """See :func:`rh_bench.models.multimodal.choose_architecture`; prints nothing."""
    with quiet_libraries():
        return choose_architecture(config)


def empty_model(architecture: Architecture, trust_remote_code: bool = False, where: str | None = None) -> Any:
    """The model of a configuration without memory for its weights (on the device "meta").

    Args:
        where: the model's name, for an error.

    Raises:
        InputError: it cannot be built.
    """
    import torch

    config = architecture.config
    _refuse_unknown(config, trust_remote_code)
    try:
        with quiet_libraries(), torch.device("meta"):
            return auto_class(config).from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # a configuration from outside can be wrong in any way
        raise _cannot("be built", error, where or str(config.model_type)) from error


def load_weights(source: ModelSource, dtype: Any, trust_remote_code: bool = False) -> Any:
    """The model itself, on the CPU. Arguments and errors as for :func:`load_checkpoint`."""
    architecture = find_architecture(read_config(source, trust_remote_code))
    return load_checkpoint(source, architecture, dtype, trust_remote_code).model


def load_checkpoint(
    source: ModelSource, architecture: Architecture, dtype: Any, trust_remote_code: bool = False
) -> Checkpoint:
    """The model itself, on the CPU: safetensors, or dense weights made of a GGUF file's. Of an adapter, its base.

    Args:
        architecture: of what :func:`read_config` gave.
        dtype: a torch dtype.

    Raises:
        InputError: it cannot be loaded, or its weights and its configuration do not belong together.
    """
    source, config = source.weights, architecture.config
    _refuse_unknown(config, trust_remote_code)
    options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": trust_remote_code, "config": config}
    # Weights of another shape are reported like those that are missing, with their names.
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    if source.gguf_file:
        options |= {"gguf_file": source.gguf_file, **_dequantised()}
    else:
        options["use_safetensors"] = True
    said: list[str] = []
    try:
        with quiet_libraries() as said, _without_gguf_bar(), _without_adapter(source) as folder:
            model, report = auto_class(config).from_pretrained(folder, **options)
    except Exception as error:  # files from outside fail their parsers in any way
        raise _cannot(f"be loaded as {config.model_type}", error, source.id, _converted(said)) from error
    return _checked(source, architecture, model.eval(), LoadingReport.of(report))


def _checked(source: ModelSource, architecture: Architecture, model: Any, report: LoadingReport) -> Checkpoint:
    """The model that was asked for, with all of its weights."""
    config = architecture.config
    shapes: Mapping[str, Sequence[int]] = {} if source.gguf_file else weight_shapes(source)
    if not is_multimodal(config):
        notes = judge(report, shapes, config, source.id)
        if source.gguf_file:
            check_gguf_weights(source.folder / source.gguf_file, model)
        return Checkpoint(model, architecture.whole, (*_part(architecture), *notes, *_untied(model)))
    whole = type(model).__name__
    try:
        with quiet_libraries():
            removed = keep_text_part(model, source.id).removed
    except InputError:
        judge(report, shapes, config, source.id)  # what was not loaded goes before what came of it
        raise
    notes = judge(report, shapes, config, source.id, removed)
    if not removed:
        return Checkpoint(model, None, (*notes, *_untied(model)))
    note = f"of {whole} the text decoder is measured, with text prompts alone; not used: {', '.join(removed)}"
    return Checkpoint(model, whole, (note, *notes, *_untied(model)), removed)


def _part(architecture: Architecture) -> tuple[str, ...]:
    """The note of a text part that was built by itself."""
    if architecture.whole is None:
        return ()
    return (f"of {architecture.whole} the text decoder is measured, with text prompts alone ({architecture.why})",)


def _untied(model: Any) -> tuple[str, ...]:
    """A note where the configuration shares one matrix between both ends of the model and the files hold two."""
    first, last = (
        getattr(end, "weight", None) for end in (model.get_input_embeddings(), model.get_output_embeddings())
    )
    text = model.config.get_text_config(decoder=True)
    tied = getattr(model.config, "tie_word_embeddings", True) and getattr(text, "tie_word_embeddings", False)
    if not tied or first is None or last is None or first is last:
        return ()
    return (
        "its files hold an output matrix of its own, which is used though its configuration ties it to the input's",
    )


def weight_shapes(source: ModelSource) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights in a model's safetensors files, by name.

    Raises:
        InputError: a file is no safetensors file.
    """
    names = [name for name, _, _ in source.files if name.endswith(".safetensors")]
    return weights_header.weight_shapes(source.folder, names, source.id)


def _cannot(what: str, error: Exception, where: str, more: str | None = None) -> InputError:
    """One line for whatever a parser, a library or a model's own code raised."""
    if isinstance(error, InputError):
        return error
    if is_out_of_memory(error):
        return out_of_memory(error)
    said = in_words(error) if type(error) in (OSError, ValueError) else f"{type(error).__name__}: {in_words(error)}"
    return InputError(f"it cannot {what} ({more or said})", where=where, hint=TRACE)


def _converted(said: Sequence[str]) -> str | None:
    """The first weight that could not be converted, from the loader's report; None if there is none."""
    for text in said:
        for line in text.splitlines():
            if "CONVERSION" in line and "|" in line:
                return f"{line.partition('|')[0].strip()} does not fit the architecture"
    return None


@contextmanager
def quiet_libraries() -> Iterator[list[str]]:
    """Inside the block transformers and its relatives print nothing. Gives what they would have said."""
    from transformers.utils import logging as hf_logging

    said: list[str] = []

    class _Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger = logging.getLogger("transformers")
    bar, verbosity, keep = hf_logging.is_progress_bar_enabled(), hf_logging.get_verbosity(), _Keep()
    handlers = list(logger.handlers)
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_warning()
    logger.handlers = [keep]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield said
    finally:
        logger.handlers = handlers
        hf_logging.set_verbosity(verbosity)
        if bar:
            hf_logging.enable_progress_bar()


@contextmanager
def _without_adapter(source: ModelSource) -> Iterator[Path]:
    """A folder with a model's files and no adapter: transformers would load one by itself where peft is installed."""
    if not (source.folder / ADAPTER_CONFIG).is_file():
        yield source.folder
        return
    with scratch("model") as made:
        for name, _, _ in source.files:
            (made / name).symlink_to((source.folder / name).resolve())
        yield made


@contextmanager
def _without_gguf_bar() -> Iterator[None]:
    """transformers' progress bar of GGUF tensors has no setting: switched off inside the block, and restored after
    it."""
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
