"""Experiments by pull request: submitted, reviewed, refused, taken in, and shown, against the loopback Hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from experiment_forging import ablated, answers_made_up, detected, forge, place
from fake_experiments import make_dynamic, make_intrinsic, make_relatives
from fake_runs import make_run
from hub_fixtures import RESULTS, command, empty_results, hub, owner, stranger
from loopback_hub import Blob
from loopback_write import TOKEN, WritableHub

from rh_bench.artifacts.levels import Evidence
from rh_bench.errors import CheckFailed, InputError
from rh_bench.experiments.artifact import experiment_folder, experiment_id, read_experiment, write_experiment
from rh_bench.experiments.registry import kinds
from rh_bench.experiments.schemas import record_schema
from rh_bench.hub.refs import RepoRef
from rh_bench.hub.sets import fetch_results
from rh_bench.interchange.folder import import_file
from rh_bench.leaderboard import build_site
from rh_bench.submissions.collect import collect_results
from rh_bench.submissions.place import find_place
from rh_bench.submissions.review import Found, Ways, review, verify_pull
from rh_bench.submissions.submit import submit_run
from rh_bench.system.schema import validate_document

pytestmark = pytest.mark.slow

__all__ = ["ablated", "detected", "hub", "place"]


@pytest.fixture
def results(hub: WritableHub, tmp_path: Path) -> WritableHub:
    empty_results(hub, tmp_path)
    return hub


@pytest.fixture
def relatives(results: WritableHub, tmp_path: Path) -> tuple[Path, Path]:
    """Two runs that the repository holds."""
    base, chat, _ = make_relatives(tmp_path / "runs", layers=2, heads=4, n_samples=6)
    take_in(results, base, chat)
    return base, chat


def take_in(hub: WritableHub, *runs: Path) -> None:
    """As runs lie there that a maintainer took in; made-up ones take the same seconds, which makes them copies."""
    repo = hub.repo("datasets", RESULTS)
    tree = dict(repo.commits[repo.branches["main"]])
    for run in runs:
        for file in run.iterdir():
            path = f"runs/{run.parent.name}/{run.name}/{file.name}"
            tree[path] = Blob(file.read_bytes(), lfs=file.suffix == ".parquet")
    repo.commit(tree, "main")


def reviewed(hub: WritableHub, **ways: Any) -> list[Found]:
    return list(review(RESULTS, Ways(**{"merge": True, **ways}), access=owner(hub)))


def main_tree(hub: WritableHub) -> dict[str, Blob]:
    repo = hub.repo("datasets", RESULTS)
    return repo.commits[repo.branches["main"]]


def reached(found: Found) -> list[bool | None]:
    assert found.verification is not None, found.problems
    return [level.reached for level in found.verification.levels]


def record_of(hub: WritableHub, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(main_tree(hub)[f"verification/{folder.parent.name}/{folder.name}.json"].content)
    return found


def test_an_experiment_is_submitted_and_taken_in_by_the_commands(
    results: WritableHub, relatives: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = make_dynamic(tmp_path / "experiments", relatives[0], permutations=2000)
    status, out, err = command(results, tmp_path / "home", "submit", folder, "--repo", RESULTS)
    assert status == 0, err
    assert f"experiments/{folder.parent.name}/{folder.name}/experiment.json" in out and "note:" not in out
    num = len(results.repo("datasets", RESULTS).pulls)
    pull = results.repo("datasets", RESULTS).pulls[num]
    assert pull.title == f"Experiment {folder.parent.name}/{folder.name}"
    assert command(results, tmp_path / "home", "submit", folder, "--repo", RESULTS)[0] == 0
    assert len(results.repo("datasets", RESULTS).pulls) == num, "one pull request for one experiment"
    status, out, err = command(results, tmp_path / "home", "verify", f"{RESULTS}#{num}", token=TOKEN)
    assert status == 0 and "recomputed: yes" in out, err
    # Nothing can be measured again of it, so that what is required of others is not required of it.
    status, out, err = command(results, tmp_path / "home", "review", RESULTS, "--merge", "--rerun", "4", token=TOKEN)
    assert status == 0 and f"experiment {folder.parent.name}/{folder.name}" in out and "accepted in commit" in out, err
    tree = main_tree(results)
    for name in ("experiment.json", "contexts.parquet", "copies.parquet"):
        path = f"experiments/{folder.parent.name}/{folder.name}/{name}"
        assert tree[path].content == (folder / name).read_bytes()
    record = record_of(results, folder)
    assert validate_document(record, "experiment_verification", schema=record_schema()) == []
    assert [level["reached"] for level in record["levels"]] == [True, True, None] and record["rerun"] is None
    assert record["author"] == "stranger" and record["pull_request"] == num
    assert command(results, tmp_path / "home", "submit", folder, "--repo", RESULTS)[1].startswith("nothing to send")


def test_what_was_taken_in_is_shown_with_its_badge_and_gathered(
    results: WritableHub, relatives: tuple[Path, Path], tmp_path: Path
) -> None:
    base, chat = relatives
    folder = make_intrinsic(tmp_path / "experiments", chat, base, permutations=2000)
    submit_run(folder, RESULTS, access=stranger(results))
    assert [found.merged for found in reviewed(results)] == [True]
    fetched, _ = fetch_results(RepoRef(RESULTS), cache_dir=tmp_path / "cache", endpoint=results.url)
    build_site(fetched, tmp_path / "site")
    assert '<a class="badge recomputed"' in (tmp_path / "site" / "experiments.html").read_text()
    report = collect_results(fetched, tmp_path / "gathered")
    assert (report.runs, report.new_experiments, report.left_out) == (2, 1, ())
    assert (tmp_path / "gathered" / "verification" / folder.parent.name / f"{folder.name}.json").is_file()


def test_an_experiment_on_runs_that_are_not_there_is_told_so(
    results: WritableHub, relatives: tuple[Path, Path], tmp_path: Path
) -> None:
    other = make_run(tmp_path / "elsewhere")
    folder = make_dynamic(tmp_path / "experiments", other, permutations=2000)
    with pytest.raises(InputError, match=f"is about the run {other.parent.name}/{other.name}, which .* does not have"):
        submit_run(folder, RESULTS, access=stranger(results))
    open_by_hand(results, folder)
    (found,) = reviewed(results)
    assert found.verification is None and found.outcome is None
    assert found.problems == (f"is about the run {other.parent.name}/{other.name}, which the repository does not have",)


def open_by_hand(hub: WritableHub, folder: Path, **more: Blob) -> int:
    """A pull request with a folder's files, whatever they are, as anybody can open one."""
    from huggingface_hub import CommitOperationAdd, HfApi
    from loopback_write import STRANGER

    files = {f"experiments/{folder.parent.name}/{folder.name}/{one.name}": one.read_bytes() for one in folder.iterdir()}
    files |= {path: blob.content for path, blob in more.items()}
    made = HfApi(hub.url, token=STRANGER).create_commit(
        RESULTS,
        [CommitOperationAdd(path, data) for path, data in files.items()],
        commit_message="By hand",
        repo_type="dataset",
        create_pr=True,
    )
    assert made.pr_num is not None
    return int(made.pr_num)


