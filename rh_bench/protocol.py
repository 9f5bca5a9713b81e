"""What the protocol of a run lays down, so that no run can choose it: its version, thresholds, rule and statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rh_bench.records import Json

VERSION = 1
SUCCESS_THRESHOLD = 0.5
"""Of ROUGE-1 recall, as in the paper's released code (there 50 of 100)."""
HEAD_THRESHOLD = 0.1
"""A head whose score is above this is a retrieval head (the paper's definition)."""
RULE = "paper"
BOOTSTRAP: Mapping[str, int | float] = {"replicates": 1000, "seed": 0, "confidence": 0.95}
"""How every interval is made. Whoever could choose would choose intervals without width."""
ENGINES: Mapping[str, int] = {"fast": 2, "reference": 2}
"""Engines that make runs, with their newest versions."""


def constants() -> Json:
    """The part of a protocol that is the same for every run."""
    return {
        "version": VERSION,
        "success_threshold": SUCCESS_THRESHOLD,
        "head_threshold": HEAD_THRESHOLD,
        "rule": RULE,
        "bootstrap": dict(BOOTSTRAP),
    }


def constant_problems(protocol: Json) -> Iterator[tuple[str, str]]:
    """What of a run's protocol is other than its version lays down: (JSON pointer, message)."""
    if protocol["version"] != VERSION:
        yield "/protocol/version", f"is {protocol['version']}, this version of rh_bench knows {VERSION}"
        return
    for name, value in constants().items():
        if name != "bootstrap" and protocol[name] != value:
            yield f"/protocol/{name}", f"is {protocol[name]}, the protocol says {value}"
    yield from bootstrap_problems(protocol["bootstrap"], "/protocol/bootstrap")


def bootstrap_problems(bootstrap: Json, place: str) -> Iterator[tuple[str, str]]:
    """What of the settings of a bootstrap, of a run or an experiment, is other than for all."""
    for name, number in BOOTSTRAP.items():
        if bootstrap[name] != number:
            yield f"{place}/{name}", f"is {bootstrap[name]}, the protocol says {number}"


def engine_problems(engine: Json) -> Iterator[tuple[str, str]]:
    """What of a run's engine is none that there is."""
    newest = ENGINES.get(engine["name"])
    if newest is None:
        yield "/engine/name", f"is {engine['name']}, runs are made by {' or '.join(ENGINES)}"
    elif engine["version"] > newest:
        yield "/engine/version", f"is {engine['version']}, this version of rh_bench knows {newest}"
