"""What of a measured run other projects' formats and other sites can carry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np

import rh_bench
from rh_bench.errors import InputError
from rh_bench.interchange.formats import Written
from rh_bench.interchange.records import HeadList
from rh_bench.records import Json, Layer, head_grid
from rh_bench.runs import read_run
from rh_bench.schema import dump_json, load_json
from rh_bench.scoring import in_order, sample_scores
from rh_bench.statistics import NANO, mean

Rule = Literal["paper", "events"]
_EEE_VERSION = "0.3.0"


def head_list(folder: Path, *, rule: Rule = "paper", threshold: float = 0.1, top: int | None = None) -> HeadList:
    """The heads of a measured run.

    Args:
        rule: "paper" counts distinct span positions; "events" counts events as the paper's released code does.
        threshold: heads above it are chosen.
        top: choose this many of the strongest instead.

    Raises:
        InputError: the run is damaged, or no sample counts, so that it has no scores.
    """
    run = read_run(folder)
    counted = [result for result in in_order(run.results) if result.success]
    if not counted:
        raise InputError("no sample counts, so no head has a score", where=folder)
    scores = sample_scores(run.layers, counted)[0 if rule == "paper" else 1]
    means = (mean(scores) / NANO).tolist()
    instances = tuple(map(tuple, np.round(scores, 9).T.tolist()))
    model = run.document["model"]["id"]
    return list_of_heads(model, run.layers, means, instances, threshold=threshold, top=top)


def list_of_heads(
    model: str,
    layers: Sequence[Layer],
    means: Sequence[float],
    instances: tuple[tuple[float, ...], ...] | None = None,
    *,
    threshold: float = 0.1,
    top: int | None = None,
) -> HeadList:
    """A measured head list from numbers at hand.

    Args:
        means: score of each head, in the order of `head_grid(layers)`.
        instances: scores of each head on the counted samples, where they are wanted.
        threshold, top: as of `head_list`.
    """
    heads = tuple(head_grid(tuple(layers)))
    strongest = sorted(range(len(heads)), key=lambda i: (-means[i], heads[i]))
    chosen = strongest[:top] if top is not None else [i for i in strongest if means[i] > threshold]
    return HeadList(
        format="run",
        model=model,
        unit="query",
        measure="score",
        layers=len(layers),
        heads_per_layer=max(layer.query_heads for layer in layers),
        heads=heads,
        values=tuple(means),
        selected=frozenset(heads[i] for i in chosen),
        instances=instances,
        order=tuple(heads[i] for i in chosen),
    )


def kv_heads(layers: Sequence[Layer], where: object) -> int:
    """Key/value heads of a layer.

    Raises:
        InputError: layers differ, so that there is no one number.
    """
    counts = {layer.kv_heads for layer in layers if layer.scored}
    if len(counts) != 1:
        raise InputError(f"its layers have {sorted(counts)} key/value heads, a table needs one number", where=where)
    return counts.pop()


def every_eval_ever(folder: Path) -> Written:
    """A record of Every Eval Ever (eval.schema.json 0.3.0): success, and the share of retrieval heads.

    Numbers that could not be computed are left out, since the format has no null.
    """
    run, summary = load_json(folder / "run.json"), load_json(folder / "summary.json")
    model, protocol = run["model"], run["protocol"]
    seconds = str(int(datetime.fromisoformat(run["timings"]["finished"]).timestamp()))
    haystack = run["haystack"]
    source: Json = {"dataset_name": haystack["name"], "source_type": "other"}
    if haystack["revision"]:
        source |= {"source_type": "hf_dataset", "hf_repo": haystack["location"], "hf_split": "test"}
        source["samples_number"] = run["counts"]["samples"]
    source["additional_details"] = {"manifest_sha256": haystack["manifest_sha256"]}
    estimates = {
        "niah-success": ("Share of samples whose answer is retrieved", summary["success"]["rate"]),
        "share-of-heads-above-0.1": (
            "Share of attention heads with a retrieval score above 0.1; neither more nor less is better",
            summary["sparsity"]["share_above_0.1"],
        ),
    }
    results = [
        _eee_result(name, about, estimate, source, protocol)
        for name, (about, estimate) in estimates.items()
        if estimate["value"] is not None
    ]
    record = {
        "schema_version": _EEE_VERSION,
        "evaluation_id": f"rh_bench/{model['slug']}/{seconds}",
        "evaluation_timestamp": run["timings"]["finished"],
        "retrieved_timestamp": seconds,
        "source_metadata": {
            "source_name": "rh_bench",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
            "additional_details": {"run_id": run["run_id"]},
        },
        "eval_library": {"name": "rh_bench", "version": rh_bench.__version__},
        "model_info": {
            "name": model["id"],
            "id": model["id"],
            "inference_engine": {"name": "transformers", "version": str(run["environment"]["transformers"])},
            "additional_details": {
                "deployment_type": "self_deployed",
                "model_availability": "open_weights" if model["source"] == "hub" else "unknown",
                "revision": model["revision"],
                "dtype": protocol["dtype"],
            },
        },
        "evaluation_results": results,
    }
    return Written({"every-eval-ever.json": dump_json(record)}, ("scores of heads", "samples", "events"))


def _eee_result(name: str, about: str, estimate: Json, source: Json, protocol: Json) -> Json:
    uncertainty: Json = {"num_samples": estimate["n"]}
    if estimate["low"] is not None:
        bootstrap = protocol["bootstrap"]
        interval = {"lower": estimate["low"], "upper": estimate["high"], "confidence_level": bootstrap["confidence"]}
        uncertainty |= {"confidence_interval": {**interval, "method": "bootstrap"}}
        uncertainty["num_bootstrap_samples"] = bootstrap["replicates"]
    return {
        "evaluation_name": name,
        "source_data": source,
        "metric_config": {
            "evaluation_description": about,
            "metric_id": f"rh_bench.{name}",
            "metric_unit": "proportion",
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0,
            "max_score": 1,
        },
        "score_details": {"score": estimate["value"], "uncertainty": uncertainty},
        "generation_config": {"generation_args": {"temperature": 0, "max_tokens": protocol["max_new_tokens"]}},
    }


def eval_results(folder: Path, dataset: str | None = None, task: str = "niah") -> Written:
    """`.eval_results/*.yaml` of the model's repository: the success rate on a benchmark dataset of the Hub.

    Args:
        dataset: the benchmark's repository, for a run on a local set.
        task: its id in the benchmark.

    Raises:
        InputError: the run names no dataset of the Hub and none was given, or it has no success rate.
    """
    from rh_bench.hub import eval_results_yaml

    run, summary = load_json(folder / "run.json"), load_json(folder / "summary.json")
    haystack, rate = run["haystack"], summary["success"]["rate"]
    repo = dataset or (haystack["location"] if haystack["revision"] else None)
    if repo is None:
        raise InputError("was measured on a local set", where=folder, mend="name the benchmark with --dataset org/name")
    if rate["value"] is None:
        raise InputError(f"has no success rate ({rate['reason']})", where=folder)
    spread = "" if rate["low"] is None else f", 95% interval {rate['low']:.3f}-{rate['high']:.3f}"
    text = eval_results_yaml(
        repo,
        task,
        rate["value"],
        revision=haystack["revision"] if repo == haystack["location"] else None,
        date=run["timings"]["finished"],
        notes=f"rh_bench {run['run_id']}, {run['counts']['samples']} samples{spread}",
    )
    return Written(
        {f"{repo.replace('/', '__')}.yaml": text.encode()}, ("scores of heads", "the interval, but in notes")
    )
