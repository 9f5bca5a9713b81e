"""Results over many runs: tables that `datasets` and pandas read, the same bytes from the same runs, publishing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from fake_experiments import make_dynamic, make_intrinsic, make_relatives
from fake_runs import make_run
from hub_fixtures import RESULTS, hub, owner
from loopback_hub import Blob
from loopback_write import WritableHub, card_errors

from rh_bench.artifacts.results_repo import verification_path
from rh_bench.artifacts.verification_record import verification_document
from rh_bench.data_builders.dataset_card import size_category
from rh_bench.errors import InputError
from rh_bench.experiments.record import experiment_record
from rh_bench.hub.refs import RepoRef
from rh_bench.hub.sets import fetch_results
from rh_bench.leaderboard import build_site
from rh_bench.submissions.attest_order import new_order, with_job
from rh_bench.submissions.collect import CONFIGS, collect_results
from rh_bench.submissions.judgement import Submission, decided, make_verdict, open_judgement
from rh_bench.submissions.place import OF_RUNS, Place
from rh_bench.submissions.publish import publish_folder
from rh_bench.system.schema import dump_json
from rh_bench.verification.verify import verify_run

__all__ = ["hub"]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed in range(5):
        make_run(tmp_path / "runs", model_id=f"acme/m{seed}", seed=seed, layers=2 + seed % 2)
    return tmp_path / "runs"


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.slow
def test_rows_are_those_of_the_runs(runs: Path, tmp_path: Path) -> None:
    report = collect_results(runs, tmp_path / "results")
    assert (report.runs, report.new, report.left_out) == (5, 5, ())
    counts = [json.loads(p.read_text())["counts"] for p in runs.glob("*/*/run.json")]
    assert report.rows["models"] == 5
    for config in ("heads", "samples", "events"):
        tables = [pq.read_table(p) for p in sorted((tmp_path / "results" / "data" / config).glob("*.parquet"))]
        assert sum(map(len, tables)) == report.rows[config] == sum(count[config] for count in counts)
        assert {name for t in tables for name in t["model_id"].to_pylist()} == {f"acme/m{i}" for i in range(5)}
    models = pq.read_table(tmp_path / "results" / "data" / "models").to_pylist()
    one = next(row for row in models if row["model_id"] == "acme/m3")
    summary = json.loads((runs / one["folder"] / "summary.json").read_text())
    assert one["share_above_0.1_low"] == summary["sparsity"]["share_above_0.1"]["low"]
    assert one["verified"] is None


@pytest.mark.slow
def test_again_gives_the_same_bytes_and_a_new_run_few_new_files(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    collect_results(runs, out)
    before = bytes_below(out)
    assert collect_results(runs, out).new == 0
    assert bytes_below(out) == before
    make_run(runs, model_id="acme/late", seed=9)
    assert collect_results(runs, out).new == 1
    changed = {name for name, data in bytes_below(out).items() if before.get(name) != data}
    assert len([name for name in changed if name.startswith("data/")]) <= 4


@pytest.mark.slow
def test_what_is_not_valid_is_left_out(runs: Path, tmp_path: Path) -> None:
    broken = next(runs.glob("*/*"))
    (broken / "events.parquet").write_bytes(b"PAR1")
    report = collect_results(runs, tmp_path / "results")
    assert report.runs == 4
    assert report.left_out[0][0] == f"{broken.parent.name}/{broken.name}"


@pytest.mark.slow
def test_the_verification_travels(runs: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    runs.rename(source / "runs")
    folder = next((source / "runs").glob("*/*"))
    path = source / verification_path(folder.parent.name, folder.name)
    path.parent.mkdir(parents=True)
    path.write_bytes(dump_json(verification_document(verify_run(folder))))
    collect_results(source, tmp_path / "results")
    models = pq.read_table(tmp_path / "results" / "data" / "models").to_pylist()
    assert {row["verified"] for row in models} == {None, "valid"}


def test_no_runs_at_all(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    report = collect_results(tmp_path / "runs", tmp_path / "results")
    assert report.runs == 0 and pq.read_table(tmp_path / "results/data/models/models.parquet").num_rows == 0
    card = (tmp_path / "results" / "README.md").read_text()
    assert "0 runs" in card


@pytest.mark.slow
def test_the_card(runs: Path, tmp_path: Path) -> None:
    collect_results(runs, tmp_path / "results")
    front = yaml.safe_load((tmp_path / "results" / "README.md").read_text().split("---")[1])
    assert [config["config_name"] for config in front["configs"]] == list(CONFIGS)
    assert {"license", "language", "pretty_name", "size_categories", "task_categories", "tags"} <= set(front)
    assert [info["config_name"] for info in front["dataset_info"]] == list(CONFIGS)


@pytest.mark.parametrize(
    ("rows", "size"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (150_000_000, "100M<n<1B"), (10**12, "n>1T")],
)
def test_sizes_in_the_hubs_words(rows: int, size: str) -> None:
    assert size_category(rows) == size


@pytest.mark.slow
def test_a_card_that_the_hub_refuses_is_one_line(hub: WritableHub, runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    collect_results(runs, out)
    assert card_errors((out / "README.md").read_text()) == []
    card = (out / "README.md").read_text().replace("- n<1K", "- n>10M")
    assert "n>10M" in card
    (out / "README.md").write_text(card)
    with pytest.raises(InputError, match=r"Invalid metadata in README\.md\. - \"size_categories\" has n>10M"):
        publish_folder(out, RESULTS, access=owner(hub))


@pytest.mark.slow
def test_row_groups_stay_below_what_the_viewer_reads(
    hub: WritableHub, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rh_bench.submissions.collect.GROUP_BYTES", 4 << 10)
    out = tmp_path / "results"
    collect_results(runs, out)
    sizes = [
        footer.row_group(place).total_byte_size
        for path in (out / "data").rglob("*.parquet")
        for footer in [pq.read_metadata(path)]
        for place in range(footer.num_row_groups)
    ]
    assert max(sizes) < 16 << 10 < sum(sizes), "a run at a time, whatever its size"
    monkeypatch.setattr("rh_bench.submissions.publish.LARGEST_GROUP", max(sizes) - 1)
    with pytest.raises(InputError, match="has a row group of"):
        publish_folder(out, RESULTS, access=owner(hub))
    assert hub.repos == {}


@pytest.mark.slow
def test_publishing_is_idempotent_and_loses_nothing(hub: WritableHub, runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    collect_results(runs, out)
    first = publish_folder(out, RESULTS, access=owner(hub))
    assert len(first.sent) == len(bytes_below(out))
    again = publish_folder(out, RESULTS, access=owner(hub))
    assert (again.sent, again.removed, again.commit) == ((), (), first.commit)
    repo = hub.repo("datasets", RESULTS)
    repo.commit(repo.commits[repo.branches["main"]] | {"runs/late/0/run.json": Blob(b"{}", lfs=False)})
    with pytest.raises(InputError, match="has runs/late/0/run.json, which is missing here"):
        publish_folder(out, RESULTS, access=owner(hub))
    assert "runs/late/0/run.json" in repo.commits[repo.branches["main"]]


@pytest.mark.slow
def test_a_results_repository_is_fetched_and_collected(hub: WritableHub, runs: Path, tmp_path: Path) -> None:
    collect_results(runs, tmp_path / "results")
    publish_folder(tmp_path / "results", RESULTS, access=owner(hub))
    folder, commit = fetch_results(RepoRef(RESULTS), tmp_path / "cache", endpoint=hub.url)
    assert len(commit) == 40
    report = collect_results(folder, tmp_path / "again")
    assert (report.runs, report.left_out) == (5, ())
    assert bytes_below(tmp_path / "again") == bytes_below(tmp_path / "results")


@pytest.mark.slow
def test_the_level_of_an_experiment_travels_and_stands_in_a_table(tmp_path: Path) -> None:
    base, chat, _ = make_relatives(tmp_path / "source" / "runs", n_samples=10)
    made = tmp_path / "source" / "experiments"
    verified = make_dynamic(made, base, permutations=2000)
    make_intrinsic(made, chat, base, permutations=20)
    path = tmp_path / "source" / verification_path(verified.parent.name, verified.name)
    path.parent.mkdir(parents=True)
    path.write_bytes(dump_json(experiment_record(verify_run(verified))))
    report = collect_results(tmp_path / "source", tmp_path / "results")
    assert (tmp_path / "results" / path.relative_to(tmp_path / "source")).read_bytes() == path.read_bytes()
    rows = pq.read_table(tmp_path / "results" / "data" / "experiments" / "experiments.parquet").to_pylist()
    assert len(rows) == report.rows["experiments"] == 2
    assert {row["kind"]: (row["claim"], row["verified"]) for row in rows} == {
        "dynamic": ("dynamic", "recomputed"),
        "intrinsic": ("intrinsic", None),
    }
    front = (tmp_path / "results" / "README.md").read_text()
    assert "config_name: experiments" in front and "| `experiments` | 2 |" in front
    assert collect_results(tmp_path / "source", tmp_path / "results").left_out == ()
    (made / verified.parent.name / verified.name / "experiment.json").write_text("{}")
    again = collect_results(tmp_path / "source", tmp_path / "other")
    assert not (tmp_path / "other" / path.relative_to(tmp_path / "source")).exists(), "it is of other bytes"
    assert again.rows["experiments"] == 1


READING = """
import sys
from datasets import load_dataset
repo, endpoint = sys.argv[1:]
for config in ("heads", "models", "samples", "events", "experiments"):
    plain = load_dataset(repo, config, split="train")
    streamed = load_dataset(repo, config, split="train", streaming=True)
    first = next(iter(streamed))
    assert first == plain[0], (first, plain[0])
    assert sum(1 for _ in streamed) == len(plain)
    print(config, len(plain))
