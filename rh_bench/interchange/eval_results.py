"""`.eval_results/*.yaml` of a model's repository: by them the Hub lists models under a benchmark dataset."""

from __future__ import annotations

from pathlib import Path

from rh_bench.artifacts.coverage import coverage
from rh_bench.errors import InputError
from rh_bench.hub.eval_entry import eval_result_yaml
from rh_bench.interchange.base import Written
from rh_bench.interchange.reports import run_documents


def eval_results(folder: Path, dataset: str | None = None, task: str = "niah") -> Written:
    """`.eval_results/*.yaml` of the model's repository: the success rate on a benchmark dataset of the Hub.

    Args:
        dataset: the benchmark's repository, for a run on a local set.
        task: its id in the benchmark.

    Raises:
        InputError: the run names no dataset of the Hub and none was given, or it has no success rate.
    """

    run, summary = run_documents(folder)
    haystack, rate = run["haystack"], summary["success"]["rate"]
    repo = dataset or (haystack["location"] if haystack["revision"] else None)
    if repo is None:
        raise InputError("was measured on a local set", where=folder, hint="name the benchmark with --dataset org/name")
    if rate["value"] is None:
        raise InputError(f"has no success rate ({rate['reason']})", where=folder)
    spread = "" if rate["low"] is None else f", 95% interval {rate['low']:.3f}-{rate['high']:.3f}"
    text = eval_result_yaml(
        repo,
        task,
        rate["value"],
        revision=haystack["revision"] if repo == haystack["location"] else None,
        date=run["timings"]["finished"],
        notes=f"rh_bench {run['run_id']}, {coverage(run).words}{spread}",
    )
    return Written(
        {f"{repo.replace('/', '__')}.yaml": text.encode()}, ("scores of heads", "the interval, but in notes")
    )
