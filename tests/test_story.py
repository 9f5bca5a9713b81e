"""The whole story through the real clients: publish a set, measure by its name, submit, review, merge, render; and a
forged run is caught at each level on the way."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hub_fixtures import RESULTS, command, empty_results, hub
from loopback_hub import Blob
from loopback_write import STRANGER, TOKEN, WritableHub
from reproducing import forge
from tiny import tiny_checkpoint

from rh_bench.artifacts.run import read_run, write_run
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.sets.grids import choose_grid
from rh_bench.system.files import sha256_file
from rh_bench.system.schema import dump_json

__all__ = ["hub"]
SET = "org/niah"
MODEL = "org/tiny"


@dataclass
class Story:
    hub: WritableHub
    root: Path

    def say(self, *arguments: object, status: int = 0, token: str = STRANGER) -> str:
        """A command's standard output."""
        found, said, errors = command(self.hub, self.root / "home", *arguments, token=token)
        assert found == status, f"{arguments}: {found}\n{said}\n{errors[-3000:]}"
        assert STRANGER not in said + errors and TOKEN not in said + errors
        return said

    def review(self, *options: object, status: int = 0) -> Any:
        said = self.say("review", RESULTS, "--device", "cpu", "--json", *options, status=status, token=TOKEN)
        return json.loads(said)

    @property
    def main(self) -> dict[str, Blob]:
        repo = self.hub.repo("datasets", RESULTS)
        return repo.commits[repo.branches["main"]]


@pytest.fixture
def story(hub: WritableHub, tmp_path: Path) -> Story:
    """A Hub with a model and an empty results repository, and a set to publish."""
    empty_results(hub, tmp_path)
    hub.add("models", MODEL, tiny_checkpoint(tmp_path / "model"))
    grid = choose_grid("quick", "300,400", "0,50,100")
    build_set(Recipe(parse_source("synthetic"), grid, needle_count=2), tmp_path / "set")
    return Story(hub, tmp_path)


def levels(found: Any) -> list[bool | None]:
    (one,) = found
    assert one["problems"] == []
    return [level["reached"] for level in one["levels"]]


@pytest.mark.slow
def test_from_a_set_to_the_leaderboard(story: Story) -> None:
    story.say("publish", story.root / "set", "--repo", SET, "--tag", "v1", token=TOKEN)
    where = ["--haystack", f"{SET}@v1", "--out", story.root / "runs", "--device", "cpu"]
    run = Path(json.loads(story.say("evaluate", MODEL, *where, "--json"))["folder"])
    honest = read_run(run)

    # Caught at *recomputed*: a nicer summary, with the hash made to fit.
    nicer = story.root / "nicer" / run.parent.name / run.name
    shutil.copytree(run, nicer)
    summary = json.loads((nicer / "summary.json").read_text())
    summary["sparsity"]["gini"]["value"] = 0.123
    (nicer / "summary.json").write_bytes(dump_json(summary))
    document = json.loads((nicer / "run.json").read_text())
    document["files"]["summary.json"] = sha256_file(nicer / "summary.json")
    (nicer / "run.json").write_bytes(dump_json(document))
    story.say("submit", nicer, "--repo", RESULTS)
    assert levels(story.review("--merge", status=1)) == [True, False, None]

    # Caught at *rerun*: events that agree with everything but the model. The same pull request is brought up to date.
    made_up = story.root / "made-up" / run.parent.name / run.name
    made_up.mkdir(parents=True)
    write_run(made_up, honest.document, honest.layers, [forge(result, honest.layers) for result in honest.results])
    assert json.loads(story.say("submit", made_up, "--repo", RESULTS, "--json"))["updates"]
    assert levels(story.review("--merge", "--rerun", "12", status=1)) == [True, True, False]

    # Caught before it is read: other events than the hash says, put on the pull request by hand.
    repo = story.hub.repo("datasets", RESULTS)
    place = f"runs/{run.parent.name}/{run.name}"
    tampered = dict(repo.commits[repo.branches["refs/pr/1"]])
    tampered[f"{place}/events.parquet"] = Blob((run / "events.parquet").read_bytes(), lfs=True)
    repo.commit(tampered, "refs/pr/1")
    (found,) = story.review("--merge", "--rerun", "1", status=1)
    assert found["problems"] == ["its events.parquet is not the one that run.json names by its SHA-256"]
    assert not [path for path in story.main if path.startswith("runs/")], "none of them got in"

    # A second time for the same bytes there is no judgement, only the record of the first.
    story.say("submit", made_up, "--repo", RESULTS)
    (found,) = story.review("--merge", "--rerun", "12", status=1)
    assert found["outcome"] == "refused" and "these files were already judged" in found["problems"][0]

    # The honest run, by the same pull request.
    story.say("submit", run, "--repo", RESULTS)
    (found,) = story.review("--merge", "--rerun", "4")
    assert found["samples"] == 12, "4, doubled for each of two earlier submissions, up to all"
    assert found["merged"] and [level["reached"] for level in found["levels"]] == [True, True, True]
    assert f"verification/{run.parent.name}/{run.name}.json" in story.main
    assert len(repo.pulls) == 1

    # Gathered, published, and read back as a leaderboard.
    report = json.loads(story.say("collect", RESULTS, "--out", story.root / "results", "--json"))
    assert report["runs"] == 1 and report["left_out"] == []
    story.say("publish", story.root / "results", "--repo", RESULTS, token=TOKEN)
    assert "data/heads/heads-" in " ".join(story.main)
    site = json.loads(story.say("leaderboard", RESULTS, "--out", story.root / "site", "--json"))
    assert (site["runs"], site["left_out"]) == (1, [])
    assert MODEL in (story.root / "site" / "index.html").read_text()
