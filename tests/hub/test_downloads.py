"""What a submission may make a reviewer download: known from lists before anything is fetched, and cut off beyond."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import pytest
from fake_runs import make_run
from hub_fixtures import RESULTS, command, commands_ask, empty_results, hub, owner, stranger
from loopback_hub import Blob
from loopback_write import TOKEN, WritableHub
from review_answers import levels

from rh_bench.cli.main import main
from rh_bench.errors import InputError
from rh_bench.hub.download import allowing, size_text
from rh_bench.hub.models import fetch_config, fetch_model
from rh_bench.hub.pulls import download
from rh_bench.hub.refs import RepoRef
from rh_bench.hub.sets import fetch_set
from rh_bench.hub.write import list_files
from rh_bench.submissions.review import Ways, review
from rh_bench.submissions.submit import submit_run

__all__ = ["hub"]
REF = RepoRef("org/model")
WEIGHTS = b"w" * 5000


@pytest.fixture
def model(hub: WritableHub, tmp_path: Path) -> WritableHub:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in {
        "config.json": b"{}",
        "model.safetensors": WEIGHTS,
        "pytorch_model.bin": b"p" * 100_000,
        "README.md": b"# A",
    }.items():
        (folder / name).write_bytes(content)
    hub.add("models", REF.repo_id, folder)
    return hub


def fetched(hub: WritableHub, tmp_path: Path, most: int | None) -> Path:
    with allowing(most):
        return fetch_model(REF, cache_dir=tmp_path / "cache", endpoint=hub.url)[0]


def contents(hub: WritableHub) -> list[str]:
    return [request.path for request in hub.requests if "/resolve/" in request.path or "/lfs/" in request.path]


def test_what_is_too_much_is_not_begun(model: WritableHub, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        fetched(model, tmp_path, 5000)
    assert "model org/model: takes more than the 4.9 KiB that may be downloaded: 4.9 KiB" in str(error.value)
    assert "--most-download" in str(error.value) and contents(model) == []


def test_only_what_is_fetched_counts(model: WritableHub, tmp_path: Path) -> None:
    assert (fetched(model, tmp_path, 6000) / "model.safetensors").read_bytes() == WEIGHTS
    assert (fetched(model, tmp_path / "b", None) / "config.json").is_file()


def test_too_many_files(model: WritableHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rh_bench.hub.download.MOST_FILES", 2)
    with pytest.raises(InputError, match="takes more than the 2 files that may be downloaded: 3"):
        fetched(model, tmp_path, 1 << 30)
    assert contents(model) == []
    assert fetched(model, tmp_path, None).is_dir(), "no cap for what one chose oneself"


def test_more_than_was_announced_is_cut_off(
    model: WritableHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of files says one size, and the server sends another."""
    monkeypatch.setattr("rh_bench.hub.download._SLACK", 100)
    model.instead = {"GET /lfs/": b"x" * 400_000}
    with pytest.raises(InputError, match="takes more than the .* bytes that it announced"):
        fetched(model, tmp_path, 1 << 30)
    assert sum(path.startswith("/lfs/") for path in contents(model)) == 1, "and not tried again"


def test_a_single_file_is_held_to_it_too(model: WritableHub, monkeypatch: pytest.MonkeyPatch) -> None:
    commands_ask(model, monkeypatch)
    with allowing(1), pytest.raises(InputError, match="takes more than the 1 bytes"):
        fetch_config(RepoRef(REF.repo_id, None))


def test_what_is_cached_is_used_where_the_hub_is_gone(model: WritableHub, tmp_path: Path) -> None:
    first = fetched(model, tmp_path, 6000)
    model.stop()
    huggingface_hub.close_session()
    assert fetched(model, tmp_path, 6000) == first
    with pytest.raises(InputError, match="cannot be reached"):
        fetched(model, tmp_path / "other", 6000)


