"""Haystack sources: what they are called, what they refuse, and how much text they give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loopback_hub import LoopbackHub

from rh_bench.data_builders.sources import parse_source, read_source
from rh_bench.errors import InputError


def test_sources_are_read_from_their_names(tmp_path: Path) -> None:
    assert parse_source("synthetic").seed == 0
    assert parse_source("synthetic:12").seed == 12
    folder = parse_source(f"folder:{tmp_path / 'my essays'}")
    assert (folder.kind, folder.id) == ("folder", "my-essays")
    hub = parse_source("hub:org/books@v1#en/validation:body")
    assert (hub.repo, hub.revision, hub.config, hub.split, hub.column) == (
        "org/books", "v1", "en", "validation", "body"
    )  # fmt: skip
    assert parse_source("hub:org/books@main").id == "org/books#default/train:text"


@pytest.mark.parametrize(
    "text", ["", "synth", "synthetic:", "synthetic:x", "synthetic:-1", "folder:", "hub:org/books", "hub:", "web:x"]
)
def test_other_sources_are_refused(text: str) -> None:
    if text == "synthetic:":
        assert parse_source(text).seed == 0
        return
    with pytest.raises(InputError, match="--source"):
        parse_source(text)


def test_synthetic_haystacks_differ_and_are_long_enough() -> None:
    texts = read_source(parse_source("synthetic"), 3, 1000).texts
    assert len(set(texts)) == 3 and all(len(text) >= 6000 for text in texts)
    assert read_source(parse_source("synthetic:1"), 1, 1000).texts[0] not in texts


def folder_of(tmp_path: Path, **files: bytes) -> str:
    folder = tmp_path / "texts"
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / f"{name}.txt").write_bytes(data)
    return f"folder:{folder}"


def test_a_folder_is_cut_into_whole_documents(tmp_path: Path) -> None:
    source = parse_source(folder_of(tmp_path, a=b"a" * 500, b=b"b" * 500, c=b"c" * 500))
    assert read_source(source, 9, 50).texts == ("a" * 500, "b" * 500, "c" * 500)
    assert read_source(source, 2, 100).texts == ("a" * 500 + "\n\n" + "b" * 500,)
    assert read_source(source, 1, 300).texts == ("\n\n".join(x * 500 for x in "abc"),)


def test_line_ends_and_byte_order_marks_do_not_matter(tmp_path: Path) -> None:
    source = parse_source(folder_of(tmp_path, a=b"\xef\xbb\xbfone\r\ntwo\rthree\n" + b"x" * 100))
    assert read_source(source, 1, 5).texts[0].startswith("one\ntwo\nthree\nx")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no \\*.txt files"),
        ({"a": b""}, "has 0 characters"),
        ({"a": b"short"}, "has 5 characters of text; a length of 100 tokens needs at least 400"),
        ({"a": b"\xff\xfe\x00" * 500}, "not UTF-8"),
        ({"a": b"x\0" * 500}, "NUL"),
    ],
)
def test_a_folder_without_enough_text_is_refused(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_source(parse_source(folder_of(tmp_path, **files)), 1, 100)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_source(parse_source(f"folder:{tmp_path / 'nowhere'}"), 1, 100)


BUILD = "import sys; from rh_bench.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def hub(tmp_path: Path) -> LoopbackHub:
    rows = tmp_path / "repo" / "data"
    rows.mkdir(parents=True)
    texts = [f"Document {i} tells of many things. " * 60 for i in range(6)]
    pq.write_table(pa.table({"body": texts, "number": list(range(6))}), rows / "train-00000-of-00001.parquet")
    with LoopbackHub() as server:
        server.add("datasets", "org/books", tmp_path / "repo")
        yield server


def build(hub: LoopbackHub, tmp_path: Path, source: str) -> subprocess.CompletedProcess[str]:
    command = ["build", "--source", source, "--lengths", "300,600", "--out", str(tmp_path / "set"), "--json"]
    return subprocess.run(
        [sys.executable, "-c", BUILD, *command],
        env=hub.environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_a_column_of_a_hub_dataset_is_streamed_at_a_commit(hub: LoopbackHub, tmp_path: Path) -> None:
    done = build(hub, tmp_path, "hub:org/books@main#default/train:body")
    assert done.returncode == 0, done.stderr
    commit = hub.repo("datasets", "org/books").branches["main"]
    text = pq.read_table(tmp_path / "set" / "haystacks" / "haystacks.parquet").to_pylist()[0]
    assert text["text"].startswith("Document 0 tells") and text["licence"] == "unknown"
    assert f'"revision": "{commit}"' in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("hub:org/books@main#default/train:text", "there is no column 'text'"),
        ("hub:org/books@main#default/train:number", "does not contain text"),
        ("hub:org/books@v9#default/train:body", "no revision 'v9'"),
        ("hub:org/nothing@main", "no dataset org/nothing"),
        ("hub:org/books@main#default/other:body", "cannot be streamed"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(hub: LoopbackHub, tmp_path: Path, source: str, said: str) -> None:
    done = build(hub, tmp_path, source)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "set").exists()
