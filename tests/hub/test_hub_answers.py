"""A server that answers anything at all, in place of a Hub: one line, whatever is asked, and nothing half done."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_runs import make_run
from hub_fixtures import RESULTS, commands_ask, empty_results, hub, owner, stranger
from hypothesis import given
from hypothesis import strategies as st
from loopback_write import STRANGER, TOKEN, WritableHub

import rh_bench.hub.client as client
from rh_bench.cli.main import main
from rh_bench.errors import InputError
from rh_bench.hub.answers import check_answer, is_api
from rh_bench.hub.download import listed
from rh_bench.hub.pulls import open_pulls
from rh_bench.hub.refs import RepoRef
from rh_bench.submissions.review import Ways, review
from rh_bench.submissions.submit import submit_run

__all__ = ["hub"]
REF = RepoRef(RESULTS)
API = f"/api/datasets/{RESULTS}"
COMMIT = "a" * 40

BAD = (b"[1, 2]", b"{}", b"null", b"", b"<html>Sorry</html>", b'{"a', b"\xff\xfe", b"-1", b'"text"', b"[" * 90_000)
"""Bodies that no request gets as its answer."""


@pytest.fixture
def results(hub: WritableHub, tmp_path: Path) -> WritableHub:
    """A results repository with one run taken in, and an open pull request."""
    empty_results(hub, tmp_path)
    for seed in range(2):
        submit_run(
            make_run(tmp_path / "r", model_id=f"acme/m{seed}", n_samples=12 + seed), RESULTS, access=stranger(hub)
        )
        if seed == 0:
            assert next(review(RESULTS, Ways(merge=True, require="valid"), access=owner(hub))).merged
    hub.requests.clear()
    return hub


COMMANDS: dict[str, tuple[str, Callable[[Path], list[object]]]] = {
    "submit": (STRANGER, lambda root: ["submit", next((root / "new").glob("*/*")), "--repo", RESULTS]),
    "review": (TOKEN, lambda root: ["review", RESULTS, "--merge", "--require", "valid", "--rerun", "2"]),
    "verify": (TOKEN, lambda root: ["verify", f"{RESULTS}#2"]),
    "collect": (TOKEN, lambda root: ["collect", RESULTS, "--out", root / "collected"]),
    "leaderboard": (TOKEN, lambda root: ["leaderboard", RESULTS, "--out", root / "site"]),
    "publish": (TOKEN, lambda root: ["publish", root / "gathered", "--repo", RESULTS, "--tag", "v9"]),
}


def routes(hub: WritableHub) -> list[str]:
    """What was asked of the API, as patterns, each once."""
    asked = {}
    for request in hub.requests:
        path = request.path.partition("?")[0]
        if is_api(path) and "/validate-yaml" not in path and "/tag/" not in path:  # nobody reads these answers
            general = re.sub("[0-9a-f]{40}", "[0-9a-f]{40}", path)
            asked[f"{request.method} {general}$"] = None
    return list(asked)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_whatever_answers_is_one_line(
    results: WritableHub,
    tmp_path: Path,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each request that a command makes is answered with rubbish in its turn."""
    token, words = COMMANDS[command]
    commands_ask(results, monkeypatch, token)
    make_run(tmp_path / "new", model_id="acme/new", seed=7)
    assert main(["collect", RESULTS, "--out", str(tmp_path / "gathered")]) == 0
    results.requests.clear()
    before = copy.deepcopy(results.repos)

    def said(name: str) -> tuple[int, str]:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / name))
        results.repos = copy.deepcopy(before)
        results.large.clear()
        capsys.readouterr()
        status = main([str(word) for word in words(tmp_path)])
        return status, capsys.readouterr().err

    assert said("right")[0] == 0
    asked = routes(results)
    assert len(asked) >= 2
    for place, route in enumerate(asked):
        results.instead = {route: BAD[place % len(BAD)]}
        status, errors = said(f"cache{place}")
        assert status in ((1, 2) if command == "review" else (2,)), (route, errors)
        assert "Traceback" not in errors and errors.count("rh-bench: ") == 1, (route, errors)


PAGE = {"count": 1, "start": 0, "discussions": []}
ONE = {
    "num": 1,
    "title": "t",
    "status": "open",
    "isPullRequest": True,
    "createdAt": "2026-01-01T00:00:00.000Z",
    "author": {"name": "x"},
    "repo": {"name": RESULTS, "type": "dataset"},
}
FILE = {"type": "file", "path": "x", "size": 1, "oid": COMMIT}
LARGE = {"oid": "b" * 64, "size": 1, "pointerSize": 3}


