"""The Hub module through the real huggingface_hub client, against a Hub on 127.0.0.1."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.utils._validators import validate_repo_id
from hypothesis import given
from hypothesis import strategies as st
from loopback_hub import NO_PROXY, LoopbackHub

from rh_bench.errors import InputError
from rh_bench.hub.models import fetch_model
from rh_bench.hub.refs import RepoRef, parse_repo
from rh_bench.hub.sets import fetch_set

SET_CARD = """---
configs:
- config_name: needles
  data_files: needles/needles.parquet
- config_name: samples
  data_files: samples/samples.parquet
---
# A small set
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A running Hub, and a client that may go online (to it alone: every call names its endpoint)."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("NO_PROXY", NO_PROXY)
    monkeypatch.setenv("no_proxy", NO_PROXY)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    huggingface_hub.close_session()
    with LoopbackHub() as running:
        yield running
    huggingface_hub.close_session()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.fixture
def set_folder(tmp_path: Path) -> Path:
    folder = write(tmp_path / "set", {"README.md": SET_CARD, "manifest.json": "{}", "build_me.py": "raise SystemExit"})
    for name in ("needles", "samples"):
        (folder / name).mkdir()
        pq.write_table(pa.table({"id": [f"{name}-{i}" for i in range(5)]}), folder / name / f"{name}.parquet")
    return folder


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    return write(
        tmp_path / "model",
        {
            "config.json": '{"model_type": "llama"}',
            "tokenizer.json": "{}",
            "tokenizer.model": b"\x00pieces",
            "chat_template.jinja": "{{ messages }}",
            "merges.txt": "a b",
            "model.safetensors": b"weights",
            "consolidated.safetensors": b"the same weights again",
            "original/model.safetensors": b"and again",
            "pytorch_model.bin": b"pickle",
            "training_args.pt": b"pickle",
            "modeling_mine.py": "raise SystemExit",
            "README.md": "# A model",
        },
    )


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def the_line(error: pytest.ExceptionInfo[InputError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# --- names ---


@pytest.mark.parametrize(
    ("text", "repo_id", "revision"),
    [
        ("org/name", "org/name", None),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct", None),
        ("org/name@v1.0", "org/name", "v1.0"),
        ("org/name@refs/pr/3", "org/name", "refs/pr/3"),
        ("o_r.g/n-a.m_e@" + "0a" * 20, "o_r.g/n-a.m_e", "0a" * 20),
    ],
)
def test_names_are_read(text: str, repo_id: str, revision: str | None) -> None:
    ref = parse_repo(text)
    assert ref == RepoRef(repo_id, revision)
    assert str(ref) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "name", "/name", "org/", "org/name/more", "org name/x", "org/name\n", "-org/name", "org/name.", "./name"),
        *("../name", "org/..", "org/a--b", "org/a..b", "org/name.git", "org/" + "n" * 96, "orgé/name"),
        *("org/name@", "org/name@-x", "org/name@a b", "org/name@a..b", "org/name@a/", "org/name@/a", "org/name@a@b"),
        *("org/name@a//b", "org/name@v1\n", "org/name@a.lock", "org/name@.a", "org/name@a/.b"),
        *("https://example.org/org/name", "C:\\models\\x"),
    ],
)
def test_other_names_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as error:
        parse_repo(text)
    assert repr(text) in the_line(error)


almost_names = st.from_regex(r"[a-z_]{1,3}[-._a-z]{0,4}/[-._a-z]{1,6}(@[-./a-z]{0,6})?", fullmatch=True)


@given(st.text(max_size=40) | almost_names)
def test_any_text_is_refused_or_a_name_to_the_client_too(text: str) -> None:
    try:
        ref = parse_repo(text)
    except InputError:
        return
    assert str(ref) == text
    validate_repo_id(ref.repo_id)


# --- downloads ---


