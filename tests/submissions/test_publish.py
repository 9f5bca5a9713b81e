"""Publishing through the real huggingface_hub client, and reading back with the real `datasets`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import pytest
import yaml
from fake_runs import make_run
from loopback_hub import NO_PROXY, Blob
from loopback_write import TOKEN, WritableHub
from tiny import tiny_checkpoint

from rh_bench.cli.main import main
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.errors import InputError
from rh_bench.hub.client import Access
from rh_bench.hub.refs import RepoRef
from rh_bench.hub.sets import fetch_set
from rh_bench.leaderboard import build_site
from rh_bench.sets.dataset import read_set
from rh_bench.sets.grids import choose_grid
from rh_bench.submissions.publish import publish_folder

REPO = "org/niah"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[WritableHub]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, NO_PROXY)
    huggingface_hub.close_session()
    with WritableHub() as running:
        yield running
    huggingface_hub.close_session()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "set"
    build_set(Recipe(parse_source("synthetic"), choose_grid("quick", "300,400", "0,100"), needle_count=2), folder)
    return folder


def access(hub: WritableHub, waits: list[float] | None = None) -> Access:
    return Access(hub.url, TOKEN, (waits if waits is not None else []).append)


def test_a_set_is_published_and_read_back(hub: WritableHub, made: Path, tmp_path: Path) -> None:
    report = publish_folder(made, REPO, tag="v1", access=access(hub))
    assert set(report.sent) == {"manifest.json", "eval.yaml", *read_set(made).manifest["files"]}
    assert report.removed == ()
    folder, commit = fetch_set(RepoRef(REPO, "v1"), tmp_path, endpoint=hub.url)
    assert commit == report.commit
    assert read_set(folder).manifest_sha256 == read_set(made).manifest_sha256 == report.manifest_sha256
    assert hub.uploads, "tables go to the other origin"


@pytest.mark.slow
def test_a_published_set_is_measured_on_by_name(hub: WritableHub, made: Path, tmp_path: Path) -> None:
    publish_folder(made, REPO, tag="v1", access=access(hub))
    model = tiny_checkpoint(tmp_path / "model")

    def say(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "rh_bench", *arguments, "--device", "cpu", "--json"],
            env=hub.environment(tmp_path / "home"),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    where = ["--haystack", f"{REPO}@v1", "--out", f"{tmp_path}/runs", "--limit", "2"]
    said = json.loads(say("evaluate", str(model), *where))
    haystack = json.loads((Path(said["folder"]) / "run.json").read_text())["haystack"]
    assert (haystack["location"], haystack["revision"]) == (REPO, hub.repo("datasets", REPO).tags["v1"])
    report = json.loads(say("verify", said["folder"], "--model", str(model), "--rerun", "1"))
    assert [level["reached"] for level in report["levels"]] == [True, True, True], report


def test_a_framework_is_named_only_on_request(hub: WritableHub, made: Path) -> None:
    """The Hub checks the name against a list of its own, on which rh_bench does not stand."""

    def published() -> dict[str, Any]:
        repo = hub.repo("datasets", REPO)
        said: dict[str, Any] = yaml.safe_load(repo.commits[repo.branches["main"]]["eval.yaml"].content)
        return said

    publish_folder(made, REPO, access=access(hub))
    assert set(published()) == {"name", "description", "tasks"}
    publish_folder(made, REPO, access=access(hub), evaluation_framework="inspect-ai")
    assert published()["evaluation_framework"] == "inspect-ai"
    with pytest.raises(InputError, match="not a framework name"):
        publish_folder(made, REPO, access=access(hub), evaluation_framework="a: b")


def test_publishing_again_changes_nothing(hub: WritableHub, made: Path) -> None:
    first = publish_folder(made, REPO, tag="v1", access=access(hub))
    uploads, commits = len(hub.uploads), len(hub.repo("datasets", REPO).commits)
    again = publish_folder(made, REPO, tag="v1", access=access(hub))
    assert (again.sent, again.removed, again.commit) == ((), (), first.commit)
    assert (len(hub.uploads), len(hub.repo("datasets", REPO).commits)) == (uploads, commits)


@pytest.mark.slow
def test_a_new_version_is_one_commit_and_old_files_go(hub: WritableHub, made: Path, tmp_path: Path) -> None:
    first = publish_folder(made, REPO, tag="v1", access=access(hub))
    repo = hub.repo("datasets", REPO)
    repo.commit({**repo.commits[repo.branches["main"]], "old/x.parquet": Blob(b"x", lfs=True)})
    other = tmp_path / "other"
    build_set(Recipe(parse_source("synthetic:1"), choose_grid("quick", "300", "0"), needle_count=1), other)
    commits = len(repo.commits)
    second = publish_folder(other, REPO, access=access(hub))
    assert second.removed == ("old/x.parquet",)
    assert len(repo.commits) == commits + 1
    assert ".gitattributes" in repo.commits[repo.branches["main"]]
    assert fetch_set(RepoRef(REPO, "v1"), tmp_path / "cache", endpoint=hub.url)[1] == first.commit
    with pytest.raises(InputError, match=r"'v1' already names"):
        publish_folder(other, REPO, tag="v1", access=access(hub))


def test_a_dry_run_sends_nothing(hub: WritableHub, made: Path) -> None:
    report = publish_folder(made, REPO, dry_run=True, access=access(hub))
    assert "manifest.json" in report.sent
    assert report.commit is None
    assert not hub.repos
    assert all(request.method in ("GET", "HEAD") for request in hub.requests)


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("status", [409, 412, 429, 500, 503, 0])
@pytest.mark.parametrize("where", [r"POST .*/commit/", r"GET .*/tree/"])
def test_what_can_be_done_again_is(hub: WritableHub, made: Path, status: int, where: str) -> None:
    hub.failures = [(where, status)]
    report = publish_folder(made, REPO, access=access(hub))
    assert hub.failures == []
    assert report.commit == hub.repo("datasets", REPO).branches["main"]
    assert len(hub.uploads) == len(set(hub.uploads)), "nothing large is sent twice"


@pytest.mark.slow
def test_another_writer_in_between_loses_nothing(hub: WritableHub, made: Path) -> None:
    publish_folder(made, REPO, access=access(hub))
    repo = hub.repo("datasets", REPO)
    repo.commit({path: blob for path, blob in repo.commits[repo.branches["main"]].items() if path != "README.md"})
    seen = []

    def meddle(running: WritableHub) -> None:
        seen.append(repo.commit({**repo.commits[repo.branches["main"]], "note.txt": Blob(b"hello", lfs=False)}))

    hub.meddle = meddle
    waits: list[float] = []
    report = publish_folder(made, REPO, access=access(hub, waits))
    assert seen and waits == [1.0]
    assert report.removed == ("note.txt",), "looked up anew, and told"


def test_who_may_not_write_is_told(hub: WritableHub, made: Path) -> None:
    for token in ("hf_wrong", False):
        with pytest.raises(InputError, match=r"hf auth login") as caught:
            publish_folder(made, REPO, access=Access(hub.url, token, lambda seconds: None))  # type: ignore[arg-type]
        assert "hf_wrong" not in str(caught.value)
    assert not hub.repos


def test_a_hub_that_stays_broken_is_one_line(hub: WritableHub, made: Path) -> None:
    hub.failures = [(r"POST .*/commit/", 503)] * 50
    waits: list[float] = []
    with pytest.raises(InputError, match="503"):
        publish_folder(made, REPO, access=access(hub, waits))
    assert waits == [1.0, 2.0, 4.0, 8.0]


def test_what_is_not_a_set_is_not_published(hub: WritableHub, made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a haystack set"):
        publish_folder(tmp_path, REPO, access=access(hub))
    for repo, tag in (("org/niah@v1", None), ("niah", None), (REPO, "a b"), (REPO, "../x")):
        with pytest.raises(InputError):
            publish_folder(made, repo, tag=tag, access=access(hub))
    assert not hub.requests


@pytest.mark.slow
def test_load_dataset_reads_it_without_rh_bench(hub: WritableHub, made: Path, tmp_path: Path) -> None:
    publish_folder(made, REPO, tag="v1", access=access(hub))
    code = """
