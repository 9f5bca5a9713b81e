"""Publishing a haystack set, results or a site: checked, then made a dataset or a static Space of the Hub, whole or not
at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from rh_bench.artifacts.results_repo import ATTESTATIONS, DATA, EXPERIMENTS, JUDGEMENTS, RUNS, SITE_MARK, VERIFICATION
from rh_bench.errors import InputError
from rh_bench.hub.client import Access
from rh_bench.hub.download import repo_commit
from rh_bench.hub.refs import Kind, parse_repo
from rh_bench.hub.write import Changes, api_of, find_changes, name_commit, push
from rh_bench.records import Json
from rh_bench.sets.dataset import MANIFEST, read_set
from rh_bench.system.files import regular_file, shown

LARGEST_GROUP = 300_000_000
"""Uncompressed bytes of a row group that the Hub's viewer still reads."""
NIAH_TASK = "niah"
"""Name of the one task of a set, to which `.eval_results` refer."""
SITE_TYPES = (".css", ".csv", ".html", ".js", ".json", ".md", ".png", ".svg", ".tsv", ".txt", ".xml", ".yaml")
"""Ends of the names of all files that a site is made of."""
_FRAMEWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")


@dataclass(frozen=True)
class Published:
    """What was sent, or would be; `commit` is None if nothing was."""

    repo: str
    sent: tuple[str, ...]
    removed: tuple[str, ...]
    commit: str | None
    tag: str | None
    manifest_sha256: str | None
    """Of a set."""
    kind: Kind = "dataset"
    hub: str = "https://huggingface.co"
    """Address of the Hub that was asked."""

    @property
    def address(self) -> str:
        return f"{self.hub}/{self.kind}s/{self.repo}"

    def to_json(self) -> Json:
        return {
            "repo": self.repo,
            "kind": self.kind,
            "address": self.address,
            "sent": list(self.sent),
            "removed": list(self.removed),
            "commit": self.commit,
            "tag": self.tag,
            "manifest_sha256": self.manifest_sha256,
        }


def publish_folder(
    folder: Path,
    repo: str,
    *,
    tag: str | None = None,
    private: bool = False,
    dry_run: bool = False,
    access: Access | None = None,
    evaluation_framework: str | None = None,
) -> Published:
    """Publish a haystack set, results that `rh-bench collect` gathered, or a site, whichever `folder` is.

    Doing it again changes nothing.

    Args:
        repo: the dataset repository, or the Space for a site; made if it is not there.
        tag: a name for the commit.
        dry_run: find out what would change, and change nothing.
        evaluation_framework: what a set's `eval.yaml` names as such. The Hub takes names of a list of its own alone, on
            which rh_bench does not stand, so that none is named without it.

    Raises:
        InputError: the folder is none of them, the repository cannot be written or holds what must not be lost, the tag
            is taken, or a framework is named that is no name, or for a folder that is no set.
    """
    access, ref = access or Access(), parse_repo(repo)
    if ref.revision is not None:
        raise InputError("publishing goes to the main branch", where=repo, hint="leave out @" + ref.revision)
    if tag is not None and not _TAG.fullmatch(tag):
        raise InputError("is not a valid tag", where=repr(tag), hint="use letters, digits, '.', '_' and '-'")
    what = _content(folder, evaluation_framework)
    for path, content in what.files.items():
        if isinstance(content, Path) and path.endswith(".parquet"):
            _check_groups(content)
    hub = str(api_of(access).endpoint)
    if dry_run:
        changes = find_changes(ref, what.files, access, what.kind)
        what.check(changes)
        return Published(ref.repo_id, changes.sent, changes.removed, None, None, what.manifest_sha256, what.kind, hub)
    changes = push(ref, what.files, what.message, private=private, access=access, kind=what.kind, check=what.check)
    commit = repo_commit(ref, what.kind, endpoint=access.endpoint, token=access.token)
    if tag is not None:
        name_commit(ref, tag, commit, access, what.kind)
    return Published(ref.repo_id, changes.sent, changes.removed, commit, tag, what.manifest_sha256, what.kind, hub)


def _check_groups(path: Path) -> None:
    """The Hub's viewer shows nothing of a file with a row group that is too large for it."""
    footer = pq.read_metadata(path)
    largest = max((footer.row_group(place).total_byte_size for place in range(footer.num_row_groups)), default=0)
    if largest > LARGEST_GROUP:
        raise InputError(
            f"has a row group of {largest} bytes; the Hub's viewer reads none above {LARGEST_GROUP}",
            where=shown(path),
            hint="build or collect it again with this version",
        )


@dataclass(frozen=True)
class _Content:
    """What is to be published: files by path, the commit's message, what must not change."""

    files: Mapping[str, Path | bytes]
    message: str
    manifest_sha256: str | None
    check: Callable[[Changes], None]
    kind: Kind = "dataset"


