"""How far an experiment can be believed: the levels of `rh_bench.verification.verify`, for experiments.

*valid*: it is well formed and agrees with itself. *recomputed*: results are what its tables give; what was removed,
drawn and asked is what its runs, its data and its model's tokenizer give. *rerun*: units that its maker could not
choose, measured again here, agree. What each means for a kind stands beside it (`again.py` of its folder).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rh_bench.artifacts.levels import Evidence, Level, untried
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import DOCUMENT, Experiment, derived_problems, read_experiment, validate_experiment
from rh_bench.experiments.kind import HeadsRemeasured, Remeasured, UntriedError
from rh_bench.experiments.registry import verifying
from rh_bench.experiments.remeasured import NOISE, choose_units, judge_answers, judge_heads, most_differing
from rh_bench.experiments.run_evidence import find_runs, run_problems
from rh_bench.models.config import config_problems
from rh_bench.records import Json
from rh_bench.system.files import sha256_file

_MOST_REASONS = 20
_SOURCE = "its model is a local file; name a copy with --model"


def experiment_levels(folder: Path, evidence: Evidence) -> Iterator[Level]:
    """The levels one by one, as soon as each is known.

    Raises:
        InputError: what was named as evidence cannot be fetched.
    """
    level = _valid(folder, evidence)
    yield level
    if not level.reached:
        yield from (Level(name, None, ("the experiment is not valid",)) for name in ("recomputed", "rerun"))
        return
    experiment = read_experiment(folder)
    level = _tried("recomputed", _recomputed, experiment, evidence)
    yield level
    if level.reached is False:
        yield Level("rerun", None, ("the experiment is not recomputed",))
    else:
        yield _tried("rerun", _rerun, experiment, evidence)


def _tried(
    name: str, step: Callable[[Experiment, Evidence], Level], experiment: Experiment, evidence: Evidence
) -> Level:
    """A level; not tried where the experiment's own set or model cannot be fetched, an error where those named
    cannot."""
    try:
        return step(experiment, evidence)
    except UntriedError as error:
        return Level(name, None, (error.problem,))
    except InputError as error:
        return untried(name, error, evidence)


def _valid(folder: Path, evidence: Evidence) -> Level:
    problems = validate_experiment(folder, derived=False)
    if problems:
        words = [f"{p.file}{'#' + p.pointer if p.pointer else ''}: {p.message}" for p in problems]
        return Level("valid", False, tuple(words))
    model = read_experiment(folder).document["model"]
    if "layers" not in model:
        return Level("valid", True, ("its model is known by an imported list alone",))
    try:
        wrong = config_problems(model, evidence.model)
    except InputError as error:
        if evidence.model is not None:
            raise
        return Level("valid", True, (f"not compared with its model's configuration: {error}",))
    return Level("valid", not wrong, tuple(wrong))


def _recomputed(experiment: Experiment, evidence: Evidence) -> Level:
    differing = [f"{one.file}#{one.pointer}: {one.message}" for one in derived_problems(experiment)]
    runs, wrong, absent = find_runs(experiment, evidence.runs)
    differing += wrong
    for run in runs:
        differing += run_problems(run) if run is not None else []
    if differing:
        return Level("recomputed", False, _first(differing))
    again = verifying(experiment.document["kind"])
    known = [run for run in runs if run is not None]
    done = ["results and claims are what the tables give"]
    if absent:
        return Level("recomputed", None, (*done, *absent))
    problems = list(again.planned(experiment, known))
    if problems:
        return Level("recomputed", False, _first(problems))
    missing = [] if again.reproduced is None else _missing(experiment, evidence)
    notes = tuple(again.notes(experiment.document))
    if missing:
        return Level("recomputed", None, (*done, "its plan is what its runs and constants give", *missing, *notes))
    if again.reproduced is not None:
        problems = list(again.reproduced(experiment, known, evidence))
    return Level("recomputed", not problems, _first(problems) or notes)


def _rerun(experiment: Experiment, evidence: Evidence) -> Level:
    document = experiment.document
    measuring = verifying(document["kind"]).measuring
    if measuring is None:
        reason = (
            f"nothing is measured for {document['kind']} beside its runs: it is recomputed from them, and worth as much"
        )
        return Level("rerun", None, (reason,))
    if not evidence.rerun:
        return Level("rerun", None, (f"no {measuring.unit} were to be measured again; ask with --rerun N",))
    runs, _, absent = find_runs(experiment, evidence.runs)
    missing = [*absent, *_missing(experiment, evidence)]
    if missing:
        return Level("rerun", None, tuple(missing))
    salt = evidence.salt or secrets.token_hex(8)
    roles = measuring.units(experiment)
    chosen = choose_units(roles, evidence.rerun, sha256_file(experiment.folder / DOCUMENT), salt)
    found = measuring.measure(experiment, [run for run in runs if run is not None], chosen, evidence)
    dtype = _dtype(document)
    answers = [one for one in found if isinstance(one, Remeasured)]
    heads = [one for one in found if isinstance(one, HeadsRemeasured)]
    if not answers and not heads:
        return Level("rerun", False, _first([str(one) for one in found]))
    few = _too_few(answers, heads, dtype)
    if few:
        return Level("rerun", None, (few,))
    agreed, words = judge_answers(answers, roles, dtype) if answers else judge_heads(heads, dtype)
    how = f"{len(chosen)} {measuring.unit} chosen by the SHA-256 of {DOCUMENT} and the salt {salt!r}"
    return Level("rerun", agreed, _first([*words[:_MOST_REASONS], how]))


def _too_few(answers: Sequence[Remeasured], heads: Sequence[HeadsRemeasured], dtype: str) -> str | None:
    """Said where so few were measured again that nothing could be caught."""
    noise = NOISE[dtype]
    counts = {one.role: sum(other.role == one.role for other in answers) for one in answers}
    blind = [role for role, n in counts.items() if most_differing(n, noise.counted) >= n]
    blind += [one.role for one in heads if most_differing(one.n, noise.heads, len(one.heads)) >= one.n]
    if not blind:
        return None
    return f"too few were measured again to tell a lie from what {dtype} rounds ({', '.join(blind)}): give a larger N"


def _dtype(document: Json) -> str:
    settings = document["settings"]
    dtype: str = settings["protocol"]["dtype"] if "protocol" in settings else settings["dtype"]
    if dtype not in NOISE:
        raise InputError(f"its numbers are of a type that nothing is known of ({dtype})", where=DOCUMENT)
    return dtype


def _missing(experiment: Experiment, evidence: Evidence) -> list[str]:
    """Why prompts cannot be reproduced, if they cannot."""
    missing = []
    data, model = experiment.document["data"], experiment.document["model"]
    synthetic = data is not None and data["source"].startswith("synthetic-pairs:")
    if evidence.haystack is None and data is not None and data["revision"] is None and not synthetic:
        missing.append(f"its data, {data['source']}, is a local one; name a copy with --haystack")
    if evidence.model is None and model["source"] != "hub":
        missing.append(_SOURCE)
    return missing


def _first(words: list[str]) -> tuple[str, ...]:
    more = [f"and {len(words) - _MOST_REASONS} more"] if len(words) > _MOST_REASONS + 4 else []
    return tuple(words[: _MOST_REASONS + (0 if more else 4)] + more)
