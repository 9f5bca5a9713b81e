"""A look at the site over HTTP: to this machine alone, with the right types, and nothing besides the site."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from browser import chromium, watched_page
from fake_runs import make_run

from rh_bench.errors import InputError
from rh_bench.leaderboard import build_site
from rh_bench.leaderboard.serve import HOST, address, make_server


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served")
    make_run(root / "runs")
    build_site(root / "runs", root / "site", url="https://example.org")
    (root / "secret.txt").write_text("outside")
    return root / "site"


@pytest.fixture(scope="module")
def port(site: Path) -> Iterator[int]:
    with make_server(site) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


def get(port: int, path: str) -> HTTPResponse:
    connection = HTTPConnection(HOST, port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/index.html?x=1", "text/html; charset=utf-8"),
        ("/assets/site.css", "text/css; charset=utf-8"),
        ("/assets/site.js", "text/javascript; charset=utf-8"),
        ("/assets/icon.svg", "image/svg+xml"),
        ("/feed.xml", "application/xml; charset=utf-8"),
    ],
)
def test_files_have_their_types(port: int, path: str, kind: str) -> None:
    answer = get(port, path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    ["/.build-cache.json", "/%2ebuild-cache.json", "/assets/", "/../secret.txt", "/%2e%2e/secret.txt", "/nothing.html"],
)
def test_nothing_else_is_given_out(site: Path, port: int, path: str) -> None:
    assert (site / ".build-cache.json").is_file() and (site.parent / "secret.txt").is_file()
    assert get(port, path).status == 404


def test_no_other_machine_can_ask(site: Path) -> None:
    with make_server(site) as server:
        assert server.server_address[0] == "127.0.0.1"
        assert address(server) == f"http://127.0.0.1:{server.server_address[1]}/"
        with pytest.raises(InputError, match="cannot listen on port"):
            make_server(site, int(server.server_address[1]))


def test_a_folder_without_a_site_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no index\.html"):
        make_server(tmp_path)


@pytest.mark.browser
def test_the_pages_work_over_http(port: int) -> None:
    with chromium() as browser, watched_page(browser) as watched:
        page = watched.page
        page.goto(f"http://{HOST}:{port}/")
        page.locator("#shown", has_text="1 run").wait_for()
        page.locator("summary", has_text="Download").click()
        with page.expect_download() as found:
            page.locator("[data-download=parquet]").click()
        assert Path(found.value.path()).read_bytes()[:4] == b"PAR1"
        assert watched.complaints == []


@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    make_run(tmp_path / "runs")
    command = [sys.executable, "-m", "rh_bench", "leaderboard", str(tmp_path / "runs"), "--out", str(tmp_path / "site")]
    # A test run in the background ignores this signal, and so would its child.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        process = subprocess.Popen([*command, "--serve"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        assert process.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stderr.readline())
        assert found is not None
        assert get(int(found.group(1)), "/").status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