import sys
from datasets import get_dataset_config_names, load_dataset
repo = "org/niah"
print(sorted(get_dataset_config_names(repo)))
samples = load_dataset(repo, "samples", split="test", revision="v1")
print(samples.num_rows, samples.column_names)
print(load_dataset(repo, split="test").num_rows)
print(next(iter(load_dataset(repo, "needles", split="test", streaming=True)))["needle_id"])
import pandas
print(len(pandas.read_parquet(f"hf://datasets/{repo}/needles/needles.parquet")))
import polars
print(len(polars.read_parquet(f"hf://datasets/{repo}/needles/needles.parquet", use_pyarrow=True)))
assert not any(name.startswith("rh_bench") for name in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=hub.environment(tmp_path), capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert lines[0] == "['haystacks', 'needles', 'samples']"
    assert lines[1].startswith("8 ['sample_id'")
    assert lines[2] == "8"
    assert lines[3] == read_set(made).needles[0].needle_id
    assert lines[4] == lines[5] == "2"


def test_the_command(
    hub: WritableHub, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert main(["publish", str(made), "--repo", REPO, "--dry-run"]) == 0
    assert "would send: manifest.json" in capsys.readouterr().out
    assert main(["publish", str(made), "--repo", REPO, "--tag", "v1", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["tag"] == "v1"
    assert TOKEN not in said.out + said.err
    assert main(["publish", str(made), "--repo", REPO]) == 0
    assert "nothing to send" in capsys.readouterr().out


# A site, as a static Space

SPACE = "org/heads"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("site")
    make_run(root / "runs")
    build_site(root / "runs", root / "site")
    return root / "site"


def test_a_site_is_published_as_a_static_space(hub: WritableHub, site: Path) -> None:
    report = publish_folder(site, SPACE, access=access(hub))
    assert report.address == f"{hub.url}/spaces/{SPACE}"
    repo = hub.repo("spaces", SPACE)
    tree = repo.commits[repo.branches["main"]]
    files = {path.relative_to(site).as_posix(): path.read_bytes() for path in site.rglob("*") if path.is_file()}
    assert files.pop(".build-cache.json")
    assert {name: tree[name].content for name in files} == files
    assert set(tree) - set(files) == {"README.md", ".gitattributes"}
    _, head, _ = tree["README.md"].content.decode().split("---", 2)
    card = yaml.safe_load(head)
    assert (card["sdk"], card["app_file"]) == ("static", "index.html")
    assert len(card["short_description"]) <= 60


def test_a_site_is_brought_up_to_date(hub: WritableHub, site: Path, tmp_path: Path) -> None:
    publish_folder(site, SPACE, access=access(hub))
    again = publish_folder(site, SPACE, tag="v1", access=access(hub))
    assert (again.sent, again.removed, again.tag) == ((), (), "v1")
    (tmp_path / "runs").mkdir()
    build_site(tmp_path / "runs", tmp_path / "site")
    report = publish_folder(tmp_path / "site", SPACE, dry_run=True, access=access(hub))
    assert "index.html" in report.sent and any(name.startswith("models/") for name in report.removed)


def test_a_space_with_a_program_is_left_alone(hub: WritableHub, site: Path) -> None:
    publish_folder(site, SPACE, access=access(hub))
    repo = hub.repo("spaces", SPACE)
    head = repo.commit({**repo.commits[repo.branches["main"]], "app.py": Blob(b"import gradio", lfs=False)})
    with pytest.raises(InputError, match=r"contains app\.py"):
        publish_folder(site, SPACE, access=access(hub))
    assert repo.branches["main"] == head


def test_pages_of_others_and_strange_files_are_not_published(hub: WritableHub, site: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>my homepage</p>")
    with pytest.raises(InputError, match="contains pages rh-bench did not make"):
        publish_folder(tmp_path, SPACE, access=access(hub))
    (tmp_path / "index.html").write_bytes((site / "index.html").read_bytes())
    (tmp_path / "run.sh").write_text("echo")
    with pytest.raises(InputError, match=r"contains run\.sh"):
        publish_folder(tmp_path, SPACE, access=access(hub))
    (tmp_path / "run.sh").unlink()
    (tmp_path / "key.txt").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match="symbolic link"):
        publish_folder(tmp_path, SPACE, access=access(hub))
    assert not hub.repos
