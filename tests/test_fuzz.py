"""Thousands of damaged artifacts: each is read or refused, soon, in little memory, and never with another exception."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mutations import SLOWEST_ALLOWED, make_subjects, mutate_bytes, mutate_json, mutate_parquet, unsealed

ROOT = Path(__file__).resolve().parents[1]
SEEDS = (0, 1)
"""Each is a process of its own, and both run at once."""
CASES = 7_500
ALL_OF_IT_COUNTS = {"attestation"}
"""An order is taken only as this version writes it, so that hardly a change leaves it sound."""
MOST_BYTES = 1 << 30


def start(seed: int, work: Path) -> subprocess.Popen[str]:
    work.mkdir()
    command = [sys.executable, "-m", "mutations", "--seed", str(seed), "--cases", str(CASES), "--work", str(work)]
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    # Through a shell: a process takes over the peak memory of the one that it was forked from, and this one may have
    # loaded models.
    return subprocess.Popen(
        ["sh", "-c", '"$@"; exit $?', "sh", *command],
        cwd=ROOT / "tests",
        env={**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    work = tmp_path_factory.mktemp("fuzz")
    running = [start(seed, work / str(seed)) for seed in SEEDS]
    try:
        found = []
        for process in running:
            out, err = process.communicate(timeout=500)
            assert process.returncode == 0, f"the process ended: {err[-3000:]}"
            found.append(json.loads(out))
        yield found
    finally:
        for process in running:
            process.kill()


@pytest.mark.slow
def test_nothing_escapes(played: list[dict[str, Any]]) -> None:
    """No exception but InputError and CheckFailed, no message that drives a terminal, and no changed file of which a
    document has the hash is taken for sound."""
    assert [case for report in played for case in report["broken"]] == []


@pytest.mark.slow
def test_ten_thousand_artifacts_of_every_kind(played: list[dict[str, Any]]) -> None:
    kinds = {kind: sum(report["kinds"][kind] for report in played) for kind in played[0]["kinds"]}
    sound = {kind: sum(report["sound"][kind] for report in played) for kind in kinds}
    print(f"\n{sum(kinds.values())} artifacts, found sound: {sum(sound.values())}; by kind: {kinds}")
    print(f"{[r['seconds'] for r in played]} seconds, {[r['peak_bytes'] >> 20 for r in played]} MiB at most")
    assert sum(kinds.values()) == len(SEEDS) * CASES >= 10_000
    assert min(kinds.values()) >= 400
    silent = {kind for kind in kinds if not 0 < sound[kind] < kinds[kind]}
    assert silent <= ALL_OF_IT_COUNTS, f"damage that says nothing: {sound}"
    assert all(sound[kind] < kinds[kind] for kind in kinds), sound


@pytest.mark.slow
def test_every_case_is_quick_and_small(played: list[dict[str, Any]]) -> None:
    assert max(report["slowest"] for report in played)[0] < SLOWEST_ALLOWED
    assert max(report["peak_bytes"] for report in played) < MOST_BYTES


def test_a_campaign_is_decided_by_its_seed() -> None:
    data = json.dumps({"a": [1, {"b": None}], "c": "x"}).encode()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]}), sink)
    for mutate, original in (
        (mutate_bytes, data),
        (mutate_json, data),
        (mutate_parquet, bytes(sink.getvalue())),
    ):
        one, two = ([mutate(random.Random(seed), original) for seed in range(50)] for _ in range(2))
        assert one == two
        assert len(set(one)) > 20


@pytest.mark.slow
def test_what_is_damaged_was_sound(tmp_path: Path) -> None:
    for kind, subject in make_subjects(tmp_path).items():
        assert subject.read(subject.seal(random.Random(1), subject.folder)), kind
        assert subject.read(unsealed(random.Random(1), subject.folder)), kind
