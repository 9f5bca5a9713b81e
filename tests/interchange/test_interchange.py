"""Other projects' formats: there and back, declared losses, and what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import parse_eval_result_entries
from hypothesis import given
from hypothesis import strategies as st
from source_tree import place_of

from rh_bench.artifacts.run import read_run
from rh_bench.cli.main import main
from rh_bench.errors import InputError, RhBenchError
from rh_bench.interchange.audit import audit_file
from rh_bench.interchange.export import export_run, write_files
from rh_bench.interchange.folder import import_file, read_import
from rh_bench.interchange.formats import FORMATS, READERS, guess_format, project_of, read_qrhead
from rh_bench.system.schema import load_json
from rh_bench.verification.checks import check_folder
from rh_bench.verification.verify import verify_run
from tests.fake_runs import make_run

SEED = {"0-0": [0, 0.5], "0-1": [0.25, 0], "1-0": [0, 0], "1-1": [1, 0.75]}
PROFILE: dict[str, Any] = {
    "model": "tiny",
    "hf_id": "org/tiny",
    "n_layers": 2,
    "n_heads": 2,
    "argmax_heads": [[1, 1], [0, 1]],
    "argmax_scores": [[0.0, 0.2], [0.05, 0.9]],
    "copy_heads": [[0, 0]],
}
QRHEAD = 'attn_head_set: "13-18,8-11,13-1" # top3\nmodel_base_class: "Tiny"\nmodel_name_or_path: "org/tiny"\n'
PAIRS = [[[1, 1], 0.94], [[0, 1], 0.5], [[1, 0], 0.125], [[0, 0], 0]]
ATLAS: dict[str, Any] = {
    "model_id": "org/tiny",
    "n_layers": 2,
    "n_heads": 2,
    "tau": 0.05,
    "event_rate": [[0.5, 0.0], [1.0, 0.25]],
    "avg_mass": [[0.0002182881, 0.1336669921], [0.0, 0.4538574218]],
}
DUO = "1.000000000000000000e+00\t-2.229213714599609375e-05\n5.000000000000000000e-01\t0.000000000000000000e+00\n"


def put(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "foreign"
    put(folder / "duo" / "config.json", {"model_name": "org/tiny", "sink_size": 64})
    return {
        "seed": put(folder / "seed.json", SEED),
        "pairs": put(folder / "pairs.json", PAIRS),
        "profile": put(folder / "profile.json", PROFILE),
        "atlas": put(folder / "atlas.json", ATLAS),
        "qrhead": put(folder / "q.yaml", QRHEAD),
        "duo": put(folder / "duo" / "full_attention_heads.tsv", DUO).parent,
    }


def codes(path: Path) -> set[str]:
    return {finding.code for finding in audit_file(path).findings}


@pytest.mark.parametrize("format", READERS)
def test_there_and_back(format: str, files: dict[str, Path], tmp_path: Path) -> None:
    assert guess_format(files[format]) == format
    folder = import_file(files[format], tmp_path / "runs")
    assert check_folder(folder) == []
    before, after = READERS[format](files[format]), read_import(folder)
    assert (after.heads, after.values, after.instances) == (before.heads, before.values, before.instances)
    assert (after.selected, after.order, after.model, after.extra) == (
        before.selected, before.order, before.model, before.extra,
    )  # fmt: skip
    written = export_run(folder, format)
    assert written.losses == (("comments",) if format == "qrhead" else ())
    paths = write_files(written, tmp_path / "again")
    if format == "duo":
        assert paths[0].read_text() == DUO
        assert json.loads(paths[1].read_text()) == {"model_name": "org/tiny", "sink_size": 64}
    elif format == "qrhead":
        assert yaml.safe_load(paths[0].read_text()) == yaml.safe_load(QRHEAD)
    else:
        assert json.loads(paths[0].read_text()) == json.loads(files[format].read_text())


def test_one_line_in_formats_makes_a_format_known(capsys: pytest.CaptureFixture[str]) -> None:
    """To the commands, and to the site."""
    page = place_of("docs/interchange.md").read_text(encoding="utf-8")
    assert main(["import", "--help"]) == 0
    said = capsys.readouterr().out
    for name, one in FORMATS.items():
        assert one.read is not None and one.write is not None and (one.suffixes or one.fits)
        assert name in said and f"`{name}`" in page
        assert project_of(name) == one.project != ""
    assert project_of("of-another-package") == "of-another-package"


def test_importing_twice_gives_the_same_bytes(files: dict[str, Path], tmp_path: Path) -> None:
    one, two = (import_file(files["seed"], tmp_path / name) for name in "ab")
    assert one.relative_to(tmp_path / "a") == two.relative_to(tmp_path / "b")
    assert all((two / path.name).read_bytes() == path.read_bytes() for path in one.iterdir())
    named = import_file(files["seed"], tmp_path / "a", model="org/tiny")
    assert named.parent.name == "org__tiny"
    assert json.loads((named / "import.json").read_text())["model"]["named_by"] == "importer"


def test_an_import_is_valid_and_nothing_more(files: dict[str, Path], tmp_path: Path) -> None:
    levels = verify_run(import_file(files["seed"], tmp_path)).levels
    assert [(level.name, level.reached) for level in levels] == [
        ("valid", True),
        ("recomputed", None),
        ("rerun", None),
    ]
    assert "no events" in levels[1].reasons[0]


def test_a_changed_import_is_caught(files: dict[str, Path], tmp_path: Path) -> None:
    folder = import_file(files["seed"], tmp_path)
    document = json.loads((folder / "import.json").read_text())
    put(folder / "stranger.txt", "x")
    document["counts"]["heads"] = 5
    put(folder / "import.json", document)
    found = {(problem.file, problem.pointer) for problem in check_folder(folder)}
    assert found == {("stranger.txt", ""), ("import.json", "/counts/heads")}
    (folder / "heads.parquet").write_bytes(b"PAR1")
    assert any("hash differs" in problem.message for problem in check_folder(folder))
    with pytest.raises(InputError):
        read_import(folder)


def test_a_run_in_every_format(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    layers = read_run(run).layers
    with pytest.raises(InputError, match="does not have attention mass"):
        export_run(run, "atlas")
    for format in set(READERS) - {"atlas"}:
        written = export_run(run, format)
        assert written.losses, "a run holds more than any of these formats"
        paths = write_files(written, tmp_path / format)
        heads = READERS[format](paths[0])
        assert heads.model == (None if format in ("seed", "pairs") else "acme/tiny-1")
        if format in ("seed", "pairs", "profile"):
            assert heads.heads == tuple((x.index, h) for x in layers for h in range(x.query_heads))
    seed = READERS["seed"](tmp_path / "seed" / "heads.json")
    profile = READERS["profile"](tmp_path / "profile" / "profile.json")
    np.testing.assert_allclose(seed.values or (), profile.values or (), atol=1e-8)
    chosen = [head for head, value in zip(profile.heads, profile.values or (), strict=True) if value > 0.1]
    assert profile.selected == frozenset(chosen)
    assert chosen
    pairs = json.loads((tmp_path / "pairs" / "heads.json").read_text())
    assert [score for _, score in pairs] == sorted(profile.values or (), reverse=True)


@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_query_heads_become_key_value_heads_by_name(reduce: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    query = READERS["profile"](write_files(export_run(run, "profile"), tmp_path / "p")[0]).matrix()
    paths = write_files(export_run(run, "duo", reduce=reduce), tmp_path / "d")
    gates = READERS["duo"](paths[0]).matrix()
    np.testing.assert_allclose(gates, getattr(query.reshape(4, 2, 2), reduce)(axis=2), atol=1e-12)
    assert reduce in json.loads(paths[1].read_text())["rh_bench"]


def test_the_strongest_are_listed_first(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    path = write_files(export_run(run, "qrhead", top=3), tmp_path / "three.yaml")[0]
    assert path.name == "three.yaml"
    order = read_qrhead(path).order or ()
    profile = READERS["profile"](write_files(export_run(run, "profile"), tmp_path / "p")[0])
    scores = dict(zip(profile.heads, profile.values or (), strict=True))
    assert [scores[head] for head in order] == sorted(scores.values(), reverse=True)[:3]


def test_a_run_without_a_counted_sample_has_no_head_list(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", n_samples=0)
    with pytest.raises(InputError, match="no sample counts"):
        export_run(run, "seed")


def test_eval_results_are_read_by_the_hubs_own_class(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    with pytest.raises(InputError, match="--dataset"):
        export_run(run, "eval-results")
    text = export_run(run, "eval-results", dataset="org/set").files["org__set.yaml"].decode()
    (entry,) = parse_eval_result_entries(yaml.safe_load(text))
    assert (entry.dataset_id, entry.task_id, entry.verify_token) == ("org/set", "niah", None)
    assert entry.value == pytest.approx(10 / 12)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({**SEED, "1-1": [1.5, 0]}, {"over-one"}),
        ({**SEED, "1-1": [1]}, {"unequal-counts"}),
        ({"0-0": [0, 1], "0-1": [0, 0]}, {"silent-samples"}),
        ({"0-0": [0.5], "1-1": [0.5]}, {"missing-heads"}),
        ({"0-0": [-0.5, 1]}, {"negative"}),
        (SEED, set()),
    ],
)
def test_the_audit_names_what_is_wrong(content: object, expected: set[str], tmp_path: Path) -> None:
    assert codes(put(tmp_path / "x.json", content)) == {"no-model", "no-labels"} | expected


def test_the_audit_of_other_formats(files: dict[str, Path], tmp_path: Path) -> None:
    other = {"no-samples", "other-measure"}
    assert codes(files["profile"]) == codes(files["atlas"]) == other
    assert codes(put(tmp_path / "p.json", {**PROFILE, "argmax_heads": [[1, 1]]})) == other | {"selection-differs"}
    nan = json.dumps({**PROFILE, "elapsed": float("nan")})
    assert codes(put(tmp_path / "n.json", nan)) == other | {"not-json"}
    assert codes(files["duo"]) == {"key-value-heads", "out-of-range"}
    assert codes(files["qrhead"]) == {"no-scores", "no-grid"}
    assert codes(files["pairs"]) == {"no-model", "no-samples"}
    assert codes(put(tmp_path / "few.json", PAIRS[:2])) == {"no-model", "no-samples", "no-grid", "rounded"}
    assert codes(put(tmp_path / "q.yaml", "attn_head_set: full_heads\n")) == {"no-model", "all-heads", "no-grid"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", "[]"), ("b.json", "{}"), ("c.json", '{"x": [1]}'), ("d.json", '{"0-0": ["1"]}'),
        ("e.json", '{"0-0": [true]}'), ("f.json", '{"0-0": [NaN]}'), ("g.json", '{"0-0": [1], "00-0": [1]}'),
        ("h.json", '{"9999-9999": [1]}'), ("i.json", '{"0-0": []}'), ("j.json", '{"0-0": [1], "0-0": [1]}'),
        ("k.json", {**PROFILE, "n_layers": 10**9, "n_heads": 10**9}), ("l.json", {**PROFILE, "n_layers": 3}),
        ("m.json", {**PROFILE, "argmax_heads": [[5, 5]]}), ("n.json", {**PROFILE, "argmax_heads": [[True, 0]]}),
        ("o.json", json.dumps({**PROFILE, "argmax_scores": [[float("nan")] * 2] * 2})),
        ("a.tsv", "1\t2\n3\n"), ("b.tsv", "x\ty\n"), ("c.tsv", "nan\t1\n"), ("d.tsv", ""),
        ("a.yaml", "attn_head_set: 3"), ("b.yaml", "- 1"), ("c.yaml", 'attn_head_set: "1-1,1-1"'),
        ("d.yaml", 'a: &x [1]\nattn_head_set: "1-1"\nb: *x'), ("e.yaml", 'attn_head_set: !!python/name:os.system ""'),
        ("f.yaml", "{[}"), ("g.yaml", 'attn_head_set: "../../x"'), ("x.txt", "1"),
        ("h.yaml", "attn_head_set: all_heads"), ("i.yaml", "attn_head_set: full_heads,1-1"),
        ("1.json", "1"), ("2.json", '"0-0"'), ("3.json", "[[[0, 1]]]"), ("4.json", "[[[0, 1], 0.5, 1]]"),
        ("5.json", "[[[0, 1], true]]"), ("6.json", "[[[true, 1], 0.5]]"), ("7.json", "[[[0, -1], 0.5]]"),
        ("8.json", "[[[0, 1.0], 0.5]]"), ("9.json", "[[[0, 1], NaN]]"), ("10.json", "[[[0, 1], 1e300]]"),
        ("11.json", "[[[0, 1], 0.5], [[0, 1], 0.4]]"), ("12.json", "[[[9999, 9999], 0.5]]"),
        ("13.json", f"[[[{10**30}, 1], 0.5]]"), ("14.json", f"[[[0, 1], {10**30}]]"), ("15.json", "[[[[0, 1]], 0.5]]"),
        ("16.json", "[" * 50 + "]" * 50), ("17.json", "[[0.5, [0, 1]]]"), ("18.json", '[[["0", "1"], 0.5]]'),
        ("19.json", {"model_id": "org/tiny"}), ("20.json", {**ATLAS, "model_id": None}),
        ("21.json", {**ATLAS, "n_heads": 3}), ("22.json", {**ATLAS, "n_heads": True}),
        ("23.json", {**ATLAS, "avg_mass": [[0.1, True], [0, 0]]}), ("24.json", {**ATLAS, "n_layers": 2.0}),
        ("25.json", json.dumps({**ATLAS, "avg_mass": [[float("nan")] * 2] * 2})),
        ("26.json", {**ATLAS, "avg_mass": {}}), ("27.json", {"a/b": ATLAS, "c/d": ATLAS}),
        ("28.json", {**PROFILE, "argmax_heads": [[1, 1], [1, 1]]}),
        ("29.json", {"model_id": "x", "settings": {"a": 1}}),
    ],
)  # fmt: skip
def test_files_of_no_format_are_one_line(
    name: str, content: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(tmp_path / name, content)
    assert main(["import", str(path), "--out", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@given(st.binary(max_size=200), st.sampled_from([".json", ".tsv", ".yaml"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str) -> None:
    path = tmp_path_factory.mktemp("any") / f"x{suffix}"
    path.write_bytes(data)
    try:
        audit_file(path)
    except RhBenchError as error:
        assert "\n" not in str(error)


@pytest.mark.slow
def test_the_commands(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(files["seed"])]) == 1
    assert "no-labels" in capsys.readouterr().out
    assert main(["audit", str(files["seed"]), "--json"]) == 1
    assert {f["code"] for f in json.loads(capsys.readouterr().out)["findings"]} == {"no-model", "no-labels"}
    assert main(["import", str(files["seed"]), "--out", str(tmp_path / "runs"), "--json"]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["folder"])
    assert main(["validate", str(folder)]) == 0
    assert main(["export", str(folder), "--format", "seed", "--out", str(tmp_path / "out.json")]) == 0
    assert json.loads((tmp_path / "out.json").read_text()) == SEED
    assert main(["export", str(folder), "--format", "eee", "--out", str(tmp_path / "e")]) == 2
    assert main(["import", str(files["qrhead"]), "--out", str(tmp_path / "runs")]) == 0
    assert main(["leaderboard", str(tmp_path / "runs"), "--out", str(tmp_path / "site")]) == 0
    assert "not ranked" in capsys.readouterr().out


MASS = {f"{layer}-{head}": [0.0123 * layer + 0.0457 * head + 0.00311, 0.0] for layer in range(3) for head in range(4)}
"""Two numbers a head, as projects that add up attention keep them in the paper's form."""