def forged_copies(document: dict[str, Any], tables: dict[str, Any]) -> None:
    tables["copies"] = tables["copies"].slice(1)


def test_a_forgery_is_refused_once_and_for_all(
    results: WritableHub, relatives: tuple[Path, Path], tmp_path: Path
) -> None:
    honest = make_dynamic(tmp_path / "experiments", relatives[0], permutations=2000)
    folder = forge(honest, tmp_path / "forged", forged_copies)
    num = open_by_hand(results, folder)
    (found,) = reviewed(results)
    assert reached(found) == [True, False, None] and found.outcome == "refused"
    path = f"judgements/experiments/{folder.parent.name}/{folder.name}/"
    assert any(name.startswith(path) for name in main_tree(results))
    assert not any(name.startswith("experiments/") for name in main_tree(results))
    again = verify_pull(RepoRef(RESULTS), num, Evidence(), owner(results))
    assert reached(again) == [True, False, None]
    (found,) = reviewed(results)
    assert found.verification is None and "these files were already judged" in found.problems[0]


def test_a_submission_is_one_experiment_and_nothing_else(
    results: WritableHub, relatives: tuple[Path, Path], tmp_path: Path
) -> None:
    base, chat = relatives
    one = make_dynamic(tmp_path / "experiments", base, permutations=2000)
    two = make_dynamic(tmp_path / "experiments", chat, permutations=2000)
    place = f"experiments/{two.parent.name}/{two.name}"
    both = {f"{place}/{file.name}": Blob(file.read_bytes(), lfs=False) for file in two.iterdir()}
    open_by_hand(results, one, **both)
    open_by_hand(results, one, **{f"verification/{one.parent.name}/{one.name}.json": Blob(b"{}", lfs=False)})
    (one / "samples.parquet").write_bytes(b"PAR1")
    open_by_hand(results, one)
    problems = [found.problems for found in reviewed(results)]
    assert problems[0] == ("contains 2 experiments: submit them one by one",)
    record = f"verification/{one.parent.name}/{one.name}.json"
    assert problems[1] == (f"adds {record}, which is not a file of a run or an experiment",)
    assert "samples.parquet, which is not a file of a run or an experiment" in problems[2][0]
    with pytest.raises(CheckFailed, match="does not belong to an experiment"):
        submit_run(one, RESULTS, access=stranger(results))


