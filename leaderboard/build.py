"""Builds the site: every run on its own, in worker processes where there are many, then the pages across runs.

A run is turned into its own pages and a brief and is then dropped, so memory doesn't grow with the number of runs. What
did not change since the last build is neither read nor rendered again; the bytes are those of a full build.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import connection, reduction
from pathlib import Path
from threading import Thread
from typing import Any

from rh_bench.leaderboard import (
    about,
    compare,
    embed,
    experiments_page,
    feed,
    imported_page,
    model_page,
    overview,
    universality,
)
from rh_bench.leaderboard.briefs import RunBrief, order
from rh_bench.leaderboard.cache import Cache, Made, code_digest
from rh_bench.leaderboard.collect import Collection, Entry, Imported, LeftOut, Source, fingerprint, read_source, sources
from rh_bench.leaderboard.experiment_card import thin_experiments
from rh_bench.leaderboard.open_run import OpenRun
from rh_bench.leaderboard.render import Document, Frame, Site, assets, checked_url, replacing, write
from rh_bench.records import Json

RUN_PAGES: tuple[Callable[[OpenRun, Frame], Iterator[Document]], ...] = (
    model_page.documents,
    compare.run_documents,
    embed.documents,
)
"""Modules that make the files of one run, from that run alone."""
IMPORT_PAGES: tuple[Callable[[Imported, Frame], Iterator[Document]], ...] = (imported_page.documents,)
"""Modules that make the files of one import, from that import alone."""
SITE_PAGES: tuple[Callable[[Site], Iterator[Document]], ...] = (
    overview.documents,
    universality.documents,
    compare.documents,
    experiments_page.documents,
    about.documents,
)
"""Modules that make the pages across runs, from the briefs."""
NAV = (
    ("Models", "index.html"),
    ("Universality", "universality.html"),
    ("Compare", "compare.html"),
    ("Experiments", "experiments.html"),
    ("Method", "method.html"),
    ("Data", "data.html"),
    ("About", "about.html"),
)
"""Name and path of every page that the head of each page leads to."""

_WORTH_WORKERS = 24
"""Runs to render from which starting worker processes, a second or so each, pays."""
_MOST_WORKERS = 4
_CHUNK = 4
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class SiteReport:
    """What a build did."""

    briefs: tuple[RunBrief, ...]
    """Of the runs shown."""
    left_out: tuple[LeftOut, ...]
    """Run folders that are not shown, with their reasons."""
    pages: tuple[Path, ...]
    imported: int = 0
    """Head lists of other projects, which are shown apart."""
    kept: int = 0
    """Folders that had not changed since the last build."""


def build_site(
    runs_root: Path,
    out: Path,
    *,
    experiments: Path | None = None,
    url: str = "",
    workers: int = 1,
    on_run: Callable[[int, int], None] | None = None,
) -> SiteReport:
    """Render the runs below `runs_root` to `out`, replacing a site that is there.

    A build that fails leaves the old site as it was. A crash of the machine may tear pages that were just written; the
    next build sees that by their digests and makes them again.

    Args:
        experiments: folder of experiments on these runs.
        url: address where the site will lie; only with it are there a sitemap and a feed, which need whole addresses.
        workers: processes at most. More than one needs a main module that can be imported, as for all of
            `multiprocessing`.
        on_run: called with the number of folders done and of all.

    Raises:
        InputError: `runs_root` or `experiments` is no folder, `out` exists and is something other than a site, or `url`
            is no address of a folder on the web.
    """
    found = sources(runs_root, experiments)
    frame = Frame(checked_url(url), NAV)
    with replacing(out) as (made_in, fresh):
        cache = Cache.read(out, code_digest(frame))
        marks = [fingerprint(source) for source in found]
        with ThreadPoolExecutor(_MOST_WORKERS) as pool:  # reading, hashing and linking leave the interpreter free
            kept = pool.map(lambda one: cache.keep(one[0].name, one[1], out, fresh), zip(found, marks, strict=True))
            made = {source.name: one for source, one in zip(found, kept, strict=True) if one is not None}
        kept_count = len(made)
        todo = [source for source in found if source.name not in made]
        for source, one in _make_all(todo, frame, fresh, workers, made_in.lock):
            made[source.name] = one
            if on_run:
                on_run(len(made), len(found))
        site = _site([made[source.name] for source in found], frame)
        pages = _finish(site, [name for one in made.values() for name in one.files], fresh)
        cache.write(fresh, {source.name: (mark, made[source.name]) for source, mark in zip(found, marks, strict=True)})
    return SiteReport(
        tuple(site.briefs),
        tuple(site.left_out),
        tuple(out / page for page in pages),
        imported=len(site.imported),
        kept=kept_count,
    )


def render(collection: Collection, out: Path, *, url: str = "") -> list[Path]:
    """Write the site of runs that are in memory already, and return its pages, sorted, `index.html` among them."""
    frame = Frame(checked_url(url), NAV)
    with replacing(out) as (_, fresh):
        found: list[Entry | Imported | LeftOut] = [*collection.entries, *collection.imported, *collection.left_out]
        made = [make_files(one, frame, fresh) for one in found]
        pages = _finish(_site(made, frame), [name for one in made for name in one.files], fresh)
    return [out / page for page in pages]


def make_files(one: Entry | Imported | LeftOut, frame: Frame, fresh: Path) -> Made:
    """Write the files of one folder below `fresh`, and say what is left to know of it."""
    if isinstance(one, LeftOut):
        return Made.left_out(one)
    if isinstance(one, Imported):
        documents = (document for module in IMPORT_PAGES for document in module(one, frame))
        kept = {
            "folder": one.folder,
            "document": one.document,
            "experiments": thin_experiments(one.experiments, one.records),
        }
        return Made.of("import", kept, documents, fresh)
    run = OpenRun(one)
    documents = (document for module in RUN_PAGES for document in module(run, frame))
    return Made.of("run", run.brief.to_json(), documents, fresh)


def _make_one(task: tuple[Source, Frame, Path]) -> Made:
    source, frame, fresh = task
    return make_files(read_source(source), frame, fresh)


def _make_all(
    todo: Sequence[Source], frame: Frame, fresh: Path, workers: int, lock: int | None
) -> Iterator[tuple[Source, Made]]:
    """Each folder with what was made of it, in order. If a worker dies, the rest is made here.

    Args:
        lock: the descriptor that holds the lock of `fresh`, if there is one; workers hold it, too.
    """
    workers = min(workers, _MOST_WORKERS, os.cpu_count() or 1)
    tasks = [(source, frame, fresh) for source in todo]
    done = 0
    if workers > 1 and len(todo) >= _WORTH_WORKERS:
        context = multiprocessing.get_context("spawn")
        try:
            held = None if lock is None else _Held(lock)
            with ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(held,)) as pool:
                with _one_thread_each():
                    made = pool.map(_make_one, tasks, chunksize=_CHUNK)
                for task, one in zip(tasks, made, strict=True):
                    done += 1
                    yield task[0], one
        except BrokenProcessPool:
            pass
    for task in islice(tasks, done, None):
        yield task[0], _make_one(task)


class _Held:
    """A descriptor that goes along to the processes that are started with it."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __reduce__(self) -> tuple[object, ...]:
        return _taken, (reduction.DupFd(self._handle),)