def test_numbers_that_are_no_copy_rates_are_another_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(tmp_path / "heads.json", MASS)
    assert main(["audit", str(path)]) == 1
    assert "other-measure" in (said := capsys.readouterr().out) and "no copy scores" in " ".join(said.split())
    assert main(["audit", str(path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["measure"] == "unknown"
    document = load_json(import_file(path, tmp_path / "runs") / "import.json")
    assert document["measure"] == "unknown"
    share = document["sparsity"]["share_above_0.1"]
    assert share["value"] is None and "not retrieval scores" in share["reason"]
    assert {"other-measure"} < {finding["code"] for finding in document["findings"]}


def test_an_atlas_is_attention_mass_also_of_a_sweep_or_by_name(files: dict[str, Path], tmp_path: Path) -> None:
    one = import_file(files["atlas"], tmp_path / "runs")
    assert load_json(one / "import.json")["measure"] == "attention"
    keyed = {key: value for key, value in ATLAS.items() if key != "model_id"}
    named = READERS["atlas"](put(tmp_path / "keyed.json", {"org/tiny": keyed}))
    assert (named.model, named.values) == ("org/tiny", read_import(one).values)
    settings = {name: {"avg_mass": [[share, 0.0], [0.0, 2 * share]]} for name, share in (("near", 0.1), ("far", 0.3))}
    path = put(tmp_path / "sweep.json", {"model_id": "org/tiny", "n_layers": 2, "n_heads": 2, "settings": settings})
    sweep = READERS[guess_format(path)](path)
    assert sweep.values == pytest.approx((0.2, 0.0, 0.0, 0.4))
    assert json.loads(export_run(import_file(path, tmp_path / "runs"), "atlas").files["atlas.json"]) == load_json(path)


def test_an_unknown_object_is_called_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in ({"lineage": "llama", "rings": []}, {}, [], [1, 2], "text"):
        assert main(["audit", str(put(tmp_path / "x.json", json.dumps(content)))]) == 2
        assert "unknown format" in capsys.readouterr().err
    with pytest.raises(InputError, match="'x' is not a head"):
        audit_file(put(tmp_path / "y.json", {"0-0": [1], "x": [1]}))


def test_a_list_that_is_no_whole_model_has_no_grid_and_no_share(tmp_path: Path) -> None:
    part = load_json(import_file(put(tmp_path / "part.json", PAIRS[:3]), tmp_path / "runs") / "import.json")
    assert part["grid"] == {"layers": None, "heads_per_layer": None}
    assert part["sparsity"]["share_above_0.1"]["value"] is None
    whole = load_json(import_file(put(tmp_path / "whole.json", PAIRS), tmp_path / "runs") / "import.json")
    assert whole["grid"] == {"layers": 2, "heads_per_layer": 2}
    assert whole["sparsity"]["share_above_0.1"]["value"] == 0.75
    hole = {"0-0": [1], "1-1": [0.5]}
    document = load_json(import_file(put(tmp_path / "hole.json", hole), tmp_path / "runs") / "import.json")
    assert document["sparsity"]["share_above_0.1"]["value"] is None


def test_quantised_variants_have_names_of_their_own(tmp_path: Path) -> None:
    made = {}
    for label in ("tiny", "tiny_bnb4", "tiny_awq4"):
        path = put(tmp_path / f"{label}.json", {**PROFILE, "model": label})
        made[label] = import_file(path, tmp_path / "runs")
    documents = {label: load_json(folder / "import.json")["model"] for label, folder in made.items()}
    assert [documents[label]["id"] for label in made] == ["org/tiny", "org/tiny (bnb4)", "org/tiny (awq4)"]
    assert [documents[label]["quantisation"] for label in made] == [None, "bnb4", "awq4"]
    assert len({folder.parent for folder in made.values()}) == 3
    assert all(check_folder(folder) == [] for folder in made.values())
    again = json.loads(export_run(made["tiny_bnb4"], "profile").files["profile.json"])
    assert again["hf_id"] == "org/tiny", "what is written again is what the file said"
    hub = import_file(
        put(tmp_path / "h.json", {**PROFILE, "hf_id": "org/tiny-AWQ", "model": "t_awq4"}), tmp_path / "runs"
    )
    assert load_json(hub / "import.json")["model"]["id"] == "org/tiny-AWQ"
    mine = import_file(tmp_path / "tiny_bnb4.json", tmp_path / "runs", model="org/other")
    assert load_json(mine / "import.json")["model"]["id"] == "org/other (bnb4)"
    files = [put(tmp_path / f"m{name}.json", SEED) for name in ("", "-4bit", ".Q4_K_M")]
    assert len({import_file(path, tmp_path / "runs").parent.name for path in files}) == 3


def test_the_importer_names_the_model(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["import", "--out", str(tmp_path / "runs"), "--json"]
    assert main([*command, str(files["pairs"]), "--model", "org/mine"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["model"] == {"id": "org/mine", "named_by": "importer", "slug": "org__mine", "quantisation": None}
    assert "named-otherwise" not in {finding["code"] for finding in said["findings"]}
    assert main([*command, str(files["qrhead"]), "--model", "org/mine"]) == 0
    said = json.loads(capsys.readouterr().out)
    otherwise = {finding["code"]: finding["message"] for finding in said["findings"]}["named-otherwise"]
    assert "org/tiny" in otherwise and "org/mine" in otherwise
    for name in ("", " ", "a\nb", " org/x"):
        assert main([*command, str(files["pairs"]), "--model", name]) == 2
        assert "not a valid model name" in capsys.readouterr().err


def test_an_import_cannot_pass_mass_off_as_scores(tmp_path: Path) -> None:
    folder = import_file(put(tmp_path / "heads.json", MASS), tmp_path / "runs", model="org/m")
    document = load_json(folder / "import.json")
    put(folder / "import.json", {**document, "measure": "score"})
    assert "/measure" in {problem.pointer for problem in check_folder(folder)}
    share = {**document["sparsity"]["share_above_0.1"], "value": 0.5}
    put(folder / "import.json", {**document, "sparsity": {**document["sparsity"], "share_above_0.1": share}})
    assert [problem.pointer for problem in check_folder(folder)] == ["/sparsity/share_above_0.1"]


def test_imports_of_the_first_version_are_still_valid(files: dict[str, Path], tmp_path: Path) -> None:
    for format in ("seed", "qrhead", "duo"):
        folder = import_file(files[format], tmp_path / "runs")
        document = load_json(folder / "import.json")
        del document["every_head"], document["model"]["quantisation"]
        put(folder / "import.json", {**document, "schema_version": "1.0"})
        assert check_folder(folder) == []
        assert read_import(folder).measure == document["measure"]


# The released files of other projects, where they are.


def test_the_papers_released_detections(shared_data: Path, tmp_path: Path) -> None:
    scores = shared_data / "seed" / "head_score"
    llama = json.loads((import_file(scores / "llama-2-7b-80k.json", tmp_path) / "import.json").read_text())
    assert llama["counts"] == {"heads": 1024, "selected": None, "samples": 586}
    assert round(llama["sparsity"]["share_above_0.1"]["value"], 3) == 0.032
    assert round(llama["sparsity"]["share_zero"]["value"], 3) == 0.702
    audited = audit_file(scores / "llama-2-7b-80k.json").heads
    by_score = sorted(zip(audited.values or (), audited.heads, strict=True), reverse=True)
    assert [(head, round(score, 2)) for score, head in by_score[:3]] == [
        ((16, 19), 0.94),
        ((11, 15), 0.92),
        ((8, 26), 0.80),
    ]
    qwen = {finding.code: finding.message for finding in audit_file(scores / "Qwen1.5-14B.json").findings}
    assert qwen["over-one"].startswith("268 ")
    assert qwen["silent-samples"].startswith("in 8 of 390 ")
    mixtral = {finding.code: finding.message for finding in audit_file(scores / "Mixtral-8x7B-v0.1.json").findings}
    assert mixtral["over-one"].startswith("19 ") and "silent-samples" not in mixtral


def test_released_files_go_there_and_back(shared_data: Path, tmp_path: Path) -> None:
    duo = shared_data / "duo-attention"
    folder = import_file(duo, tmp_path)
    assert (
        export_run(folder, "duo").files["full_attention_heads.tsv"] == (duo / "full_attention_heads.tsv").read_bytes()
    )
    for path in sorted((shared_data / "seed" / "head_score").glob("*.json")):
        again = json.loads(export_run(import_file(path, tmp_path), "seed").files["heads.json"])
        assert again == json.loads(path.read_text())
    for path in sorted((shared_data / "retmask").glob("*.json")):
        again = json.loads(export_run(import_file(path, tmp_path), "seed").files["heads.json"])
        assert again == json.loads(path.read_text())
    for path in sorted((shared_data / "qrhead").glob("*.yaml")):
        again = yaml.safe_load(export_run(import_file(path, tmp_path), "qrhead").files["heads.yaml"])
        assert again == yaml.safe_load(path.read_text())
    for path in sorted((shared_data / "retrieval-head-profile").glob("*_seed42.json")):
        again = json.loads(export_run(import_file(path, tmp_path), "profile").files["profile.json"])
        whole = json.loads(path.read_text(), parse_constant=lambda text: None)
        assert again == whole


def test_every_released_file_is_read_for_what_it_is(shared_data: Path, tmp_path: Path) -> None:
    wanted = {
        "seed/head_score": "score",
        "retmask": "score",
        "qrhead": "membership",
        "retrieval-head-profile": "argmax",
    }
    found = 0
    for folder, measure in wanted.items():
        for path in sorted((shared_data / folder).iterdir()):
            if path.name.startswith("inheritance"):
                with pytest.raises(InputError, match="unknown format: an object with lineage"):
                    import_file(path, tmp_path)
                continue
            document = load_json(import_file(path, tmp_path) / "import.json")
            assert document["measure"] == measure, path
            assert (document["sparsity"]["share_above_0.1"]["value"] is not None) == (measure == "score")
            found += 1
    assert found >= 10
    assert load_json(import_file(shared_data / "duo-attention", tmp_path) / "import.json")["measure"] == "gate"


def test_means_of_released_detections_are_known_for_copy_scores_and_rounded_ones_are_not(
    shared_data: Path, tmp_path: Path
) -> None:
    for path in sorted((shared_data / "seed" / "head_score").glob("*.json")):
        heads = READERS["seed"](path)
        strongest = sorted(zip(heads.heads, heads.values or (), strict=True), key=lambda pair: -pair[1])
        listed = [[list(head), value] for head, value in strongest]
        whole = READERS["pairs"](put(tmp_path / "whole.json", listed))
        assert (whole.measure, whole.layers, whole.values) == ("score", heads.layers, heads.values)
        top = READERS["pairs"](put(tmp_path / "top.json", listed[:30]))
        assert (top.measure, top.layers) == ("score", None)
        rounded = put(tmp_path / "rounded.json", [[head, round(value, 4)] for head, value in listed])
        assert READERS["pairs"](rounded).measure == "unknown"
        assert {"other-measure"} <= codes(rounded)


def test_full_heads_of_a_released_file_names_no_head(shared_data: Path, tmp_path: Path) -> None:
    (path,) = (shared_data / "qrhead").glob("*_full_head.yaml")
    folder = import_file(path, tmp_path)
    document = load_json(folder / "import.json")
    assert check_folder(folder) == []
    assert (document["every_head"], document["counts"]["heads"], document["counts"]["selected"]) == (True, 0, None)
    assert document["model"]["id"] == "meta-llama/Llama-3.1-70B-Instruct"
    heads = read_import(folder)
    assert heads.every_head and heads.heads == () and heads.selected is None
    for format in ("seed", "pairs", "profile", "atlas"):
        with pytest.raises(InputError):
            export_run(folder, format)
