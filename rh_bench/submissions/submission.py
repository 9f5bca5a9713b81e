"""What is brought by a pull request: what it may touch, whose bytes it holds, and whether they are a copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from rh_bench.artifacts.fingerprint import Fingerprint, same_samples, same_seconds
from rh_bench.artifacts.levels import Verification
from rh_bench.artifacts.results_repo import RUNS
from rh_bench.errors import InputError
from rh_bench.hub.pulls import Difference, Pull
from rh_bench.hub.write import RemoteFile
from rh_bench.submissions.judgement import Submission
from rh_bench.submissions.place import MOST_BYTES, Place, find_place
from rh_bench.system.files import sha256_file, shown
from rh_bench.system.schema import load_json

_MOST_REASONS = 10
_MOST_DOCUMENT = 16 << 20
_LONGEST_NAME = 300
_MOST_RUNS = 2
"""That an experiment is about."""


def submission_problems(changed: Difference, main: Mapping[str, RemoteFile]) -> tuple[Place | None, list[str]]:
    """What a pull request does that a submission may not, from names and sizes alone: nothing is fetched before.

    Args:
        main: the files of the main branch.

    Returns:
        The submission's place, if there is just one, and what is wrong.
    """
    problems = [f"removes {shown(path)}" for path in changed.removed]
    problems += [f"changes {shown(path)}, which already exists" for path in changed.replaced]
    places: set[Place] = set()
    for path in changed.added:
        place = find_place(path)
        if place is None:
            problems.append(f"adds {shown(path)[:200]}, which is not a file of a run or an experiment")
        else:
            places.add(place)
    if len(places) > 1:
        words = {place.kind.word for place in places}
        what = f"{words.pop()}s" if len(words) == 1 else "submissions"
        problems.append(f"contains {len(places)} {what}: submit them one by one")
    if not places:
        problems.append("contains no run and no experiment")
    place = next(iter(places)) if len(places) == 1 else None
    if place is not None:
        problems += _file_problems(place, changed, main)
    more = len(problems) - _MOST_REASONS
    return place, problems[:_MOST_REASONS] + ([f"and {more} more"] if more > 0 else [])


def _file_problems(place: Place, changed: Difference, main: Mapping[str, RemoteFile]) -> Iterator[str]:
    yield from (f"lacks {path}" for path in place.paths if path not in changed.added)
    size = sum(file.bytes for file in changed.added.values())
    if size > MOST_BYTES:
        yield f"has {size} bytes; at most {MOST_BYTES} are allowed"
    other = [path for path, file in changed.added.items() if path in main and main[path].hash != file.hash]
    if other:  # it came after the pull request left the main branch
        yield f"the repository already has this {place.kind.word}, with another {other[0].rpartition('/')[2]}"
    # Of a run, every sample carries the seconds it took, so that two measurements never give the same bytes. Of an
    # experiment, answers do not: the same model can give them again under other settings.
    name = place.kind.telling
    telling = changed.added.get(f"{place.folder}/{name}")
    for path, file in main.items() if telling is not None else ():
        folder, _, file_name = path.rpartition("/")
        there = find_place(path)
        if telling is None or there is None or file_name != name or file.hash != telling.hash:
            continue
        elsewhere = there.slug != place.slug if place.kind.root != RUNS else folder != place.folder
        if there.kind.root == place.kind.root and elsewhere:
            yield f"its {name} is byte for byte that of {folder}: a copy of another {place.kind.word}"


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
        if (_in(document, "model", "slug"), place.kind.named(document)) != (place.slug, place.name):
            problems.append(f"is in {place.label}, which is not the folder that {place.kind.document} names")
    model, revision = _in(document, "model", "id"), _in(document, "model", "revision")
    samples = _in(document, "counts", place.kind.units) if place.kind.units else None
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


def runs_of(folder: Path, place: Place, main: Mapping[str, RemoteFile]) -> tuple[list[RemoteFile], list[str]]:
    """The files of the runs that an experiment is about, in the main branch; and which are not there.

    Args:
        folder: in which the submission lies; what it says is not to be believed.
    """
    try:
        document = load_json(folder / place.kind.document, max_bytes=_MOST_DOCUMENT)
    except InputError:
        return [], []  # it is not valid, which its verification says
    named = _in(document, "runs")
    found: list[RemoteFile] = []
    problems = []
    for reference in named[:_MOST_RUNS] if isinstance(named, list) else []:
        slug, run_id = _in(reference, "slug"), _in(reference, "run_id")
        run = find_place(f"{RUNS}/{slug}/{run_id}/run.json") if isinstance(slug, str) else None
        if run is None or not all(path in main for path in run.paths):
            problems.append(f"is about the run {shown(f'{slug}/{run_id}')[:200]}, which the repository does not have")
        else:
            found += [main[path] for path in run.paths]
    if named == [] and not any(path.startswith(f"{RUNS}/{place.slug}/") for path in main):
        problems.append("is about a model of which the repository has no run")
    return found, problems


def _in(document: object, *names: str) -> object:
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def copy_problems(
    place: Place, mark: Fingerprint | None, found: Verification, marks: Mapping[str, Fingerprint]
) -> Iterator[str]:
    """What shows that a run or an experiment is a copy of one that is there, however its files were written.

    Samples that were measured again and agree show that the model does what the run says: the same weights, then, in
    other files, and no copy.

    Args:
        marks: of what is there, by its folder.
    """
    if mark is None or not found.levels:
        return
    measured_again = found.levels[-1].reached is True
    word = place.kind.word
    for folder, other in marks.items():
        if not folder.startswith(f"{place.kind.root}/"):
            continue
        common = None if measured_again else same_samples(mark, other)
        if same_seconds(mark, other):
            yield f"all of its samples took exactly as many seconds as those of {folder}: a copy of another {word}"
        elif common is not None:
            yield f"its {common}, as those of {folder}: a copy of another model's {word}"
