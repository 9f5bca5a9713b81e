"""Schema-true runs of a large model, made without one: their numbers mean nothing, their size and shape are real."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from rh_bench.artifacts.run import RUN_FILES, compute_run_id, model_slug, run_folder, write_run
from rh_bench.records import Json, Layer, Sample, SampleResult
from rh_bench.scores.rouge import rouge1_recall
from rh_bench.system.files import sha256_file
from rh_bench.system.schema import dump_json

SPAN = tuple(range(500, 516))
ANSWER = "eat a sandwich and sit in Dolores Park on a sunny day by the lake"
LENGTHS, DEPTHS, NEEDLES = range(1000, 51_000, 2500), range(0, 100, 10), range(3)
COPYING = 12
"""Heads that copy nearly every token; another 60 copy some."""


def make_layers(layers: int = 32, heads: int = 32) -> tuple[Layer, ...]:
    return tuple(Layer(i, "full", heads, heads, None) for i in range(layers))


def make_large_run(root: Path, seed: int, layers: int = 32, heads: int = 32) -> Path:
    """600 samples and some 90,000 events of `layers` × `heads` heads, written as `rh-bench evaluate` writes them."""
    random = np.random.RandomState(seed)
    shape = make_layers(layers, heads)
    strength = np.zeros(layers * heads)
    chosen = random.permutation(layers * heads)
    strength[chosen[:COPYING]] = random.uniform(0.4, 0.95, COPYING)
    strength[chosen[COPYING : COPYING + 60]] = random.uniform(0.01, 0.25, 60)
    results = tuple(
        _result(random, strength, heads, Sample(f"n{n}-L{length}-D{depth}", f"n{n}", "h", length, float(depth)))
        for n in NEEDLES
        for length in LENGTHS
        for depth in DEPTHS
    )
    document = _document(shape, f"acme/large-{seed}")
    folder = run_folder(root, document["model"]["slug"], document["run_id"])
    folder.mkdir(parents=True)
    write_run(folder, document, shape, results)
    return folder


FAMILIES = (
    ("llama", "LlamaForCausalLM", 6_738_415_616),
    ("qwen2", "Qwen2ForCausalLM", 1_543_714_304),
    ("gemma3_text", "Gemma3ForCausalLM", 12_187_325_040),
    ("mistral", "MistralForCausalLM", 7_248_023_552),
    ("olmo2", "Olmo2ForCausalLM", 32_234_279_936),
)
SETS = (("synthetic-quick", "b" * 64), ("synthetic-paper", "c" * 64), ("prose-paper", "d" * 64))


def make_small_run(root: Path, number: int, layers: int = 32, heads: int = 32) -> Path:
    """A run of a model of its own, with 24 samples and scores of its own: for pages that show many. One in ten is on
    the second set, one in ten on the third. One that is there already is left as it is."""
    family, architecture, parameters = FAMILIES[number % len(FAMILIES)]
    model_id = f"{family}-lab/{family}-{number:04d}-instruct"
    for finished in (root / model_slug(model_id)).glob("*/run.json"):
        return finished.parent
    random = np.random.RandomState(number)
    strength = np.zeros(layers * heads)
    strong = int(random.randint(5, 60))
    chosen = random.permutation(layers * heads)
    strength[chosen[:strong]] = random.uniform(0.3, 0.95, strong)
    strength[chosen[strong : strong + 200]] = random.uniform(0.01, 0.25, 200)
    shape = make_layers(layers, heads)
    samples = [
        Sample(f"n{n}-L{length}-D{depth}", f"n{n}", "h", length, float(depth))
        for n in range(3)
        for length in (1000, 2000)
        for depth in (0, 30, 60, 90)
    ]
    results = tuple(_result(random, strength, heads, sample) for sample in samples)
    document = _document(shape, model_id)
    document["model"] |= {
        "model_type": family,
        "architecture": architecture,
        "parameters": parameters + number * 1_000_003,
    }
    name, digest = SETS[max(number % 10 - 7, 0)]
    document["haystack"] |= {"name": name, "manifest_sha256": digest}
    document["protocol"]["bootstrap"]["replicates"] = 200
    started = f"2026-{1 + number % 12:02d}-{1 + number % 28:02d}"
    document["timings"] |= {"started": f"{started}T00:00:00Z", "finished": f"{started}T00:10:00Z"}
    document["run_id"] = _run_id(document)
    folder = run_folder(root, document["model"]["slug"], document["run_id"])
    folder.mkdir(parents=True)
    write_run(folder, document, shape, results)
    return folder


def _result(random: np.random.RandomState, strength: Any, heads: int, sample: Sample) -> SampleResult:
    """The answer is said; each head copies each of its tokens with the probability that is its strength."""
    steps, heads_at = np.nonzero(random.random_sample((len(SPAN), len(strength))) < strength)
    events = np.stack([heads_at // heads, heads_at % heads, steps, steps], axis=1).astype(np.int32)
    insert_at = int((sample.length - 60) * sample.depth / 100)
    text = ANSWER if random.random_sample() < 0.9 else "I do not know."
    recall = rouge1_recall(ANSWER, text)
    return SampleResult(
        sample=sample,
        prompt_sha256=hashlib.sha256(sample.sample_id.encode()).hexdigest(),
        insert_at=insert_at,
        span_start=insert_at + 4,
        span_ids=SPAN,
        answer=ANSWER,
        generated_ids=SPAN,
        text=text,
        rouge1_recall=recall,
        success=recall > 0.5,
        seconds=round(float(random.uniform(0.3, 3)), 3),
        events=events,
    )


def _document(shape: tuple[Layer, ...], model_id: str) -> Json:
    """run.json without counts and files."""
    layers = [
        {"index": x.index, "kind": x.kind, "query_heads": x.query_heads, "kv_heads": x.kv_heads, "window": None}
        for x in shape
    ]
    document: Json = {
        "schema": "rh_bench/run",
        "schema_version": "1.0",
        "run_id": "",
        "origin": "measured",
        "model": {
            "id": model_id,
            "slug": model_slug(model_id),
            "revision": hashlib.sha1(model_id.encode(), usedforsecurity=False).hexdigest(),
            "source": "hub",
            "files": [{"path": "model.safetensors", "sha256": "a" * 64, "bytes": 1000}],
            "architecture": "LlamaForCausalLM",
            "model_type": "llama",
            "parameters": 6_738_415_616,
            "window": 65_536,
            "chat_template": True,
            "layers": layers,
        },
        "haystack": {
            "location": "paper",
            "revision": None,
            "manifest_sha256": "b" * 64,
            "name": "synthetic-paper",
            "source": {"kind": "synthetic", "licence": "CC0-1.0"},
        },
        "protocol": {
            "version": 1,
            "template": "chat",
            "max_new_tokens": 50,
            "stop": ["eos"],
            "success_threshold": 0.5,
            "head_threshold": 0.1,
            "rule": "paper",
            "dtype": "bfloat16",
            "grid": {"kind": "set", "lengths": None, "depths": None, "needles": None, "limit": None},
            "bootstrap": {"replicates": 1000, "seed": 0, "confidence": 0.95},
        },
        "engine": {"name": "fast", "version": 1, "notes": []},
        "environment": {
            "rh_bench": "0.1.0",
            "python": "3.11.7",
            "torch": "2.13.0",
            "transformers": "5.23.0",
            "numpy": "2.4.6",
            "device": "cuda",
            "device_name": "a GPU",
            "threads": 16,
            "platform": "Linux",
            "commit": None,
            "dirty": None,
        },
        "timings": {"started": "2026-11-24T00:00:00Z", "finished": "2026-11-24T00:10:00Z", "seconds": 600.0},
    }
    document["run_id"] = _run_id(document)
    return document


def _run_id(document: Json) -> str:
    return compute_run_id(
        model_revision=document["model"]["revision"],
        manifest_sha256=document["haystack"]["manifest_sha256"],
        protocol=document["protocol"],
        engine_name=document["engine"]["name"],
        engine_version=document["engine"]["version"],
    )


def make_twin(run: Path, root: Path, number: int) -> Path:
    """The same events as those of another model, `acme/model-<number>`: a valid run of its own."""
    document = json.loads((run / "run.json").read_text(encoding="utf-8"))
    model_id = f"acme/model-{number:04d}"
    revision = hashlib.sha1(model_id.encode(), usedforsecurity=False).hexdigest()
    document["model"] |= {"id": model_id, "slug": model_slug(model_id), "revision": revision}
    document["run_id"] = _run_id(document)
    folder = run_folder(root, document["model"]["slug"], document["run_id"])
    folder.mkdir(parents=True)
    for name in RUN_FILES[:3]:
        os.link(run / name, folder / name)
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8")) | {"run_id": document["run_id"]}
    (folder / "summary.json").write_bytes(dump_json(summary))
    document["files"] = {name: sha256_file(folder / name) for name in RUN_FILES}
    (folder / "run.json").write_bytes(dump_json(document))
    return folder
