"""What tests of reviewing share: made-up findings of the levels, and what a results repository then holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fake_runs import run_id_of
from hub_fixtures import RESULTS
from loopback_hub import Blob
from loopback_write import WritableHub

import rh_bench.submissions.review as reviewing
from rh_bench.artifacts.levels import Evidence, Level, Verification
from rh_bench.artifacts.run import read_run, run_folder, write_run
from rh_bench.artifacts.tables import SCHEMAS
from rh_bench.records import SampleResult
from rh_bench.system.files import sha256_file
from rh_bench.system.schema import dump_json, validate_document
from rh_bench.verification.sandbox import Examined


def main_tree(hub: WritableHub) -> dict[str, Blob]:
    repo = hub.repo("datasets", RESULTS)
    return repo.commits[repo.branches["main"]]


def records(hub: WritableHub) -> list[Any]:
    found = [
        json.loads(blob.content) for path, blob in sorted(main_tree(hub).items()) if path.startswith("judgements/")
    ]
    assert all(validate_document(document, "judgement") == [] for document in found)
    return found


def answering(monkeypatch: pytest.MonkeyPatch, answer: Callable[[Path, Evidence], Examined]) -> list[Evidence]:
    """What a process of its own would find, and with what it was asked."""
    asked: list[Evidence] = []

    def verify(folder: Path, evidence: Evidence, limits: object) -> Examined:
        asked.append(evidence)
        return answer(folder, evidence)

    monkeypatch.setattr(reviewing, "verify_apart", verify)
    return asked


def levels(
    *reached: bool | None, reason: str = "said so", exceeded: str | None = None
) -> Callable[[Path, Evidence], Examined]:
    """Args: exceeded: by the levels that were not reached."""

    def answer(folder: Path, evidence: Evidence) -> Examined:
        found = zip(("valid", "recomputed", "rerun"), reached, strict=True)
        said = tuple(Level(name, one, (reason,), None if one else exceeded) for name, one in found)
        return Examined(Verification(folder, said), None)

    return answer


def written_anew(run: Path, root: Path, change: Callable[[SampleResult], SampleResult], **model: object) -> Path:
    """A valid run with another's results, by a pyarrow that orders, encodes and compresses otherwise."""
    old = read_run(run)
    document = dict(old.document) | {"model": old.document["model"] | model}
    document["protocol"] = document["protocol"] | {"max_new_tokens": 51}
    document["run_id"] = run_id_of(document)
    folder = run_folder(root, document["model"]["slug"], document["run_id"])
    folder.mkdir(parents=True)
    write_run(folder, document, old.layers, [change(result) for result in old.results])
    for name in ("samples.parquet", "events.parquet"):
        table = pq.read_table(folder / name, schema=SCHEMAS[name])
        pq.write_table(table, folder / name, compression="gzip", row_group_size=1 + len(root.name))
    document = json.loads((folder / "run.json").read_text())
    document["files"] = {name: sha256_file(folder / name) for name in document["files"]}
    (folder / "run.json").write_bytes(dump_json(document))
    return folder
