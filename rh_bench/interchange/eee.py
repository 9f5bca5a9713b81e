"""A record of Every Eval Ever (eval.schema.json 0.3.0), at the path where that project's datastore files it."""

from __future__ import annotations

import hashlib
import re
import uuid
from datetime import datetime
from pathlib import Path

import rh_bench
from rh_bench.artifacts.coverage import coverage
from rh_bench.errors import InputError
from rh_bench.interchange.base import Written
from rh_bench.interchange.reports import run_documents
from rh_bench.records import Json
from rh_bench.system.files import shown
from rh_bench.system.schema import dump_json

VERSION = "0.3.0"
COLLECTION = "rh_bench"
_UNSAFE = re.compile(r'[<>"\\|?*/\x00-\x1f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[1-9]|lpt[1-9])(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices."""


def every_eval_ever(folder: Path, developer: str | None = None) -> Written:
    """Success, and the share of retrieval heads, of a run.

    Numbers that could not be computed are left out, since the format has no null. The file's name is the path that the
    project's validator asks for: `data/rh_bench/<developer>/<model>/<UUID>.json`, the same for the same run.

    Args:
        developer: who published the model. Without it, what stands before the slash of its Hub id.

    Raises:
        InputError: the model's name has no developer and none was given, or makes no portable path; or there is neither
            a success rate nor a share of retrieval heads.
    """
    run, summary = run_documents(folder)
    model, protocol, finished = run["model"], run["protocol"], run["timings"]["finished"]
    prefix, _, name = model["id"].partition("/")
    if not name and developer is None:
        raise InputError(
            f"its model {shown(model['id'])!r} has no developer, which records are filed under",
            where=folder,
            hint="give --developer NAME",
        )
    made_by = prefix if developer is None else developer
    results = _results(run, summary, protocol)
    if not results:
        raise InputError("has neither a success rate nor a share of retrieval heads to report", where=folder)
    seconds = str(int(datetime.fromisoformat(finished).timestamp()))
    record = {
        "schema_version": VERSION,
        "evaluation_id": f"{COLLECTION}/{model['id']}/{seconds}",
        "evaluation_timestamp": finished,
        "retrieved_timestamp": seconds,
        "source_metadata": {
            "source_name": "rh_bench",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
            "additional_details": {"run_id": run["run_id"]},
        },
        "eval_library": {"name": "rh_bench", "version": rh_bench.__version__},
        "model_info": _model_info(run, made_by),
        "evaluation_results": results,
    }
    parts = (prefix, name) if name else (made_by, prefix)
    path = "/".join(
        ["data", COLLECTION, *(_component(part, folder) for part in parts), f"{_file_id(run['run_id'])}.json"]
    )
    return Written({path: dump_json(record)}, ("scores of heads", "samples", "events"))


def _file_id(run_id: str) -> uuid.UUID:
    """A UUID of the random kind, which the datastore asks for, made from the run's id, so that a run has one."""
    return uuid.UUID(bytes=hashlib.sha256(f"rh_bench\n{run_id}".encode()).digest()[:16], version=4)


def _component(text: str, folder: Path) -> str:
    """A part of a model's name as the name of a folder: the datastore flattens slashes and colons to underscores."""
    part = "_".join(text.split("/")).replace(":", "_")
    empty = not all(piece.strip() for piece in text.split("/")) or text.strip() != text
    if empty or _UNSAFE.search(part) or part.endswith(".") or _RESERVED.fullmatch(part) or not part.isprintable():
        raise InputError(f"{shown(text)!r} is not a valid folder name on every system", where=folder)
    if part.casefold() in ("unknown", "data"):
        hint = "give the developer with --developer NAME"
        raise InputError(f"{shown(text)!r} is not a valid name of a developer or model there", where=folder, hint=hint)
    return part


def _model_info(run: Json, developer: str) -> Json:
    model, environment = run["model"], run["environment"]
    return {
        "name": model["id"],
        "id": model["id"],
        "developer": developer,
        "inference_engine": {"name": "transformers", "version": str(environment["transformers"])},
        "additional_details": {
            "deployment_type": "self_deployed",
            "model_availability": "open_weights" if model["source"] == "hub" else "unknown",
            "revision": model["revision"],
            "dtype": run["protocol"]["dtype"],
        },
    }


def _results(run: Json, summary: Json, protocol: Json) -> list[Json]:
    estimates = {
        "niah-success": ("Share of samples whose answer is retrieved", summary["success"]["rate"]),
        "share-of-heads-above-0.1": (
            "Share of attention heads with a retrieval score above 0.1; neither more nor less is better",
            summary["sparsity"]["share_above_0.1"],
        ),
    }
    source = _source(run)
    return [
        _result(name, about, estimate, source, protocol)
        for name, (about, estimate) in estimates.items()
        if estimate["value"] is not None
    ]


def _source(run: Json) -> Json:
    haystack = run["haystack"]
    source: Json = {"dataset_name": haystack["name"], "source_type": "other"}
    if haystack["revision"]:
        source |= {"source_type": "hf_dataset", "hf_repo": haystack["location"], "hf_split": "test"}
        source["samples_number"] = run["counts"]["samples"]
    source["additional_details"] = {"manifest_sha256": haystack["manifest_sha256"], "coverage": coverage(run).words}
    return source


def _result(name: str, about: str, estimate: Json, source: Json, protocol: Json) -> Json:
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
