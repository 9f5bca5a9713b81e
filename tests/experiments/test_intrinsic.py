"""The experiment `intrinsic`: relatives are alike, strangers are not, and tables that cannot be are refused.

Released detections are compared where RH_BENCH_SHARED_DATA has them, whatever models they are of.
"""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fake_experiments import make_intrinsic, make_relatives, make_small_intrinsic
from fake_runs import make_run

from rh_bench.artifacts.tables import write_table
from rh_bench.cli.main import main
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import read_document, read_experiment, recompute, validate_experiment
from rh_bench.experiments.intrinsic.tables import read_side
from rh_bench.interchange.folder import import_file
from rh_bench.system.files import sha256_file
from rh_bench.system.schema import dump_json, load_json
from rh_bench.verification.checks import check_folder


@pytest.fixture(scope="module")
def relatives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return make_relatives(tmp_path_factory.mktemp("relatives") / "runs")


def results_of(folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Results, measures by name, and the claim."""
    document = read_document(folder)
    return document["results"], {row["measure"]: row for row in document["results"]["measures"]}, document["claims"][0]


def test_a_model_and_its_base_are_alike(relatives: tuple[Path, Path, Path], tmp_path: Path) -> None:
    base, chat, _ = relatives
    folder = make_intrinsic(tmp_path, chat, base)
    assert check_folder(folder) == [] and recompute(folder) == []
    document = read_document(folder)
    assert document["model"]["id"] == "acme/chat" and document["settings"]["relation_by"] == "card"
    results, measures, claim = results_of(folder)
    assert results["samples"] == [24, 24] and results["heads"] == 36
    assert list(measures) == ["pearson", "spearman", "jaccard", "top_10", "top_20"]
    pearson = measures["pearson"]
    assert pearson["similarity"]["low"] > 0.5 and pearson["at_random"]["p_value"] == pytest.approx(1 / 51, abs=1e-9)
    assert abs(pearson["at_random"]["mean"]) < 0.2
    assert measures["top_10"]["similarity"]["reason"], "fewer than 10 heads of these score above zero"
    assert claim["claim"] == "intrinsic" and claim["verdict"] == "holds" and claim["n"] == 24
    assert claim["effect"] == pearson["similarity"]


def test_strangers_are_not(relatives: tuple[Path, Path, Path], tmp_path: Path) -> None:
    base, _, stranger = relatives
    _, measures, claim = results_of(make_intrinsic(tmp_path, stranger, base, relation="unrelated"))
    assert claim["claim"] == "intrinsic_control" and claim["verdict"] == "holds"
    assert measures["pearson"]["at_random"]["p_value"] > 0.05
    _, _, unsaid = results_of(make_intrinsic(tmp_path, stranger, base))
    assert unsaid["verdict"] == "not_enough_evidence" and "--relation" in unsaid["reason"]
    _, _, wrong = results_of(make_intrinsic(tmp_path, stranger, base, relation="derived"))
    assert wrong["claim"] == "intrinsic" and wrong["verdict"] == "does_not_hold"


def test_scores_are_those_of_the_run(relatives: tuple[Path, Path, Path]) -> None:
    side = read_side(relatives[0])
    top = load_json(relatives[0] / "summary.json")["top_heads"]
    values = dict(zip(side.heads, side.values, strict=True))
    assert [values[row["layer"], row["head"]] for row in top] == [row["score"] for row in top]


def test_the_same_runs_give_the_same_bytes_and_the_other_way_round_the_same_numbers(
    relatives: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    base, chat, _ = relatives
    one, two = make_intrinsic(tmp_path / "a", chat, base), make_intrinsic(tmp_path / "b", chat, base)
    assert (one / "experiment.json").read_bytes() == (two / "experiment.json").read_bytes()
    mirrored = make_intrinsic(tmp_path / "a", base, chat)
    assert mirrored.parent.name == "acme__base"
    values = [results_of(folder)[1]["pearson"]["similarity"]["value"] for folder in (one, mirrored)]
    assert values[0] == values[1]


def test_what_cannot_be_compared_is_refused(relatives: tuple[Path, Path, Path], tmp_path: Path) -> None:
    other = make_run(tmp_path, layers=2, heads=2, kv_heads=1)
    with pytest.raises(InputError, match="equal layers"):
        make_intrinsic(tmp_path, relatives[0], other)
    with pytest.raises(InputError, match="itself"):
        make_intrinsic(tmp_path, relatives[0], relatives[0])
    members = tmp_path / "members.yaml"
    members.write_text("attn_head_set: 0-1,1-1\n")
    with pytest.raises(InputError, match="no scores of query heads"):
        read_side(import_file(members, tmp_path / "imports", format="qrhead", model="org/m"))
    failed = make_run(tmp_path / "failed", n_samples=0)
    with pytest.raises(InputError, match="no sample of this run counted"):
        read_side(failed)


def seed_file(path: Path, seed: int, scores: list[float], samples: int = 30) -> Path:
    random = np.random.RandomState(seed)
    # Shares of an answer of 20 tokens, as copy scores are.
    rows = {f"{i // 4}-{i % 4}": ((s * random.rand(samples) * 20).round() / 20).tolist() for i, s in enumerate(scores)}
    path.write_text(json.dumps(rows))
    return path


def test_imports_are_compared_too(tmp_path: Path) -> None:
    scores = [0.9, 0.0, 0.1, 0.6, 0.0, 0.2, 0.0, 0.4]
    folders = [
        import_file(seed_file(tmp_path / f"{name}.json", seed, scores), tmp_path / "imports", model=f"org/{name}")
        for seed, name in enumerate("ab")
    ]
    folder = make_intrinsic(tmp_path / "experiments", *folders, relation="derived")
    assert check_folder(folder) == []
    results, measures, claim = results_of(folder)
    assert results["samples"] == [30, 30]
    assert measures["pearson"]["similarity"]["low"] > 0.5
    assert read_document(folder)["runs"][0]["origin"] == "imported"
    assert claim["verdict"] == "holds"
    nameless = import_file(seed_file(tmp_path / "c.json", 3, scores), tmp_path / "imports")
    with pytest.raises(InputError, match="which model"):
        make_intrinsic(tmp_path / "experiments", nameless, folders[0])


def test_what_is_no_copy_score_is_compared_with_none(tmp_path: Path) -> None:
    copied = import_file(seed_file(tmp_path / "a.json", 0, [0.9, 0.0, 0.1, 0.6]), tmp_path / "imports", model="org/a")
    rows = {f"0-{i}": np.random.RandomState(i).rand(9).tolist() for i in range(4)}
    (tmp_path / "mass.json").write_text(json.dumps(rows))
    mass = import_file(tmp_path / "mass.json", tmp_path / "imports", model="org/b")
    shares = []
    for name in "cd":
        profile = {
            "n_layers": 1,
            "n_heads": 4,
            "argmax_heads": [],
            "argmax_scores": [[0.5, 0, 0.05, 0.2]],
            "hf_id": name,
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(profile))
        shares.append(import_file(tmp_path / f"{name}.json", tmp_path / "imports"))
    for pair in ((copied, mass), (mass, copied), (mass, shares[0])):
        with pytest.raises(InputError, match="compared with nothing"):
            make_intrinsic(tmp_path / "e", *pair)
    with pytest.raises(InputError, match="only lists of one measure"):
        make_intrinsic(tmp_path / "e", copied, shares[0])
    folder = make_intrinsic(tmp_path / "e", *shares, relation="derived")
    assert check_folder(folder) == []
    assert read_document(folder)["settings"]["numbers"] == "argmax", "what was compared is said"
    assert "shares of prompts" in read_document(folder)["claims"][0]["test"]


def test_a_part_of_a_model_is_not_compared(tmp_path: Path) -> None:
    (tmp_path / "top.json").write_text(json.dumps([[[3, 1], 0.5], [[0, 2], 0.25]]))
    with pytest.raises(InputError, match="some heads have no score"):
        read_side(import_file(tmp_path / "top.json", tmp_path / "imports", model="org/a"))


def test_the_command(
    relatives: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    base, chat, _ = relatives
    command = ["compare", str(chat), str(base), "--out", str(tmp_path), "--permutations", "50"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "acme/chat and acme/base" in shown and "intrinsic: holds" in shown
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["claims"][0]["verdict"] == "holds"
    assert main(["compare", str(chat), str(tmp_path / "none"), "--out", str(tmp_path)]) == 2


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small_intrinsic(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize(
    ("table", "column", "row", "value", "place"),
    [
        ("heads", "head", 0, 2, ""),
        ("heads", "layer", 7, 2, ""),
        ("heads", "first", 0, float("nan"), "/first"),
        ("heads", "second", 0, 1e9, "/second"),
        ("heads", "second", 0, 0.123, "/second"),
        ("samples", "side", 0, 1, ""),
        ("samples", "sample", 0, 3, ""),
        ("samples", "needle", 0, None, "/needle"),
        ("scores", "side", 0, 7, "/0"),
        ("scores", "sample", 0, 77, "/0"),
        ("scores", "place", 0, 8, "/0"),
        ("scores", "place", 0, -1, "/0"),
        ("scores", "score", 0, 0.0, "/0/score"),
        ("scores", "score", 0, float("inf"), "/0/score"),
        ("scores", "sample", 1, 0, ""),
    ],
)
def test_rows_that_cannot_be(
    small: Path, tmp_path: Path, table: str, column: str, row: int, value: object, place: str
) -> None:
    folder = Path(shutil.copytree(small, tmp_path / small.parent.name / small.name))
    experiment = read_experiment(folder)
    rows = experiment.tables[table].to_pylist()
    rows[row][column] = value
    write_table(folder / f"{table}.parquet", pa.Table.from_pylist(rows, schema=experiment.tables[table].schema))
    document = dict(experiment.document)
    document["files"] = {name: sha256_file(folder / name) for name in document["files"]}
    (folder / "experiment.json").write_bytes(dump_json(document))
    assert (f"{table}.parquet", place) in {(p.file, p.pointer) for p in validate_experiment(folder)}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda d: d["runs"].pop(), "/runs"),
        (lambda d: d["settings"]["models"][1].update(slug="x"), "/settings/models/1/slug"),
        (lambda d: d["settings"]["models"][0].update(base_model=["x"]), "/settings/models/0"),
        (lambda d: d["settings"].update(relation="unrelated"), "/settings/relation"),
        (lambda d: [d["model"].pop(key) for key in ("layers", "source")], "/model"),
    ],
)
def test_documents_that_cannot_be(small: Path, tmp_path: Path, change: Any, place: str) -> None:
    folder = Path(shutil.copytree(small, tmp_path / small.parent.name / small.name))
    document = load_json(folder / "experiment.json")
    change(document)
    (folder / "experiment.json").write_bytes(dump_json(document))
    assert place in {problem.pointer for problem in validate_experiment(folder)}


# Released detections


def import_all(files: list[Path], out: Path) -> list[Path]:
    return [import_file(path, out, model=None if "profile" in path.parent.name else path.stem) for path in files]


def test_released_detections_of_unrelated_models_have_nothing_in_common(shared_data: Path, tmp_path: Path) -> None:
    files = sorted((shared_data / "seed" / "head_score").glob("*.json"))
    imports = import_all(files, tmp_path / "imports")
    sides = {folder: read_side(folder) for folder in imports}
    pairs = [(a, b) for a, b in itertools.combinations(imports, 2) if sides[a].heads == sides[b].heads]
    if not pairs:
        pytest.skip("no two released detections have equal head grids")
    for first, second in pairs:
        words = {w for f in (first, second) for w in [f.parent.name.split("-")[0].casefold()]}
        related = len(words) == 1 or words == {"mistral", "mixtral"}
        relation = "derived" if related else "unrelated"
        folder = make_intrinsic(tmp_path / "e", first, second, relation=relation, permutations=200)
        assert check_folder(folder) == []
        _, measures, claim = results_of(folder)
        print(f"\n{first.parent.name} and {second.parent.name}: {measures['pearson']['similarity']}")
        assert claim["verdict"] == "holds"


def test_a_released_base_and_its_instruct_model_are_alike(shared_data: Path, tmp_path: Path) -> None:
    """The pair that the lineage file of the profiles names; its own Jaccard and Spearman numbers are ours."""
    lineage = sorted((shared_data / "retrieval-head-profile").glob("inheritance_*.json"))
    if not lineage:
        pytest.skip("no lineage file among the profiles")
    rings = [ring for path in lineage for ring in load_json(path, constant=lambda text: None)["rings"]]
    compared = 0
    for ring in rings:
        files = [lineage[0].parent / f"{ring[side]}_seed42.json" for side in ("child", "parent")]
        if all(path.is_file() for path in files):
            folder = make_intrinsic(tmp_path / "e", *import_all(files, tmp_path / "i"), relation="derived")
            _, measures, claim = results_of(folder)
            found = ring["E10_identity"]["argmax"]
            assert measures["jaccard"]["similarity"]["value"] == pytest.approx(found["jaccard"], abs=1e-6)
            assert measures["spearman"]["similarity"]["value"] == pytest.approx(
                found["per_head_score_spearman"], abs=1e-4
            )
            assert measures["pearson"]["similarity"]["value"] > 0.5
            assert claim["verdict"] == "not_enough_evidence", "there are no single samples, so no interval"
            compared += 1
    assert compared