import pandas as pd
table = pd.read_parquet(f"hf://datasets/{repo}/data/models/models.parquet")
print("pandas", len(table))
import polars as pl
import pyarrow.dataset
from huggingface_hub import HfFileSystem
models = f"hf://datasets/{repo}/data/models/models.parquet"
assert pl.read_parquet(models, use_pyarrow=True).equals(pl.from_pandas(table))
files = pyarrow.dataset.dataset(f"datasets/{repo}/data/heads", filesystem=HfFileSystem(), format="parquet")
strong = pl.scan_pyarrow_dataset(files).filter(pl.col("score") > 0.1).select("model_id", "layer", "head").collect()
assert 0 < len(strong) < files.count_rows()
print("polars", files.count_rows())
"""


@pytest.mark.slow
def test_load_dataset_plain_and_streaming(hub: WritableHub, runs: Path, tmp_path: Path) -> None:
    make_dynamic(tmp_path / "experiments", next(runs.glob("*/*")), permutations=20)
    report = collect_results(runs, tmp_path / "results", tmp_path / "experiments")
    publish_folder(tmp_path / "results", RESULTS, access=owner(hub))
    done = subprocess.run(
        [sys.executable, "-c", READING, RESULTS, hub.url],
        env=hub.environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)
    assert {name: int(count) for name, count in lines.items()} == {
        **report.rows,
        "pandas": 5,
        "polars": report.rows["heads"],
    }


@pytest.mark.slow
def test_valid_experiments_on_gathered_runs_are_taken_and_published(hub: WritableHub, tmp_path: Path) -> None:
    base, chat, stranger = make_relatives(tmp_path / "runs", n_samples=10)
    made = tmp_path / "experiments"
    good = [make_dynamic(made, base, permutations=20), make_intrinsic(made, chat, base, permutations=20)]
    damaged = make_dynamic(made, stranger, permutations=20)
    (damaged / "note.txt").write_text("x")
    elsewhere = make_run(tmp_path / "other", model_id="other/model")
    make_dynamic(made, elsewhere, permutations=20)
    report = collect_results(tmp_path / "runs", tmp_path / "results", made)
    assert report.new_experiments == 2
    reasons = dict(report.left_out)
    assert "does not belong" in reasons[f"experiments/{damaged.parent.name}/{damaged.name}"]
    assert "is not in the results" in next(why for name, why in reasons.items() if "other__model" in name)
    for folder in good:
        copy = tmp_path / "results" / "experiments" / folder.parent.name / folder.name
        assert bytes_below(copy) == bytes_below(folder)
    assert collect_results(tmp_path / "runs", tmp_path / "results", made).new_experiments == 0
    publish_folder(tmp_path / "results", RESULTS, access=owner(hub))
    fetched, _ = fetch_results(RepoRef(RESULTS), cache_dir=tmp_path / "cache", endpoint=hub.url)
    assert bytes_below(fetched / "experiments") == bytes_below(tmp_path / "results" / "experiments")
    again = collect_results(fetched, tmp_path / "again")
    assert again.new_experiments == 2 and again.left_out == ()


def judgement(outcome: str | None) -> tuple[str, bytes]:
    """A maintainer's record: its path and content."""
    place = Place(OF_RUNS, "acme__m0", "0123456789abcdef")
    found = open_judgement(Submission(place, "a" * 64, "somebody", 1, "c" * 40, ("acme/m0", None), 12))
    if outcome is not None:
        found = decided(found, make_verdict(outcome, ("no",), None, "rerun"))  # type: ignore[arg-type]
    return found.path, dump_json(found.to_json())