def test_a_set_comes_with_its_commit_and_without_its_scripts(
    hub: LoopbackHub, set_folder: Path, tmp_path: Path
) -> None:
    commit = hub.add("datasets", "org/set", set_folder)
    folder, got = fetch_set(RepoRef("org/set"), tmp_path / "cache", endpoint=hub.url)
    assert got == commit
    assert names(folder) == {"README.md", "manifest.json", "needles/needles.parquet", "samples/samples.parquet"}
    assert (folder / "needles/needles.parquet").read_bytes() == (set_folder / "needles/needles.parquet").read_bytes()


def test_a_branch_a_tag_and_a_commit_are_all_resolved(hub: LoopbackHub, set_folder: Path, tmp_path: Path) -> None:
    first = hub.add("datasets", "org/set", set_folder)
    hub.tag("datasets", "org/set", "v1", first)
    write(set_folder, {"manifest.json": '{"later": true}'})
    second = hub.add("datasets", "org/set", set_folder)
    assert first != second
    for revision, commit in {None: second, "main": second, "v1": first, first: first}.items():
        folder, got = fetch_set(RepoRef("org/set", revision), tmp_path / "cache", endpoint=hub.url)
        assert got == commit
        assert json.loads((folder / "manifest.json").read_text()) == ({"later": True} if commit == second else {})