def _content(folder: Path, framework: str | None) -> _Content:
    results, site = (folder / RUNS).is_dir(), (folder / "index.html").is_file()
    if framework is not None and (results or site):
        raise InputError("only a set has an eval.yaml", where=folder, hint="leave out --evaluation-framework")
    if results:
        return _results(folder)
    return _site(folder) if site else _set(folder, framework)


def _set(folder: Path, framework: str | None) -> _Content:
    if framework is not None and not _FRAMEWORK.fullmatch(framework):
        hint = "use a name from the Hub's list, like inspect-ai"
        raise InputError("is not a framework name", where=f"--evaluation-framework {shown(framework)!r}", hint=hint)
    haystacks = read_set(folder)
    name, digest = haystacks.manifest["name"], haystacks.manifest_sha256
    files: dict[str, Path | bytes] = {
        path: regular_file(folder, path) for path in [MANIFEST, *sorted(haystacks.manifest["files"])]
    }
    files["eval.yaml"] = _eval_yaml(haystacks.manifest, framework)
    return _Content(files, f"Haystack set {name}, manifest {digest[:12]}", digest, lambda changes: None)


def _eval_yaml(manifest: Json, framework: str | None) -> bytes:
    """By this file the Hub knows a dataset that models are measured on, to which `.eval_results` refer.

    Args:
        framework: named only where it is given: the Hub checks the name against its own list, and refuses others.
    """
    described = {
        "name": f"rh_bench {manifest['name']}",
        "description": "Needle-in-a-haystack samples for measuring retrieval heads. The result is the share of samples"
        " whose needle the model gives back (ROUGE-1 recall above 0.5); it says nothing about reasoning.",
        **({} if framework is None else {"evaluation_framework": framework}),
        "tasks": [{"id": NIAH_TASK, "config": "samples", "split": "test"}],
    }
    return yaml.safe_dump(described, sort_keys=False, width=1000).encode()


def _results(folder: Path) -> _Content:
    files: dict[str, Path | bytes] = {"README.md": regular_file(folder, "README.md")}
    for part in (*_KEPT, DATA):
        paths = sorted(path.relative_to(folder) for path in (folder / part).rglob("*") if path.is_file())
        # What a killed process left half written has a leading dot.
        names = [path.as_posix() for path in paths if not any(name.startswith(".") for name in path.parts)]
        files |= {name: regular_file(folder, name) for name in names}
    if not any(path.startswith(f"{DATA}/") for path in files):
        raise InputError("has no tables", where=folder, hint="gather the runs with `rh-bench collect`")
    count = sum(path.endswith("/run.json") for path in files)
    return _Content(files, f"Results: {count} runs", None, _keeps_runs)


_KEPT = (RUNS, EXPERIMENTS, VERIFICATION, JUDGEMENTS, ATTESTATIONS)


def _keeps_runs(changes: Changes) -> None:
    """What was taken in or judged meanwhile is not thrown out, nor a judgement or an order put back to what it was
    before, by someone who did not know of it."""
    hint = "update the folder first: rh-bench collect REPO --out FOLDER"
    lost = [path for path in changes.removed if path.partition("/")[0] in _KEPT]
    if lost:
        raise InputError(f"the repository has {lost[0]}, which is missing here", hint=hint)
    older = [path for path in changes.replaced if path.startswith((f"{JUDGEMENTS}/", f"{ATTESTATIONS}/"))]
    if older:
        raise InputError(f"the repository has a different {older[0]}", hint=hint)


def _site(folder: Path) -> _Content:
    """Every file of a site but those with a leading dot, and the card that makes a repository a static Space."""
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    names = [path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts)]
    files: dict[str, Path | bytes] = {name: regular_file(folder, name) for name in names if name != "README.md"}
    strange = next((name for name in names if not name.endswith(SITE_TYPES)), None)
    if strange is not None or SITE_MARK not in (folder / "index.html").read_text(encoding="utf-8", errors="replace"):
        what = f"contains {strange}, which is not part of a site" if strange else "contains pages rh-bench did not make"
        raise InputError(what, where=folder, hint="give the --out folder of rh-bench leaderboard")
    files["README.md"] = _space_card()
    return _Content(files, f"Site of {len(names)} files", None, _keeps_programs, "space")


def _space_card() -> bytes:
    """By its head the Hub serves the files as they are."""
    head = {
        "title": "Retrieval heads",
        "emoji": "🔎",
        "colorFrom": "blue",
        "colorTo": "green",
        "sdk": "static",
        "app_file": "index.html",
        "pinned": False,
        "short_description": "Which attention heads copy from far back",
    }
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=1000)
    return (
        f"---\n{text}---\n\nMade by `rh-bench leaderboard` and `rh-bench publish`; changed by nothing else.\n".encode()
    )


def _keeps_programs(changes: Changes) -> None:
    """A Space that runs someone's program is not replaced by a site."""
    lost = [path for path in changes.removed if not path.endswith(SITE_TYPES)]
    if lost:
        raise InputError(
            f"the Space contains {lost[0]}, which is not part of a site",
            hint="choose a new Space, or remove that file from it",
        )