@pytest.mark.slow
def test_judgements_travel_and_are_never_put_back(runs: Path, tmp_path: Path, hub: WritableHub) -> None:
    path, verdict = judgement("refused")
    source, out = tmp_path / "source", tmp_path / "results"
    source.mkdir()
    runs.rename(source / "runs")
    for name, content in ((path, judgement(None)[1]), ("judgements/runs/a/b/c.json", b"{}")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    report = collect_results(source, out)
    assert (out / path).read_bytes() == judgement(None)[1]
    assert [name for name, _ in report.left_out] == ["judgements/runs/a/b/c.json"]
    assert path in publish_folder(out, RESULTS, access=owner(hub)).sent

    # Meanwhile it was judged: an older folder takes nothing of that away.
    repo = hub.repo("datasets", RESULTS)
    repo.commit(repo.commits[repo.branches["main"]] | {path: Blob(verdict, lfs=False)})
    with pytest.raises(InputError, match="the repository has a different judgements/"):
        publish_folder(out, RESULTS, access=owner(hub))
    fresh, _ = fetch_results(RepoRef(RESULTS), tmp_path / "cache", endpoint=hub.url)
    collect_results(fresh, out)
    assert (out / path).read_bytes() == verdict
    assert publish_folder(out, RESULTS, access=owner(hub)).sent == ()
    collect_results(source, out)
    assert (out / path).read_bytes() == verdict, "a draw does not take the place of its verdict"
    (out / path).unlink()
    with pytest.raises(InputError, match=f"the repository has {path}, which is missing here"):
        publish_folder(out, RESULTS, access=owner(hub))


@pytest.mark.slow
def test_a_leaderboard_leaves_judgements_alone(runs: Path, tmp_path: Path) -> None:
    path, content = judgement("refused")
    source = tmp_path / "source"
    source.mkdir()
    runs.rename(source / "runs")
    assert len(build_site(source, tmp_path / "one").briefs) == 5
    (source / path).parent.mkdir(parents=True)
    (source / path).write_bytes(content)
    report = build_site(source, tmp_path / "two")
    assert (len(report.briefs), report.left_out) == (5, ())
    assert bytes_below(tmp_path / "one").keys() == bytes_below(tmp_path / "two").keys()


def test_orders_are_taken_along_as_they_are(tmp_path: Path) -> None:
    """One whose job is known is not put back to one without; what is no order is left out, by name."""
    source, out = tmp_path / "source", tmp_path / "out"
    make_run(source / "runs")
    order = new_order(
        repo="org/results",
        namespace="org",
        model=("acme/tiny-1", "c" * 40),
        haystack=("org/set", "d" * 40),
        image=f"org/image@sha256:{'e' * 64}",
        requirements=None,
        flavor="cpu-basic",
        timeout=60,
    )
    noted = dump_json(with_job(order, "687fb701029421ae5549d998", "1").to_json())
    (source / "attestations").mkdir()
    (source / order.path).write_bytes(noted)
    (source / "attestations" / "x.json").write_text("{}")
    (left,) = collect_results(source, out).left_out
    assert left[0] == "attestations/x.json" and (out / order.path).read_bytes() == noted
    (source / order.path).write_bytes(dump_json(order.to_json()))
    collect_results(source, out)
    assert (out / order.path).read_bytes() == noted
    (model,) = pq.read_table(out / "data" / "models" / "models.parquet").to_pylist()
    assert model["attested"] is None
