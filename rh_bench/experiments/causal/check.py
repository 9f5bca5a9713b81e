"""What must hold of the tables of a causal experiment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from rh_bench.experiments.causal.derive import CONTROLS, MOST_ANSWERS, judge
from rh_bench.experiments.kind import Tables
from rh_bench.records import Json, Layer, Problem, head_grid
from rh_bench.scores.rouge import words
from rh_bench.system.files import shown

_MOST_WORK = 1 << 31
"""Answers × (replicates + permutations): what is drawn when the results are recomputed."""
_MOST_TEXT = 20_000
_MOST_GRAMS = 1_000
_MOST_NAME = 300


def check(document: Json, tables: Tables) -> Iterator[Problem]:
    """What the columns alone do not say of the tables."""
    settings, samples, answers = document["settings"], tables["samples"].to_pylist(), tables["answers"]
    layers = [Layer(**layer) for layer in document["model"]["layers"]]
    found = [*_condition_problems(settings, set(head_grid(layers))), *_sample_problems(samples)]
    yield from found
    expected = len(settings["conditions"]) * len(samples)
    if not 1 <= expected <= MOST_ANSWERS or len(answers) != expected:
        text = f"has {len(answers)} rows; conditions × samples are {expected}, at most {MOST_ANSWERS}"
        yield Problem("answers.parquet", "", text)
    elif expected * (settings["bootstrap"]["replicates"] + settings["permutations"]) > _MOST_WORK:
        text = f"at most {_MOST_WORK // expected} with permutations can be verified for so many answers"
        yield Problem("experiment.json", "/settings/bootstrap/replicates", text)
    elif not found:
        yield from _answer_problems(settings, samples, answers)


def _condition_problems(settings: Json, grid: set[tuple[int, int]]) -> Iterator[Problem]:
    """Conditions are numbered, the first removes nothing, and random heads are what they are to be."""
    retrieval = {tuple(head) for head in settings["retrieval_heads"]}
    top: dict[int, set[tuple[int, int]]] = {}
    seen: set[tuple[str, int, int]] = set()
    for place, row in enumerate(settings["conditions"]):
        pointer, heads = f"/settings/conditions/{place}", [tuple(head) for head in row["heads"]]
        key = (row["kind"], row["k"], row["draw"])
        if (row["kind"] == "none") != (place == 0) or (row["kind"] == "none") != (row["k"] == 0):
            yield Problem("experiment.json", pointer, "the first condition, and no other, removes no heads")
        elif key in seen:
            yield Problem("experiment.json", pointer, "stands twice")
        elif len(set(heads)) != row["k"] or len(heads) != row["k"] or not set(heads) <= grid:
            yield Problem("experiment.json", f"{pointer}/heads", f"are not {row['k']} different heads of the model")
        elif row["kind"] == "top":
            top[row["k"]] = set(heads)
        elif row["kind"] in CONTROLS and (row["k"] not in top or set(heads) & (retrieval | top[row["k"]])):
            text = "random heads come after the strongest, and are neither among them nor retrieval heads"
            yield Problem("experiment.json", f"{pointer}/heads", text)
        seen.add(key)


def _sample_problems(samples: Sequence[Json]) -> Iterator[Problem]:
    order = [(row["needle_id"], row["length"], row["depth"], row["sample_id"]) for row in samples]
    if order != sorted(order) or len({row["sample_id"] for row in samples}) != len(samples):
        yield Problem("samples.parquet", "", "samples must be sorted by needle, length, depth and id, each once")
    for place, row in enumerate(samples):
        for name in ("sample_id", "needle_id", "haystack_id", "prompt_sha256"):
            if not 0 < len(row[name]) <= _MOST_NAME or not row[name].isprintable():
                yield Problem(
                    "samples.parquet", f"/{place}/{name}", f"must be printable and of 1 to {_MOST_NAME} characters"
                )
                return
        grams = row["own_grams"]
        if not words(row["answer"][:_MOST_TEXT]) or max(len(row["answer"]), len(row["question"])) > _MOST_TEXT:
            yield Problem("samples.parquet", f"/{place}/answer", "has no words, or is too long")
            return
        if grams != sorted(set(grams)) or len(grams) > _MOST_GRAMS or not all(0 < len(g) <= _MOST_TEXT for g in grams):
            yield Problem("samples.parquet", f"/{place}/own_grams", "must be sorted, each once")
            return


def _answer_problems(settings: Json, samples: Sequence[Mapping[str, object]], answers: pa.Table) -> Iterator[Problem]:
    """Rows stand in order, and every judgement follows from the text."""
    threshold = settings["protocol"]["success_threshold"]
    for place, row in enumerate(answers.to_pylist()):
        condition, sample = divmod(place, len(samples))
        about = samples[sample]
        if (row["condition"], row["sample_id"]) != (condition, about["sample_id"]):
            yield Problem("answers.parquet", f"/{place}", "answers must be in the order of conditions, then samples")
            return
        if len(row["text"]) > _MOST_TEXT:
            yield Problem("answers.parquet", f"/{place}/text", f"is longer than {_MOST_TEXT} characters")
            return
        share = row["haystack_share"]
        if (share is None) != (row["new_words"] == 0) or (share is not None and not 0 <= share <= 1):
            yield Problem("answers.parquet", f"/{place}/haystack_share", "is no share, or is of no words")
            return
        given = (str(about["answer"]), str(about["question"]), about["own_grams"])
        judged = judge(row["text"], *given, share, threshold)  # type: ignore[arg-type]
        for name, value in judged.items():
            if row[name] != value:
                text = shown(f"is {str(row[name])[:60]!r}; the text gives {value!r}")
                yield Problem("answers.parquet", f"/{place}/{name}", text)
                return