def test_a_set(hub: WritableHub, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    (folder / "huge.parquet").write_bytes(WEIGHTS)
    hub.add("datasets", "org/set", folder)
    with allowing(100), pytest.raises(InputError, match="dataset org/set: takes more than"):
        fetch_set(RepoRef("org/set"), tmp_path / "cache", endpoint=hub.url)
    assert contents(hub) == []


@pytest.mark.slow
def test_a_pull_request_that_sends_other_than_it_lists(hub: WritableHub, tmp_path: Path) -> None:
    empty_results(hub, tmp_path)
    submit_run(make_run(tmp_path / "runs"), RESULTS, access=stranger(hub))
    for content, words in ((b"x" * 400_000, "takes more than"), (b"x" * 1450, "than it lists"), (b"", "than it lists")):
        hub.instead = {"GET /lfs/": content}
        (found,) = review(RESULTS, Ways(merge=True, require="valid"), access=owner(hub))
        assert found.problems and not found.merged, words
    hub.instead = {}
    (found,) = review(RESULTS, Ways(merge=True, require="valid"), access=owner(hub))
    assert found.merged


def test_a_truncated_file_is_not_taken_for_the_whole(
    hub: WritableHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server closes the connection in the middle: asked for again, and never less than all of it."""
    empty_results(hub, tmp_path)
    submit_run(make_run(tmp_path / "runs"), RESULTS, access=stranger(hub))
    commit = hub.repo("datasets", RESULTS).branches["refs/pr/1"]
    ref, access = RepoRef(RESULTS), owner(hub)
    files = list(list_files(ref, commit, access).values())
    hub.cut = [("GET /lfs/", 700), ("GET .*/resolve/.*run.json", 50), ("GET .*/resolve/.*summary.json", 0)]
    download(ref, commit, files, tmp_path / "got", access)
    for file in files:
        assert (tmp_path / "got" / file.path).stat().st_size == file.bytes
    assert hub.cut == []
    hub.cut = [("GET /lfs/", 700)] * 40
    with pytest.raises(InputError, match="was lost"):
        download(ref, commit, files, tmp_path / "again", access)


@pytest.mark.slow
def test_set_aside_by_the_command(
    hub: WritableHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that names a model of a size that the reviewer does not allow: recorded, and judged with a higher limit."""
    empty_results(hub, tmp_path)
    submit_run(make_run(tmp_path / "runs"), RESULTS, access=stranger(hub))
    commands_ask(hub, monkeypatch)
    asked = []

    def verify(folder: Path, evidence: object, limits: object) -> object:
        asked.append(evidence)
        reason = "could not be tried here: model org/model: takes more than the 1.0 KiB that may be downloaded: 4.9 KiB"
        little = evidence.most_download == 1024  # type: ignore[attr-defined]
        found = levels(True, None, None, reason=reason, exceeded="download") if little else levels(True, True, True)
        return found(folder, evidence)  # type: ignore[arg-type]

    monkeypatch.setattr("rh_bench.submissions.review.verify_apart", verify)
    assert main(["review", RESULTS, "--merge", "--rerun", "2", "--most-download", "1KiB"]) == 1
    assert "set aside" in capsys.readouterr().out
    assert main(["review", RESULTS, "--merge", "--rerun", "2"]) == 1 and len(asked) == 1
    assert main(["review", RESULTS, "--merge", "--rerun", "2", "--again", "--most-download", "1GB"]) == 0
    assert asked[0].salt == asked[1].salt and asked[1].most_download == 10**9  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_command(model: WritableHub, tmp_path: Path) -> None:
    """In the process of its own."""
    repo = model.repo("models", REF.repo_id)
    run = make_run(tmp_path / "runs", model_id=REF.repo_id)
    revision = json.loads((run / "run.json").read_text())["model"]["revision"]
    repo.commits[revision] = {"config.json": Blob(b"{" + b" " * 2000 + b"}", lfs=False)}
    status, said, errors = command(model, tmp_path / "home", "verify", run, "--most-download", "1 KiB", token=TOKEN)
    assert status == 0 and "takes more than the 1.0 KiB that may be downloaded" in said, (said, errors)
    status, said, errors = command(model, tmp_path / "home", "verify", run, "--most-download", "much")
    assert status == 2 and "is not a size; write it like 64GiB" in errors and len(errors.strip().splitlines()) == 1


def test_sizes() -> None:
    assert [size_text(n) for n in (5, 1024, 3 << 19, 64 << 30, 1 << 41)] == [
        "5 bytes",
        "1.0 KiB",
        "1.5 MiB",
        "64.0 GiB",
        "2.0 TiB",
    ]
