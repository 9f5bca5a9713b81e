"""Schema-true synthetic runs of any size, made without a model."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rh_bench.artifacts.run import compute_run_id, model_slug, run_folder, write_run
from rh_bench.protocol import BOOTSTRAP
from rh_bench.records import Layer, Sample, SampleResult, Spelling
from rh_bench.scores.rouge import rouge1_recall

ANSWER = "a slow waltz and one cold pear"
SPAN = (11, 12, 13, 14, 15, 16, 17)
DEPTHS = (0.0, 50.0, 100.0)


def make_layers(layers: int, heads: int, kv_heads: int) -> tuple[Layer, ...]:
    return tuple(Layer(i, "full", heads, kv_heads) for i in range(layers))


def make_results(
    layers: int,
    heads: int,
    n_samples: int,
    *,
    seed: int = 0,
    failure_every: int = 5,
    strength: npt.NDArray[np.float64] | None = None,
) -> tuple[SampleResult, ...]:
    """Results in which a few heads copy nearly always, some now and then, and most never.

    Args:
        strength: float64 [layers, heads], how often each head copies, instead.
    """
    random = np.random.RandomState(seed)
    if strength is None:
        strength = np.zeros((layers, heads))
        strength.flat[random.permutation(layers * heads)[: max(3, layers * heads // 20)]] = 0.3 + 0.6 * random.rand(
            max(3, layers * heads // 20)
        )
    results = []
    for i in range(n_samples):
        failed = failure_every and i % failure_every == failure_every - 1
        generated = SPAN[:1] if failed else SPAN
        text = "nothing" if failed else ANSWER
        copied = random.rand(len(generated), layers, heads) < strength
        step, layer, head = np.nonzero(copied)
        recall = rouge1_recall(ANSWER, text)
        length, depth = (512, 1024)[i % 2], DEPTHS[(i // 2) % 3]
        sample = Sample(f"n{i % 3}-L{length}-D{depth:g}-{i}", f"n{i % 3}", f"h{i % 3}", length, depth)
        results.append(
            SampleResult(
                sample=sample,
                prompt_sha256=f"{i:064x}",
                insert_at=20,
                span_start=24,
                span_ids=SPAN,
                answer=ANSWER,
                generated_ids=tuple(generated),
                text=text,
                rouge1_recall=recall,
                success=recall > 0.5,
                seconds=0.5,
                events=np.stack([layer, head, step, step], axis=1).astype(np.int32),
            )
        )
    return tuple(results)


def spelt(results: tuple[SampleResult, ...]) -> tuple[SampleResult, ...]:
    """The results with what their tokens spell: a word each."""

    def spelling(result: SampleResult) -> Spelling:
        ends = tuple(match.end() for match in re.finditer(r"\S+", result.answer))
        generated = tuple(match.end() for match in re.finditer(r"\S+", result.text))
        return Spelling(result.answer, ends, generated)

    return tuple(replace(result, spelling=spelling(result)) for result in results)


def make_document(layers: tuple[Layer, ...], model_id: str, **changes: Any) -> dict[str, Any]:
    """run.json without counts and files."""
    protocol = {
        "version": 1,
        "template": "chat",
        "max_new_tokens": 50,
        "stop": ["eos"],
        "success_threshold": 0.5,
        "head_threshold": 0.1,
        "rule": "paper",
        "dtype": "float32",
        "grid": {"kind": "set", "lengths": None, "depths": None, "needles": None, "limit": None},
        "bootstrap": dict(BOOTSTRAP),
    }
    document: dict[str, Any] = {
        "schema": "rh_bench/run",
        "schema_version": "1.0",
        "run_id": "",
        "origin": "measured",
        "model": {
            "id": model_id,
            "slug": model_slug(model_id),
            "revision": "c" * 40,
            "source": "hub",
            "files": [{"path": "model.safetensors", "sha256": "a" * 64, "bytes": 1000}],
            "architecture": "LlamaForCausalLM",
            "model_type": "llama",
            "parameters": 134_515_008,
            "window": 8192,
            "chat_template": True,
            "layers": [
                {"index": x.index, "kind": x.kind, "query_heads": x.query_heads, "kv_heads": x.kv_heads, "window": None}
                for x in layers
            ],
        },
        "haystack": {
            "location": "quick",
            "revision": None,
            "manifest_sha256": "b" * 64,
            "name": "synthetic-quick",
            "source": {"kind": "synthetic", "licence": "CC0-1.0"},
        },
        "protocol": protocol,
        "engine": {"name": "fast", "version": 1, "notes": []},
        "environment": {
            "rh_bench": "0.1.0",
            "python": "3.11.7",
            "torch": "2.13.0",
            "transformers": "5.23.0",
            "numpy": "2.4.6",
            "device": "cpu",
            "device_name": "a processor",
            "threads": 2,
            "platform": "Linux",
            "commit": None,
            "dirty": None,
        },
        "timings": {"started": "2026-11-24T00:00:00Z", "finished": "2026-11-24T00:01:00Z", "seconds": 60.0},
    }
    document |= changes
    document["run_id"] = run_id_of(document)
    return document


def run_id_of(document: dict[str, Any]) -> str:
    """The id that follows from a run.json."""
    return compute_run_id(
        model_revision=document["model"]["revision"],
        manifest_sha256=document["haystack"]["manifest_sha256"],
        protocol=document["protocol"],
        engine_name=document["engine"]["name"],
        engine_version=document["engine"]["version"],
    )


def make_run(
    root: Path,
    *,
    model_id: str = "acme/tiny-1",
    layers: int = 4,
    heads: int = 4,
    kv_heads: int = 2,
    n_samples: int = 12,
    seed: int = 0,
    strength: npt.NDArray[np.float64] | None = None,
    spell: bool = False,
    **changes: Any,
) -> Path:
    """Write a run under `root` and return its folder. `changes` replace top-level fields of run.json.

    Args:
        spell: say what the tokens spell, as runs do since schema 1.2.
    """
    if spell:
        changes = {"schema_version": "1.2", **changes}
    shape = make_layers(layers, heads, kv_heads)
    document = make_document(shape, model_id, **changes)
    folder = run_folder(root, document["model"]["slug"], document["run_id"])
    folder.mkdir(parents=True)
    results = make_results(layers, heads, n_samples, seed=seed, strength=strength)
    write_run(folder, document, shape, spelt(results) if spell else results)
    return folder


@dataclass(frozen=True)
class Kin:
    """A base model and others that are derived from it, with the same heads."""

    family: str
    architecture: str
    names: tuple[str, ...]
    parameters: int
    layers: int
    heads: int
    share: float
    """Of heads that copy often."""
    centre: float
    """Where in the depth of the network those lie, from 0 to 1."""


KIN = (
    Kin(
        "llama",
        "LlamaForCausalLM",
        ("acme/llama-1b", "acme/llama-1b-chat", "acme/llama-1b-80k"),
        1_236_000_000,
        16,
        8,
        0.06,
        0.6,
    ),
    Kin("llama", "LlamaForCausalLM", ("acme/llama-8b", "acme/llama-8b-instruct"), 8_030_000_000, 24, 12, 0.035, 0.5),
    Kin("qwen2", "Qwen2ForCausalLM", ("beta/qwen-3b", "beta/qwen-3b-coder"), 3_086_000_000, 28, 8, 0.045, 0.7),
    Kin("gemma3_text", "Gemma3ForCausalLM", ("gamma/gemma-270m",), 268_000_000, 18, 4, 0.02, 0.75),
    Kin(
        "mistral",
        "MistralForCausalLM",
        ("delta/mistral-7b", "delta/mistral-7b-yarn"),
        7_242_000_000,
        20,
        16,
        0.05,
        0.55,
    ),
)


def kin_strength(kin: Kin, variant: int, *, shift: int = 0) -> npt.NDArray[np.float64]:
    """How often each head of a model copies: strong heads around a depth, weak ones next to them. Variants differ a
    little from their base, and other sets (`shift`) move a few heads."""
    random = np.random.RandomState(zlib.crc32(f"{kin.names[0]}".encode()))
    place = (np.arange(kin.layers)[:, None] + 0.5) / kin.layers
    pull = np.exp(-(((place - kin.centre) / 0.16) ** 2)) * random.random_sample((kin.layers, kin.heads))
    ranks = np.argsort(np.argsort(-pull.ravel(), kind="stable"), kind="stable").reshape(pull.shape)
    strength: npt.NDArray[np.float64] = 0.9 * np.exp(-ranks / (kin.share * pull.size * 0.6))
    own = np.random.RandomState(variant * 31 + shift * 7)
    strength = strength * np.clip(1 + 0.25 * own.randn(*strength.shape), 0, 1.1)
    return np.where(strength < 0.008, 0.0, np.minimum(strength, 0.98))


def make_families(root: Path, *, n_samples: int = 36, sets: int = 2) -> list[Path]:
    """Runs of several families of models, bases and variants, on up to `sets` haystack sets; the second set has been
    measured for every other model only."""
    folders = []
    for number, kin in enumerate(KIN):
        for variant, name in enumerate(kin.names):
            for which in range(sets if (number + variant) % 2 == 0 else 1):
                document = make_document(make_layers(kin.layers, kin.heads, kin.heads // 2), name)
                document["model"] |= {
                    "architecture": kin.architecture,
                    "model_type": kin.family,
                    "parameters": kin.parameters,
                    "revision": f"{zlib.crc32(name.encode()):040x}",
                }
                if which:
                    document["haystack"] |= {"name": "essays-quick", "manifest_sha256": "d" * 64}
                folders.append(
                    make_run(
                        root,
                        model_id=name,
                        layers=kin.layers,
                        heads=kin.heads,
                        kv_heads=kin.heads // 2,
                        n_samples=n_samples,
                        seed=variant + 10 * which,
                        strength=kin_strength(kin, variant, shift=which),
                        model=document["model"],
                        haystack=document["haystack"],
                    )
                )
    return folders