def test_a_dataset_without_a_manifest_is_no_set(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add("datasets", "org/other", write(tmp_path / "other", {"README.md": "# Other"}))
    with pytest.raises(InputError) as error:
        fetch_set(RepoRef("org/other"), tmp_path / "cache", endpoint=hub.url)
    assert "dataset org/other: has no manifest.json" in the_line(error)


def test_a_model_comes_without_pickles_scripts_and_spare_weights(
    hub: LoopbackHub, model_folder: Path, tmp_path: Path
) -> None:
    commit = hub.add("models", "org/model", model_folder)
    folder, got = fetch_model(RepoRef("org/model"), cache_dir=tmp_path / "cache", endpoint=hub.url)
    assert got == commit
    assert names(folder) == {
        *("config.json", "tokenizer.json", "tokenizer.model", "chat_template.jinja", "merges.txt"),
        *("model.safetensors", "README.md"),
    }
    asked = [request.path for request in hub.requests]
    assert [path for path in asked if path.endswith("/model.safetensors")]
    assert not [path for path in asked if path.endswith((".bin", ".pt", ".py"))]


def test_remote_code_comes_only_when_trusted(hub: LoopbackHub, model_folder: Path, tmp_path: Path) -> None:
    hub.add("models", "org/model", model_folder)
    ref = RepoRef("org/model")
    folder, _ = fetch_model(ref, trust_remote_code=True, cache_dir=tmp_path / "cache", endpoint=hub.url)
    assert "modeling_mine.py" in names(folder)


def test_a_model_of_pickles_alone_is_refused(hub: LoopbackHub, model_folder: Path, tmp_path: Path) -> None:
    (model_folder / "model.safetensors").unlink()
    hub.add("models", "org/model", model_folder)
    with pytest.raises(InputError) as error:
        fetch_model(RepoRef("org/model", "main"), cache_dir=tmp_path / "cache", endpoint=hub.url)
    assert "model org/model@main: has no *.safetensors" in the_line(error)
    assert "never pickle" in the_line(error)


def test_an_empty_model_repository_is_refused(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add("models", "org/model", write(tmp_path / "empty", {".gitattributes": ""}))
    with pytest.raises(InputError, match=r"has no \*\.safetensors"):
        fetch_model(RepoRef("org/model"), cache_dir=tmp_path / "cache", endpoint=hub.url)


def test_gguf_weights_are_enough_where_they_are_allowed(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.add("models", "org/gguf", write(tmp_path / "gguf", {"config.json": "{}", "m.Q8_0.gguf": b"GGUF"}))
    ref, cache = RepoRef("org/gguf"), tmp_path / "cache"
    with pytest.raises(InputError, match="gguf:FILE"):
        fetch_model(ref, cache_dir=cache, endpoint=hub.url)
    folder, _ = fetch_model(ref, allow_gguf=True, cache_dir=cache, endpoint=hub.url)
    assert "m.Q8_0.gguf" in names(folder)


def test_missing_shards_are_named(hub: LoopbackHub, model_folder: Path, tmp_path: Path) -> None:
    index = {"weight_map": {f"w{i}": f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)}}
    write(
        model_folder,
        {"model.safetensors.index.json": json.dumps(index), "model-00001-of-00003.safetensors": b"weights"},
    )
    hub.add("models", "org/model", model_folder)
    with pytest.raises(InputError) as error:
        fetch_model(RepoRef("org/model"), cache_dir=tmp_path / "cache", endpoint=hub.url)
    assert "model-00002-of-00003.safetensors is missing, and 1 more" in the_line(error)


@pytest.mark.parametrize("index", ["[]", "{}", "no json", '{"weight_map": 3}'])
def test_a_broken_shard_index_is_refused(hub: LoopbackHub, model_folder: Path, tmp_path: Path, index: str) -> None:
    hub.add("models", "org/model", write(model_folder, {"model.safetensors.index.json": index}))
    with pytest.raises(InputError, match=r"model\.safetensors\.index\.json"):
        fetch_model(RepoRef("org/model"), cache_dir=tmp_path / "cache", endpoint=hub.url)


# --- failures ---


def test_a_wrong_revision_is_named(hub: LoopbackHub, set_folder: Path, tmp_path: Path) -> None:
    hub.add("datasets", "org/set", set_folder)
    for revision in ("v9", "0" * 40):
        with pytest.raises(InputError) as error:
            fetch_set(RepoRef("org/set", revision), tmp_path / "cache", endpoint=hub.url)
        assert f"org/set has no revision '{revision}'" in the_line(error)


@pytest.mark.parametrize("token", [None, "hf_made_up"])
def test_a_missing_repository_is_named(hub: LoopbackHub, tmp_path: Path, token: str | None) -> None:
    with pytest.raises(InputError) as error:
        fetch_model(RepoRef("org/none"), cache_dir=tmp_path / "cache", endpoint=hub.url, token=token)
    assert "the Hub has no model org/none" in the_line(error)


@pytest.mark.parametrize("token", [None, "hf_made_up"])
def test_a_gated_repository_says_to_log_in(
    hub: LoopbackHub, model_folder: Path, tmp_path: Path, token: str | None
) -> None:
    hub.add("models", "org/model", model_folder, gated=True)
    with pytest.raises(InputError) as error:
        fetch_model(RepoRef("org/model"), cache_dir=tmp_path / "cache", endpoint=hub.url, token=token)
    assert "model org/model: is gated" in the_line(error)
    assert "hf auth login" in the_line(error)


def test_a_fault_of_the_hub_is_told_by_its_status(hub: LoopbackHub, set_folder: Path, tmp_path: Path) -> None:
    hub.add("datasets", "org/set", set_folder)
    hub.broken = 403
    with pytest.raises(InputError) as error:
        fetch_set(RepoRef("org/set"), tmp_path / "cache", endpoint=hub.url)
    assert "HTTP status 403" in the_line(error)


def test_something_else_than_a_hub_is_told(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.broken = 200
    for revision in (None, "0" * 40):
        with pytest.raises(InputError) as error:
            fetch_set(RepoRef("org/set", revision), tmp_path / "cache", endpoint=hub.url)
        assert "the server is not a Hub" in the_line(error)


def test_a_hub_that_is_gone_is_told(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.stop()
    with pytest.raises(InputError) as error:
        fetch_set(RepoRef("org/set"), tmp_path / "cache", endpoint=hub.url)
    assert "the Hub cannot be reached" in the_line(error)


def test_offline_without_a_copy_is_told(offline: Callable[[], None], tmp_path: Path) -> None:
    offline()
    with pytest.raises(InputError) as error:
        fetch_set(RepoRef("org/set"), tmp_path / "cache", endpoint="http://127.0.0.1:9")
    assert "HF_HUB_OFFLINE" in the_line(error)


def test_the_cache_serves_when_the_hub_is_gone_or_forbidden(
    hub: LoopbackHub, offline: Callable[[], None], set_folder: Path, tmp_path: Path
) -> None:
    commit = hub.add("datasets", "org/set", set_folder)
    cache = tmp_path / "cache"
    fetched = fetch_set(RepoRef("org/set"), cache, endpoint=hub.url)
    hub.stop()
    assert fetch_set(RepoRef("org/set"), cache, endpoint=hub.url) == fetched
    offline()
    assert fetch_set(RepoRef("org/set"), cache, endpoint=hub.url) == fetched
    assert fetch_set(RepoRef("org/set", commit), cache, endpoint=hub.url) == fetched


def test_a_half_cached_set_is_not_passed_off_as_whole(
    hub: LoopbackHub, offline: Callable[[], None], set_folder: Path, tmp_path: Path
) -> None:
    hub.add("datasets", "org/set", set_folder)
    cache = tmp_path / "cache"
    _, commit = fetch_set(RepoRef("org/set"), cache, endpoint=hub.url)
    (cache / "datasets--org--set" / "snapshots" / commit / "samples/samples.parquet").unlink()
    offline()
    with pytest.raises(InputError) as error:
        fetch_set(RepoRef("org/set"), cache, endpoint=hub.url)
    assert "only partly in the local cache" in the_line(error)


def test_a_set_is_plain_files_and_is_mended(hub: LoopbackHub, set_folder: Path, tmp_path: Path) -> None:
    hub.add("datasets", "org/set", set_folder)
    folder, _ = fetch_set(RepoRef("org/set"), tmp_path, endpoint=hub.url)
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    assert files
    assert not any(path.is_symlink() for path in files)
    files[0].unlink()
    assert fetch_set(RepoRef("org/set"), tmp_path, endpoint=hub.url)[0] == folder
    assert files[0].is_file()


def test_a_cache_that_cannot_be_written_is_told(hub: LoopbackHub, set_folder: Path, tmp_path: Path) -> None:
    hub.add("datasets", "org/set", set_folder)
    cache = tmp_path / "cache"
    cache.write_text("a file where the cache should be")
    with pytest.raises(InputError) as error:
        fetch_set(RepoRef("org/set"), cache, endpoint=hub.url)
    assert "the download failed" in the_line(error)


def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*args: object, **options: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    with pytest.raises(ZeroDivisionError):
        fetch_set(RepoRef("org/set"), tmp_path / "cache")


# --- other people's clients ---


def test_readers_of_parts_get_ranges(hub: LoopbackHub, tmp_path: Path) -> None:
    content = bytes(range(256)) * 40
    hub.add("datasets", "org/set", write(tmp_path / "set", {"data.parquet": content, "notes.txt": content}))
    files = huggingface_hub.HfFileSystem(endpoint=hub.url, skip_instance_cache=True)
    for name in ("data.parquet", "notes.txt"):
        with files.open(f"datasets/org/set/{name}", block_size=100) as file:
            file.seek(5000)
            assert file.read(300) == content[5000:5300]
            file.seek(-10, 2)
            assert file.read() == content[-10:]
    assert [request for request in hub.requests if "Range" in {name.title() for name in request.headers}]


LOAD = """
import json, sys
from datasets import load_dataset
how, *revisions = sys.argv[1:]
for revision in revisions:
    rows = load_dataset("org/set", "needles", split="train", streaming=how == "stream", revision=revision)
    print(json.dumps([row["id"] for row in rows]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stream", "download"])
def test_load_dataset_reads_a_config_at_a_revision(
    hub: LoopbackHub, set_folder: Path, tmp_path: Path, how: str
) -> None:
    commit = hub.add("datasets", "org/set", set_folder)
    pq.write_table(pa.table({"id": ["later"]}), set_folder / "needles/needles.parquet")
    hub.add("datasets", "org/set", set_folder)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, how, commit, "main"],
        env=hub.environment(tmp_path / "home"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[f"needles-{i}" for i in range(5)], ["later"]]