def _taken(handle: Any) -> int:
    return int(handle.detach())


def _begin_worker(lock: object) -> None:
    """A worker ends with the process that started it, and until then nobody else may clear what it writes to: the lock
    in `lock` is held as long as any process has it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that are started inside the block have linear algebra of one thread: with a thread a core in each of
    them, they would wait for one another and spin."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _site(made: Iterable[Made], frame: Frame) -> Site:
    by_kind: dict[str, list[Json]] = {"run": [], "import": [], "left_out": []}
    for one in made:
        by_kind[one.kind].append(one.document)
    return Site(
        briefs=sorted(map(RunBrief.from_json, by_kind["run"]), key=order),
        imported=[
            Imported(one["folder"], one["document"], experiments=tuple(one["experiments"])) for one in by_kind["import"]
        ],
        left_out=[LeftOut(one["folder"], tuple(one["reasons"])) for one in by_kind["left_out"]],
        frame=frame,
    )


def _finish(site: Site, names: Iterable[str], fresh: Path) -> list[str]:
    """Write what belongs to no single run. Returns the paths of all pages, sorted.

    Args:
        names: paths of the files that there are already.
    """
    pages = {name for name in names if name.endswith(".html")}
    for document in chain(assets(), *(module(site) for module in SITE_PAGES)):
        write(fresh, document)
        if document[0].endswith(".html"):
            pages.add(document[0])
    for document in feed.documents(site, pages):
        write(fresh, document)
    return sorted(pages)
