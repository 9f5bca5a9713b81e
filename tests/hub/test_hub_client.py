"""How often a request is sent, through the unmodified client: five times in all, whatever it asks for and fails by."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
from fake_runs import make_run
from hub_fixtures import RESULTS, empty_results, hub, owner, stranger
from huggingface_hub.utils import http_backoff
from loopback_write import WritableHub

import rh_bench.hub.client as client
from rh_bench.errors import InputError
from rh_bench.hub.client import TRIES, Access, again
from rh_bench.hub.download import repo_commit
from rh_bench.hub.pulls import add_to_main, comment, head_commit, open_pulls, own_comments, user_name
from rh_bench.hub.refs import RepoRef
from rh_bench.hub.sets import fetch_set
from rh_bench.hub.write import list_files
from rh_bench.submissions.submit import submit_run

__all__ = ["hub"]
REF = RepoRef(RESULTS)
BODY = b"needle " * 1000


@pytest.fixture
def results(hub: WritableHub, tmp_path: Path) -> WritableHub:
    empty_results(hub, tmp_path)
    submit_run(make_run(tmp_path / "runs"), RESULTS, access=stranger(hub))
    hub.requests.clear()
    return hub


def asked(hub: WritableHub, pattern: str) -> int:
    import re

    return sum(re.search(pattern, f"{request.method} {request.path}") is not None for request in hub.requests)


Action = Callable[[Access], object]
ACTIONS: dict[str, Action] = {
    "GET .*/tree/": lambda access: list_files(REF, "main", access),
    "GET .*/commits/main": lambda access: head_commit(REF, "main", access),
    "GET .*/discussions": lambda access: open_pulls(REF, access),
    "GET .*/discussions/1": lambda access: own_comments(REF, open_pulls(REF, access)[0], "owner", access),
    "GET .*/whoami": user_name,
    "POST .*/discussions/1/comment": lambda access: comment(REF, open_pulls(REF, access)[0], "hello", access),
    "POST .*/preupload/": lambda access: add_to_main(REF, {"x.parquet": b"x"}, "x", "", access),
    "POST .*/lfs/objects/batch": lambda access: add_to_main(REF, {"x.parquet": b"x"}, "x", "", access),
    "PUT /upload/": lambda access: add_to_main(REF, {"x.parquet": b"x"}, "x", "", access),
    "POST .*/commit/main": lambda access: add_to_main(REF, {"x.txt": b"x"}, "x", "", access),
}


@pytest.mark.slow_but_first(4)
@pytest.mark.parametrize("status", [429, 503, 0])
@pytest.mark.parametrize("where", ACTIONS)
def test_a_request_is_sent_five_times_in_all(results: WritableHub, where: str, status: int) -> None:
    results.failures = [(f"{where}($|[^/0-9])" if where.endswith("s") else where, status)] * 40
    waits: list[float] = []
    with pytest.raises(InputError) as error:
        ACTIONS[where](owner(results, waits))
    assert asked(results, where) - asked(results, where + "/[0-9]") * where.endswith("s") == TRIES, str(error.value)
    assert waits == [1.0, 2.0, 4.0, 8.0]
    assert "\n" not in str(error.value)


@pytest.mark.slow_but_first(4)
@pytest.mark.parametrize("status", [429, 503, 0])
@pytest.mark.parametrize("where", ["GET .*/api/datasets/org/results/revision", "HEAD .*/resolve/", "GET .*/resolve/"])
def test_so_is_a_download(
    results: WritableHub, tmp_path: Path, where: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(client.time, "sleep", waits.append)
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    results.add("datasets", RESULTS, folder)
    results.failures = [(where, status)] * 40
    with pytest.raises(InputError) as error:
        fetch_set(RepoRef(RESULTS, "main"), tmp_path / "cache", endpoint=results.url)
    assert asked(results, where) == TRIES and "\n" not in str(error.value)
    assert [seconds for seconds in waits if seconds] == [1.0, 2.0, 4.0, 8.0]


def test_what_succeeds_at_last_is_no_failure(results: WritableHub) -> None:
    waits: list[float] = []
    results.failures = [("GET .*/commits/main", status) for status in (503, 0, 429, 408)]
    assert head_commit(REF, "main", owner(results, waits)) == results.repo("datasets", RESULTS).branches["main"]
    assert waits == [1.0, 2.0, 4.0, 8.0]


def test_what_cannot_be_helped_is_asked_once(results: WritableHub) -> None:
    waits: list[float] = []
    results.failures = [("GET .*/commits/main", 403)] * 9
    with pytest.raises(InputError, match="HTTP status 403"):
        head_commit(REF, "main", owner(results, waits))
    assert waits == [] and asked(results, "GET .*/commits/main") == 1


def test_an_answer_that_is_cut_is_asked_for_again(results: WritableHub) -> None:
    results.cut = [("GET .*/commits/main", 20)]
    assert head_commit(REF, "main", owner(results)) == results.repo("datasets", RESULTS).branches["main"]
    results.cut = [("GET .*/commits/main", 20)] * 40
    with pytest.raises(InputError, match="was lost"):
        head_commit(REF, "main", owner(results))


def test_a_cut_download_goes_on_where_it_was(hub: WritableHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 400)
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    (folder / "large.parquet").write_bytes(BODY)
    hub.add("datasets", "org/set", folder)
    hub.cut = [("GET /lfs/", 900)] * 6
    got, _ = fetch_set(RepoRef("org/set"), tmp_path / "cache", endpoint=hub.url)
    assert (got / "large.parquet").read_bytes() == BODY, "more breaks than tries, and each time it has got on"
    ranges = [value for request in hub.requests for name, value in request.headers.items() if name.lower() == "range"]
    assert ranges == [f"bytes={800 * n}-" for n in range(1, 7)]


def test_the_rest_of_a_file_is_asked_for_as_often_as_anything(
    hub: WritableHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(client.time, "sleep", waits.append)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 400)
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    (folder / "large.parquet").write_bytes(BODY)
    hub.add("datasets", "org/set", folder)

    def cut(hub: WritableHub) -> None:
        hub.cut = [("GET /lfs/", 900)]
        fails = iter([None, 503, 0, 429, 503] + [0] * 40)
        before = hub.before

        def failing(method: str, path: str) -> None:
            if path.startswith("/lfs/") and (status := next(fails)) is not None:
                hub.failures.append(("GET /lfs/", status))
            before(method, path)

        monkeypatch.setattr(hub, "before", failing)

    cut(hub)
    with pytest.raises(InputError, match="could not be resumed"):
        fetch_set(RepoRef("org/set"), tmp_path / "cache", endpoint=hub.url)
    assert asked(hub, "GET /lfs/") == 1 + TRIES


def test_a_download_that_does_not_get_on_is_given_up(
    hub: WritableHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.time, "sleep", lambda seconds: None)
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    (folder / "large.parquet").write_bytes(BODY)
    hub.add("datasets", "org/set", folder)
    hub.cut = [("GET /lfs/", 0)] * 60
    with pytest.raises(InputError, match="was lost"):
        fetch_set(RepoRef("org/set"), tmp_path / "cache", endpoint=hub.url)
    assert asked(hub, "GET /lfs/") == TRIES


def test_nobody_else_is_touched(results: WritableHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of what we ask, the client library does as it always did: sends a request again by itself."""
    list_files(REF, "main", owner(results))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    results.failures = [("GET .*/tree/", 503)] * 5
    answer = http_backoff("GET", f"{results.url}/api/datasets/{RESULTS}/tree/main")
    assert [file["path"] for file in answer.json()] == ["README.md"] and results.failures == []
    results.instead = {"GET .*/tree/": b"[1, 2]"}
    assert http_backoff("GET", f"{results.url}/api/datasets/{RESULTS}/tree/main").json() == [1, 2]


def test_faults_of_ours_are_not_tried_again() -> None:
    tried = []

    def broken() -> None:
        tried.append(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        again(broken, Access())
    assert tried == [1]


def test_a_hub_that_hangs_is_not_waited_for_without_end(results: WritableHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rh_bench.hub.door._PATIENCE", {"connect": 1.0, "read": 0.1, "write": 1.0, "pool": 1.0})
    results.slow = 0.4
    with pytest.raises(InputError, match="ReadTimeout"):
        user_name(owner(results))
    results.slow = 0.0


def test_what_the_user_forbids_is_said_at_once(results: WritableHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    waits: list[float] = []
    with pytest.raises(InputError, match="HF_HUB_OFFLINE forbids"):
        repo_commit(REF, "dataset", endpoint=results.url)
    assert waits == [] and results.requests == []


def test_the_client_library_is_not_imported_until_it_is_asked() -> None:
    code = "import sys, rh_bench.hub.download, rh_bench.hub.client; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
