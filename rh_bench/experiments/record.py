"""What a maintainer found when an experiment was verified: a record beside the results, for its very bytes alone.

It lies at `verification/<model>/<kind>-<experiment id>.json`. Records of runs are called by 16 hexadecimal digits
alone, so that no name of one is that of the other.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from rh_bench.artifacts.fingerprint import Fingerprint, read_fingerprint
from rh_bench.artifacts.levels import Verification
from rh_bench.artifacts.verification_record import verification_body
from rh_bench.errors import InputError
from rh_bench.experiments.artifact import DOCUMENT, is_experiment
from rh_bench.experiments.schemas import record_schema
from rh_bench.records import Json
from rh_bench.system.files import regular_file, sha256_file
from rh_bench.system.schema import load_json, validate_document

SCHEMA = "experiment_verification"


def experiment_record(
    found: Verification,
    *,
    rerun: int = 0,
    salt: str = "",
    pull_request: int | None = None,
    author: str | None = None,
    mark: Fingerprint | None = None,
    now: datetime | None = None,
) -> Json:
    """What a verification of an experiment found, as a document. Arguments as for `results.verification_document`."""
    kind, _, identity = found.folder.name.rpartition("-")
    return {
        "schema": f"rh_bench/{SCHEMA}",
        "schema_version": "1.0",
        "experiment": {
            "slug": found.folder.parent.name,
            "kind": kind,
            "experiment_id": identity,
            "experiment_sha256": sha256_file(found.folder / DOCUMENT),
        },
        **verification_body(
            found, rerun=rerun, salt=salt, pull_request=pull_request, author=author, mark=mark, now=now
        ),
    }


def read_experiment_record(verification: Path | None, folder: Path) -> Json | None:
    """The record of an experiment's very bytes, or None: one of other bytes than these says nothing about them.

    Args:
        verification: the folder of records, as of `rh_bench.artifacts.results_repo.Layout`.
    """
    if verification is None or not is_experiment(folder):
        return None
    slug, name = folder.resolve().parts[-2:]
    try:
        document = load_json(regular_file(verification, f"{slug}/{name}.json"))
        digest = sha256_file(folder / DOCUMENT)
    except InputError:
        return None
    if validate_document(document, SCHEMA, schema=record_schema()):
        return None
    named = document["experiment"]
    same = (named["slug"], f"{named['kind']}-{named['experiment_id']}", named["experiment_sha256"])
    return document if same == (slug, name, digest) else None


def read_experiment_mark(path: Path) -> Fingerprint | None:
    """By what copies of an experiment are recognised, from the file of its record; None if it does not say."""
    try:
        document = load_json(path)
    except InputError:
        return None
    if validate_document(document, SCHEMA, schema=record_schema()) or not document.get("fingerprint"):
        return None
    return read_fingerprint(document["fingerprint"])
