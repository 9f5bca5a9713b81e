"""What the paper claims, and what is known of it for one model: rows gathered from its run and from its experiments.

A row says that a claim holds, does not hold, or that there is not enough evidence, with its test, effect size and n,
and where that comes from. Head scores are never taken for a measure of capability.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rh_bench.artifacts.results_repo import RUNS
from rh_bench.artifacts.run import read_run
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import experiment_folders, run_reference, validate_against_runs, validate_experiment
from rh_bench.experiments.artifact import read_document as read_experiment_document
from rh_bench.experiments.kind import Claim, Verdict
from rh_bench.experiments.registry import kinds
from rh_bench.records import Json
from rh_bench.scores.summary import SPARSITY_MIN_SAMPLES
from rh_bench.system.files import shown
from rh_bench.system.schema import load_json, validate_document

NOT_ENOUGH: Verdict = "not_enough_evidence"

OF_RUN = (
    Claim(
        "universality",
        "The model has retrieval heads.",
        label="Universal",
        effect="share of heads above 0.1",
        share=True,
        command="rh-bench evaluate",
        place=10,
    ),
    Claim(
        "sparsity",
        "Fewer than 5% of heads are retrieval heads (score above 0.1).",
        label="Sparse",
        effect="share of heads above 0.1",
        share=True,
        command="rh-bench evaluate",
        place=20,
    ),
)
"""Rows that a run alone decides."""


def all_claims() -> Mapping[str, Claim]:
    """What is known of every row: those of runs, then those that kinds of experiments declare. Of two of one name the
    first counts."""
    found = [*OF_RUN, *(one for kind in kinds().values() for one in kind.claims)]
    return {one.name: one for one in reversed(found)}


def standing_claims() -> tuple[Claim, ...]:
    """The rows that every scorecard has, in order."""
    standing = [(one.place, one.name, one) for one in all_claims().values() if one.place is not None]
    return tuple(one for _, _, one in sorted(standing, key=lambda row: row[:2]))


@dataclass(frozen=True, slots=True)
class Evidence:
    """One test of a claim."""

    source: str
    """"run", or the kind of the experiment."""
    source_id: str
    """Of the run or the experiment."""
    verdict: Verdict
    test: str
    effect: Json | None
    """An estimate."""
    p_value: float | None
    n: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """One claim."""

    claim: str
    statement: str
    verdict: Verdict
    reason: str | None
    evidence: tuple[Evidence, ...]

    @property
    def main(self) -> Evidence | None:
        """The evidence that the verdict rests on: the first of that verdict."""
        return next((one for one in self.evidence if one.verdict == self.verdict), None)


@dataclass(frozen=True, slots=True)
class Scorecard:
    """What is known of one model."""

    model: str
    slug: str
    run_id: str
    rows: tuple[Row, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    """Experiments that say nothing here: (folder, why)."""

    def to_json(self) -> Json:
        return asdict(self)


def scorecard(run: Json, summary: Json, experiments: Iterable[Json]) -> tuple[Row, ...]:
    """Rows for the model of a run.

    Args:
        run: run.json.
        summary: summary.json of the same run.
        experiments: experiment.json of valid experiments on this run.
    """
    found: dict[str, list[tuple[str, Evidence]]] = {}
    for name, statement, evidence in (*_of_run(run, summary), *_of_experiments(experiments)):
        found.setdefault(name, []).append((statement, evidence))
    rows = [_row(one.name, found.pop(one.name)) if one.name in found else _untried(one) for one in standing_claims()]
    rows += [_row(name, rest) for name, rest in sorted(found.items())]
    return tuple(rows)


def _untried(claim: Claim) -> Row:
    return Row(claim.name, claim.statement, NOT_ENOUGH, f"No experiment yet: {claim.command}.", ())


def _row(name: str, found: Sequence[tuple[str, Evidence]]) -> Row:
    """Verdicts of several experiments count together where they agree; where they do not, nothing is decided."""
    evidence = tuple(one for _, one in found)
    decided: list[Verdict] = sorted({one.verdict for one in evidence if one.verdict != NOT_ENOUGH})
    if len(decided) == 1:
        verdict = decided[0]
        main = next(one for one in evidence if one.verdict == verdict)
        return Row(name, found[0][0], verdict, main.reason, evidence)
    if decided:
        return Row(name, found[0][0], NOT_ENOUGH, "Experiments contradict each other.", evidence)
    return Row(name, found[0][0], NOT_ENOUGH, evidence[0].reason, evidence)


def _of_run(run: Json, summary: Json) -> Iterator[tuple[str, str, Evidence]]:
    share = summary["sparsity"]["share_above_0.1"]
    verdict, reason = _universality(share, summary["n_counted"])
    test = "The share of heads that score above 0.1 is above zero with its whole bootstrap interval."
    yield (
        "universality",
        OF_RUN[0].statement,
        Evidence("run", run["run_id"], verdict, test, share, None, summary["n_counted"], reason),
    )
    for row in summary["claims"]:
        if row["claim"] == "sparsity":
            test = "The bootstrap interval of the share of heads that score above 0.1 lies below 5%, or above."
            evidence = Evidence(
                "run", run["run_id"], row["verdict"], test, row["evidence"], None, summary["n_counted"], row["reason"]
            )
            yield "sparsity", row["statement"], evidence


def _universality(share: Json, counted: int) -> tuple[Verdict, str | None]:
    if counted < SPARSITY_MIN_SAMPLES:
        return NOT_ENOUGH, f"Needs {SPARSITY_MIN_SAMPLES} counted samples, there are {counted}."
    if share["low"] is None:
        return NOT_ENOUGH, f"The share of retrieval heads has no interval: {share['reason']}."
    if share["low"] > 0:
        return "holds", None
    if share["high"] == 0:
        return "does_not_hold", "No head scores above 0.1, although the model answers."
    return NOT_ENOUGH, "The interval of the share of retrieval heads includes zero."


def _of_experiments(experiments: Iterable[Json]) -> Iterator[tuple[str, str, Evidence]]:
    for document in sorted(experiments, key=lambda one: (one["kind"], one["experiment_id"])):
        for row in document["claims"]:
            names = ("verdict", "test", "effect", "p_value", "n", "reason")
            evidence = Evidence(document["kind"], document["experiment_id"], **{name: row[name] for name in names})
            yield row["claim"], row["statement"], evidence


def about(document: Json, reference: Json, model: Json) -> bool:
    """Whether an experiment is about a run's model: it names the very bytes of the run, or, if its heads come from no
    run, the very revision of the model.

    Args:
        document: experiment.json.
        reference: of the run, as :func:`rh_bench.experiments.artifact.run_reference` gives it.
        model: of the run.
    """
    if document["runs"]:
        return reference in document["runs"]
    own = document["model"]
    return (own["slug"], own.get("revision")) == (model["slug"], model["revision"])


def find_experiments(run_folder: Path) -> Path | None:
    """The folder of experiments beside the one of runs that a run lies in, if there is one: `experiments` in a results
    repository, or beside the folder that `rh-bench evaluate --out` wrote to."""
    runs = run_folder.resolve().parent.parent
    return next((found for found in _beside(runs) if found.is_dir() and not found.is_symlink()), None)


def _beside(runs: Path) -> tuple[Path, ...]:
    return (runs.parent / "experiments",) if runs.name == RUNS else (runs / "experiments", runs.parent / "experiments")


def scorecard_of(folder: Path, experiments: Path | None = None) -> Scorecard:
    """The scorecard of a finished run, with all valid experiments on it.

    Args:
        experiments: folder of experiments; the one beside the run's without it.

    Raises:
        InputError: the run is unfinished or damaged, or there is no such folder of experiments.
    """
    if experiments is not None and not experiments.is_dir():
        raise InputError("no such folder", where=shown(experiments), hint="give what was --out of the experiments")
    run = read_run(folder).document
    summary = load_json(folder / "summary.json")
    for pointer, message in validate_document(summary, "summary"):
        raise InputError(message, where=f"{shown(folder / 'summary.json')}#{pointer}", hint="run rh-bench score")
    root = experiments or find_experiments(folder)
    reference, kept, left_out = run_reference(folder), [], []
    for one in experiment_folders(root) if root else ():
        why, document = read_about(one, folder, reference, run["model"])
        if document is not None:
            kept.append(document)
        elif why:
            left_out.append((shown("/".join(one.parts[-2:])), why))
    rows = scorecard(run, summary, kept)
    return Scorecard(run["model"]["id"], run["model"]["slug"], run["run_id"], rows, tuple(left_out))


def read_about(folder: Path, run: Path, reference: Json, model: Json) -> tuple[str | None, Json | None]:
    """experiment.json of a valid experiment about a run's model; or why it says nothing, where it seems to be about it.

    Args:
        folder: of the experiment.
        run: folder of the run, in a folder of runs in which others that the experiment names may lie.
        reference, model: see :func:`about`.

    Returns:
        (reason, document); both are None for an experiment about something else.
    """
    try:
        document = read_experiment_document(folder)
    except InputError as error:
        return (str(error.problem), None) if folder.parent.name == reference["slug"] else (None, None)
    if not about(document, reference, model):
        same = any(run["run_id"] == reference["run_id"] for run in document["runs"])
        return ("was made from this run before its bytes changed" if same else None), None
    problems = validate_experiment(folder)
    try:
        problems = problems or validate_against_runs(folder, [_run_beside(run, one) for one in document["runs"]])
    except InputError as error:  # another run that the experiment names is damaged
        return str(error.problem), None
    return (problems[0].message, None) if problems else (None, document)


def _run_beside(run: Path, reference: Json) -> Path | None:
    """Another run that an experiment names, if it lies in the same folder of runs."""
    folder = run.resolve().parent.parent / reference["slug"] / reference["run_id"]
    names = ("run.json", "import.json")
    return folder if any((folder / name).is_file() for name in names) and not folder.is_symlink() else None