@pytest.mark.parametrize(
    ("path", "document", "words"),
    [
        ("/discussions", PAGE | {"discussions": [ONE | {"num": None}]}, "/discussions/0/num is None"),
        ("/discussions", PAGE | {"discussions": [ONE | {"num": -1}]}, "/discussions/0/num is -1"),
        ("/discussions", PAGE | {"discussions": [ONE | {"num": True}]}, "/discussions/0/num is True"),
        ("/discussions", PAGE | {"discussions": [ONE | {"num": 1.5}]}, "/discussions/0/num is 1.5"),
        ("/discussions", PAGE | {"discussions": [ONE | {"author": "x"}]}, "/discussions/0/author is 'x'"),
        ("/discussions", PAGE | {"discussions": [ONE | {"status": ""}]}, "/discussions/0/status is empty"),
        ("/discussions", PAGE | {"discussions": {}}, "not a list"),
        ("/discussions", PAGE | {"count": 9}, "has no discussions, but says that there are 9"),
        ("/discussions", PAGE | {"count": -9}, "/count is -9"),
        ("/discussions/1", ONE | {"events": [3]}, "/events/0 is 3, not an object"),
        ("/discussions/1", ONE | {"events": []}, "has no changes"),
        ("/tree/main", [FILE | {"size": -1}], "/0/size is -1"),
        ("/tree/main", [FILE | {"size": None}], "a file without a size"),
        ("/tree/main", [FILE | {"oid": "zz"}], "/0/oid is 'zz'"),
        ("/tree/main", [FILE | {"path": 3}], "/0/path is 3"),
        ("/tree/main", [FILE | {"lfs": LARGE | {"size": "1"}}], "/0/lfs/size is '1'"),
        ("/tree/main", {"error": "no"}, "the answer is {'error': 'no'}, not a list"),
        ("/commits/main", [{"id": "main"}], "/0/id is 'main', not a commit"),
        ("/refs", {"branches": [], "tags": [{"name": "v1"}]}, "/tags/0 has no ref"),
        ("", {"id": RESULTS, "sha": None}, "/sha is None"),
        ("/revision/main", {"id": RESULTS, "sha": "../../x"}, "/sha is '../../x'"),
    ],
)
def test_what_is_wrong_is_named(path: str, document: Any, words: str) -> None:
    with pytest.raises(InputError) as error:
        check_answer("GET", API + path, json.dumps(document).encode(), "https://hub")
    text = str(error.value)
    assert text.startswith("https://hub: the server is not a Hub: ") and words in text and "\n" not in text


@pytest.mark.slow
def test_what_a_hub_answers_is_taken(results: WritableHub) -> None:
    assert [pull.num for pull in open_pulls(REF, owner(results))] == [2]
    for path, document in (
        ("/discussions", {"count": 0, "start": 0, "discussions": []}),
        ("/discussions", PAGE | {"discussions": [{k: v for k, v in ONE.items() if k != "author"}], "new": 1}),
        ("/tree/main", [FILE, FILE | {"lfs": LARGE}, {"type": "directory", "path": "d", "oid": COMMIT, "size": 0}]),
    ):
        check_answer("GET", API + path, json.dumps(document).encode(), "")


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*ONE, *FILE, *PAGE]), inner),
    max_leaves=8,
)


@given(
    document=documents, path=st.sampled_from(["", "/tree/x", "/discussions", "/discussions/1", "/commits/x", "/refs"])
)
def test_any_document_is_taken_or_named(document: Any, path: str) -> None:
    try:
        check_answer("GET", API + path, json.dumps(document).encode(), "x")
    except InputError as error:
        assert "\n" not in str(error)


@pytest.mark.slow
def test_a_huge_answer_is_not_read_whole(results: WritableHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rh_bench.hub.door.MOST_ANSWER", 1000)
    results.instead = {"GET .*/tree/": b"[" + b" " * 2000 + b"]"}
    with pytest.raises(InputError, match="the server is not a Hub: it sent more than 1000 bytes"):
        listed(REF, "dataset", "main", owner(results))


@pytest.mark.slow
def test_a_list_without_end_is_not_followed(results: WritableHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_ASKED", 20)
    link = f'<{results.url}{API}/tree/main?again=1>; rel="next"'
    results.links = {"GET .*/tree/": link}
    with pytest.raises(InputError, match="an endless list: 20 pages were read"):
        listed(REF, "dataset", "main", owner(results))
    assert len([request for request in results.requests if "/tree/" in request.path]) == 20


@pytest.mark.slow
def test_a_list_of_too_many_files_is_not_read_to_its_end(results: WritableHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rh_bench.hub.download.MOST_LISTED", 3)
    with pytest.raises(InputError, match="has more than 3 files"):
        listed(REF, "dataset", "main", owner(results))
