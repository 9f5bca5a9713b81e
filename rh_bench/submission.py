"""What is brought by a pull request: what it may touch, whose bytes it holds, and whether they are a copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rh_bench.errors import InputError
from rh_bench.files import sha256_file, shown
from rh_bench.fingerprint import Fingerprint, same_samples, same_seconds
from rh_bench.hub_pulls import Difference, Pull
from rh_bench.hub_write import RemoteFile
from rh_bench.judgement import Submission
from rh_bench.place import KINDS, MOST_BYTES, Place, find_place
from rh_bench.results import RUNS
from rh_bench.schema import load_json
from rh_bench.verify import Verification

_MOST_REASONS = 10
_MOST_DOCUMENT = 16 << 20
_LONGEST_NAME = 300


def submission_problems(changed: Difference, main: Mapping[str, RemoteFile]) -> tuple[Place | None, list[str]]:
    """What a pull request does that a submission may not, from names and sizes alone: nothing is fetched before.

    Args:
        main: the files of the main branch.

    Returns:
        The submission's place, if there is just one, and what is wrong.
    """
    problems = [f"removes {shown(path)}" for path in changed.removed]
    problems += [f"changes {shown(path)}, which is there already" for path in changed.replaced]
    places: set[Place] = set()
    for path in changed.added:
        place = find_place(path)
        if place is None:
            problems.append(f"adds {shown(path)[:200]}, which is no file of a run")
        else:
            places.add(place)
    if len(places) > 1:
        problems.append(f"brings {len(places)} runs: submit them one by one")
    if not places:
        problems.append(f"brings no {KINDS[0].word}")
    place = next(iter(places)) if len(places) == 1 else None
    if place is not None:
        problems += _file_problems(place, changed, main)
    more = len(problems) - _MOST_REASONS
    return place, problems[:_MOST_REASONS] + ([f"and {more} more"] if more > 0 else [])


def _file_problems(place: Place, changed: Difference, main: Mapping[str, RemoteFile]) -> Iterator[str]:
    yield from (f"lacks {path}" for path in place.paths if path not in changed.added)
    size = sum(file.bytes for file in changed.added.values())
    if size > MOST_BYTES:
        yield f"has {size} bytes, at most {MOST_BYTES} are taken"
    other = [path for path, file in changed.added.items() if path in main and main[path].hash != file.hash]
    if other:  # it came after the pull request left the main branch
        yield f"the repository holds this run already, with another {other[0].rpartition('/')[2]}"
    # Every sample carries the seconds it took, so that two measurements never give the same bytes.
    samples = changed.added.get(f"{place.folder}/samples.parquet")
    for path, file in main.items():
        copy = samples is not None and path.endswith("/samples.parquet") and file.hash == samples.hash
        if copy and path != f"{place.folder}/samples.parquet":
            yield f"its samples.parquet is byte for byte that of {path.rpartition('/')[0]}: a copy of another run"


def look_at(folder: Path, place: Place, pull: Pull, commit: str) -> tuple[Submission, list[str]]:
    """What the files of a submission say of themselves, before they are verified.

    Args:
        folder: in which they lie under the names of `place`.

    Returns:
        The submission, and why its document does not name these files. Then nothing may be recorded under the hash of
        the document: it can be that of another's, with files that would have it refused.
    """
    document_path = folder / place.kind.document
    try:
        document = load_json(document_path, max_bytes=_MOST_DOCUMENT)
    except InputError:
        document = None
    problems = []
    if isinstance(document, dict):
        problems += [
            f"its {name} is not the one that {place.kind.document} names by its SHA-256"
            for name in place.kind.files
            if name != place.kind.document and _in(document, "files", name) != sha256_file(folder / name)
        ]
        if (_in(document, "model", "slug"), document.get("run_id")) != (place.slug, place.name):
            problems.append(f"lies in {place.label}, which is not the folder that {place.kind.document} names")
    model, revision = _in(document, "model", "id"), _in(document, "model", "revision")
    samples = _in(document, "counts", "samples")
    submission = Submission(
        place,
        sha256_file(document_path),
        pull.author[:100],
        pull.num,
        commit,
        (shown(model)[:_LONGEST_NAME], shown(revision)[:_LONGEST_NAME] if isinstance(revision, str) else None)
        if isinstance(model, str)
        else None,
        samples if type(samples) is int and samples > 0 else None,
    )
    return submission, problems


def _in(document: object, *names: str) -> object:
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def copy_problems(mark: Fingerprint | None, found: Verification, marks: Mapping[str, Fingerprint]) -> Iterator[str]:
    """What shows that a run is a copy of one that is there, however its files were written.

    Samples that were measured again and agree show that the model does what the run says: the same weights, then, in
    other files, and no copy.

    Args:
        marks: of the runs that are there, by slug and id.
    """
    if mark is None or not found.levels:
        return
    measured_again = found.levels[-1].reached is True
    for run, other in marks.items():
        common = None if measured_again else same_samples(mark, other)
        if same_seconds(mark, other):
            yield f"all of its samples took the very seconds of those of {RUNS}/{run}: a copy of another run"
        elif common is not None:
            yield f"its {common}, as those of {RUNS}/{run}: a copy of another model's run"
