"""The red team: lies that a determined submitter would tell about the real SmolLM2, consistent in every file, are
played through the commands and caught by measuring samples again; the honest run passes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmarks.forgeries import FORGERIES
from rh_bench.artifacts.run import Run, read_run, write_run
from rh_bench.cli.demo import find_weights
from rh_bench.cli.main import main
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.measure.evaluate import Request, evaluate
from rh_bench.records import head_grid
from rh_bench.sets.grids import choose_grid
from rh_bench.verification.agreement import agreement
from rh_bench.verification.judging import Judgement, judge
from rh_bench.verification.noise import OTHER, SAME, measured_noise
from rh_bench.verification.rerun import Again, choose, measure_again

pytestmark = [pytest.mark.slow, pytest.mark.real_model]
SAMPLES = 12


@dataclass
class Honest:
    """An honest run of the real model, and what was found when all of it was measured again."""

    run: Run
    haystack: str
    model: str
    again: Again

    def judged(self, results: tuple[object, ...], dtype: str = "float32") -> Judgement:
        """Of claims about answers that the model gave."""
        noise = measured_noise(dtype, {"device": "cpu"}, {"device": "cuda"})
        assert noise.pair == OTHER
        rows = zip(results, self.again.rows, strict=True)
        found = [agreement(result, claim, followed, self.run.layers, noise) for result, (_, claim, followed) in rows]  # type: ignore[arg-type]
        return judge(found, np.array(head_grid(self.run.layers), dtype=np.int32), noise)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Honest:
    root = tmp_path_factory.mktemp("honest")
    build_set(Recipe(parse_source("synthetic"), choose_grid("quick", "300", "0,50,100"), needle_count=4), root / "set")
    model = f"gguf:{find_weights()}"
    outcome = evaluate(Request(model, str(root / "set"), root / "runs", device="cpu", dtype="float32"))
    run = read_run(outcome.folder)
    return Honest(run, str(root / "set"), model, measure_again(run, run.results, str(root / "set"), model, "cpu"))


def test_the_honest_run_passes(honest: Honest) -> None:
    assert len(honest.run.results) == SAMPLES
    assert sum(result.success for result in honest.run.results) > 0
    assert not honest.again.problems
    for dtype in ("float32", "bfloat16"):
        found = honest.judged(honest.run.results, dtype)
        assert found.agreed, found.problems
        assert f"{SAMPLES} of {SAMPLES} answers are" in found.words[0]


@pytest.mark.parametrize("name", [name for name in FORGERIES if name != "10% of samples forged"])
def test_forged_events_are_refused_in_the_wider_row(honest: Honest, name: str) -> None:
    """That of bfloat16, which a liar would claim."""
    forged = FORGERIES[name](honest.run.results, honest.run.layers)
    found = honest.judged(forged, "bfloat16")
    assert not found.agreed, found.words


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    document = json.loads(capsys.readouterr().out)
    return {level["level"]: level for level in document["levels"]}


def verify(honest: Honest, folder: Path, *more: str) -> int:
    where = ["--haystack", honest.haystack, "--model", honest.model, "--device", "cpu"]
    return main(["verify", str(folder), *where, "--rerun", "32", "--json", *more])


def test_the_honest_run_through_the_command(honest: Honest, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(honest, honest.run.folder) == 0
    (_, _, level) = told(capsys).values()
    words = " ".join(level["reasons"])  # type: ignore[index]
    assert level["reached"] is True  # type: ignore[index]
    assert "is caught with a probability of at least 100%" in words
    assert "and the salt '" in words


@pytest.mark.parametrize("name", FORGERIES)
def test_lies_through_the_command(
    honest: Honest, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Valid and recomputed, and not what the model does."""
    forged = FORGERIES[name](honest.run.results, honest.run.layers)
    folder = tmp_path / honest.run.folder.parent.name / honest.run.folder.name
    folder.mkdir(parents=True)
    write_run(folder, honest.run.document, honest.run.layers, forged)
    assert verify(honest, folder) == 1
    levels = told(capsys)
    assert [levels[level]["reached"] for level in ("valid", "recomputed", "rerun")] == [True, True, False], levels  # type: ignore[index]


def test_a_salt_is_drawn_and_draws_otherwise_each_time(honest: Honest) -> None:
    """Grinding: no bytes of run.json choose honest samples for a salt that is not known when they are made."""
    chosen = {tuple(r.sample.sample_id for r in choose(honest.run, 4, salt)) for salt in map(str, range(50))}
    assert len(chosen) > 40


def test_the_draw_holds_as_many_counted_samples(honest: Honest) -> None:
    counted = sum(result.success for result in honest.run.results)
    for salt in map(str, range(20)):
        drawn = choose(honest.run, 6, salt)
        assert len({result.sample.sample_id for result in drawn}) == len(drawn)
        assert sum(result.success for result in drawn) >= min(6, counted)


def test_rows_of_noise() -> None:
    here = {"device": "cpu", "device_name": "x", "torch": "2", "transformers": "5"}
    assert measured_noise("float16", here, here).pair == SAME
