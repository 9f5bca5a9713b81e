"""Schema-true synthetic runs of any size, made without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rh_bench.records import Layer, Sample, SampleResult
from rh_bench.rouge import rouge1_recall
from rh_bench.runs import compute_run_id, model_slug, run_folder, write_run

ANSWER = "a slow waltz and one cold pear"
SPAN = (11, 12, 13, 14, 15, 16, 17)
DEPTHS = (0.0, 50.0, 100.0)


def make_layers(layers: int, heads: int, kv_heads: int) -> tuple[Layer, ...]:
    return tuple(Layer(i, "full", heads, kv_heads) for i in range(layers))


def make_results(
    layers: int, heads: int, n_samples: int, *, seed: int = 0, failure_every: int = 5
) -> tuple[SampleResult, ...]:
    """Results in which a few heads copy nearly always, some now and then, and most never."""
    random = np.random.RandomState(seed)
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
        "bootstrap": {"replicates": 200, "seed": 0, "confidence": 0.95},
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
    document["run_id"] = compute_run_id(
        model_revision=document["model"]["revision"],
        manifest_sha256=document["haystack"]["manifest_sha256"],
        protocol=document["protocol"],
        engine_name=document["engine"]["name"],
        engine_version=document["engine"]["version"],
    )
    return document


def make_run(
    root: Path,
    *,
    model_id: str = "acme/tiny-1",
    layers: int = 4,
    heads: int = 4,
    kv_heads: int = 2,
    n_samples: int = 12,
    seed: int = 0,
    **changes: Any,
) -> Path:
    """Write a run under `root` and return its folder. `changes` replace top-level fields of run.json."""
    shape = make_layers(layers, heads, kv_heads)
    document = make_document(shape, model_id, **changes)
    folder = run_folder(root, document["model"]["slug"], document["run_id"])
    folder.mkdir(parents=True)
    write_run(folder, document, shape, make_results(layers, heads, n_samples, seed=seed))
    return folder
