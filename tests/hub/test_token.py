"""Nobody's token is printed, logged or written down, whatever is asked and whatever goes wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fake_runs import make_run
from hub_fixtures import RESULTS, empty_results, hub
from loopback_write import STRANGER, TOKEN, WritableHub

__all__ = ["hub"]
LOUD = {"HF_DEBUG": "1", "HF_HUB_VERBOSITY": "debug", "TRANSFORMERS_VERBOSITY": "debug", "COLUMNS": "200"}
"""Everything that the libraries can say."""
HEADER = "authorization"


@pytest.mark.slow
def test_no_token_in_anything_said_or_written(hub: WritableHub, tmp_path: Path) -> None:
    empty_results(hub, tmp_path)
    run = make_run(tmp_path / "runs")
    heard = []

    def say(token: str, *arguments: object, failures: tuple[tuple[str, int], ...] = (), status: int = 0) -> None:
        hub.failures = list(failures)
        done = subprocess.run(
            [sys.executable, "-m", "rh_bench", *map(str, arguments)],
            env=hub.environment(tmp_path / "home") | LOUD | {"HF_TOKEN": token},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == status, (arguments, done.stderr[-2000:])
        heard.append(done.stdout + done.stderr)

    say(STRANGER, "submit", run, "--repo", RESULTS, "--dry-run")
    say(STRANGER, "submit", run, "--repo", RESULTS, failures=((r"POST .*/commit/", 403),), status=2)
    say(STRANGER, "submit", run, "--repo", RESULTS, failures=((r"PUT /upload/", 0), (r"POST .*/commit/", 0)))
    say(TOKEN, "verify", f"{RESULTS}#1", "--report", tmp_path / "report.md")
    say(TOKEN, "review", RESULTS, "--merge", "--require", "valid", "--json")
    say(TOKEN, "collect", RESULTS, "--out", tmp_path / "results")
    say(TOKEN, "publish", tmp_path / "results", "--repo", RESULTS, "--tag", "v1")
    say("hf_" + "x" * 34, "publish", tmp_path / "results", "--repo", "org/other", status=2)

    shown = {value for request in hub.requests for name, value in request.headers.items() if name.lower() == HEADER}
    assert {f"Bearer {TOKEN}", f"Bearer {STRANGER}"} <= shown, "the tokens were used"
    assert any(HEADER in text.lower() for text in heard), "the libraries logged their requests"
    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    on_the_hub = [
        blob.content for repo in hub.repos.values() for tree in repo.commits.values() for blob in tree.values()
    ]
    told = [str(pull.events).encode() for repo in hub.repos.values() for pull in repo.pulls.values()]
    for token in (TOKEN, STRANGER, "x" * 34):
        assert not [text for text in heard if token in text]
        assert not [path for path, data in written.items() if token.encode() in data]
        assert not any(token.encode() in data for data in on_the_hub + told)