def test_imports_cannot_be_submitted(results: WritableHub, relatives: tuple[Path, Path], tmp_path: Path) -> None:
    seeds = tmp_path / "seed.json"
    seeds.write_text(json.dumps({f"{layer}-{head}": [0.1 * head] for layer in range(2) for head in range(4)}))
    imported = import_file(seeds, tmp_path / "imports", model="org/other")
    folder = make_intrinsic(tmp_path / "experiments", relatives[0], imported, permutations=2000)
    with pytest.raises(InputError, match="is about an imported list"):
        submit_run(folder, RESULTS, access=stranger(results))


def test_answers_are_measured_again_when_they_are_reviewed(
    results: WritableHub, ablated: Path, place: Path, tmp_path: Path
) -> None:
    """The draw is recorded, a lie is refused, and the truth gets the badge."""
    take_in(results, *(place / "results" / "runs" / "model").iterdir())
    ways = {
        "rerun": 8,
        "require": "rerun",
        "model": str(place / "model"),
        "haystack": str(place / "set"),
        "device": "cpu",
    }
    lie = forge(ablated, tmp_path / "lie", answers_made_up)
    assert lie.name == ablated.name, "the id is of what was asked, not of what was said"
    submit_run(lie, RESULTS, access=stranger(results))
    (found,) = reviewed(results, **ways)
    assert reached(found) == [True, True, False] and found.outcome == "refused"
    assert found.draw is not None and found.draw.samples == 8
    submit_run(ablated, RESULTS, access=stranger(results))
    (found,) = reviewed(results, **ways)
    assert reached(found) == [True, True, True] and found.merged, found.to_json()
    assert found.draw is not None and found.draw.samples == 16, "twice as many after a refusal"
    record = record_of(results, ablated)
    assert record["rerun"] == {"samples": 16, "salt": found.draw.salt}
    assert record["fingerprint"] is None or record["fingerprint"]["seconds"] is None


def test_scores_of_another_model_are_recognised(
    results: WritableHub, detected: Path, place: Path, tmp_path: Path
) -> None:
    """The same numbers under another model's name: by its bytes, and, written anew, by what they say."""
    runs = place / "results" / "runs" / "model"
    take_in(results, *runs.iterdir())
    submit_run(detected, RESULTS, access=stranger(results))
    given = {"model": str(place / "model"), "haystack": str(place / "set"), "device": "cpu"}
    assert [found.merged for found in reviewed(results, **given)] == [True]
    other = make_run(tmp_path / "runs", layers=3, heads=4, kv_heads=2, model_id="thief/model")
    take_in(results, other)
    experiment = read_experiment(detected)
    model = json.loads((other / "run.json").read_text())["model"]
    document = {**experiment.document, "model": model}
    kind = kinds()["detectors"]
    document["experiment_id"] = experiment_id(kind, model, [], document["data"], document["settings"])
    folder = experiment_folder(tmp_path / "stolen", document)
    folder.mkdir(parents=True)
    write_experiment(folder, document, experiment.tables)
    submit_run(folder, RESULTS, access=stranger(results))
    (found,) = reviewed(results, require="valid")
    assert "scores.parquet is byte for byte that of" in found.problems[0] and not found.merged
    shutil.rmtree(folder)
    folder.mkdir()
    tables = dict(experiment.tables)
    seconds = [row["seconds"] + 1 for row in tables["scores"].to_pylist()]
    place_of = tables["scores"].schema.get_field_index("seconds")
    import pyarrow as pa

    tables["scores"] = tables["scores"].set_column(place_of, tables["scores"].schema.field(place_of), pa.array(seconds))
    write_experiment(folder, document, tables)
    submit_run(folder, RESULTS, access=stranger(results))
    (found,) = reviewed(results, require="valid")
    assert any("a copy of another model's experiment" in problem for problem in found.problems), found.to_json()


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_every_kind_has_a_place_that_no_run_has(kind: str) -> None:
    name = f"{kind}-0123456789abcdef"
    found = find_place(f"experiments/org__model/{name}/experiment.json")
    assert found is not None and found.verification == f"verification/org__model/{name}.json"
    assert set(found.kind.files) == {"experiment.json", *(f"{table}.parquet" for table in kinds()[kind].tables)}
    assert find_place(f"runs/org__model/{name}/run.json") is None
    assert find_place("experiments/org__model/0123456789abcdef/experiment.json") is None
    run = find_place("runs/org__model/0123456789abcdef/run.json")
    assert run is not None and run.verification != found.verification
