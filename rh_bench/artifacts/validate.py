"""Whether a run is what it says it is: every problem at once, each with its file and its place in it.

Nothing that a run says is believed before it is checked: names, sizes, types and ranges come first, cross-references
after them, and each check is made as far as the ones it stands on allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from rh_bench.artifacts.coverage import coverage_problems
from rh_bench.artifacts.run import IN_MEMORY, ORIGINS, RUN_FILES, compute_run_id, memory_revision, model_slug
from rh_bench.artifacts.table_checks import MOST, capped, event_problems, head_problems, sample_problems
from rh_bench.artifacts.tables import OPTIONAL, SCHEMAS, read_table
from rh_bench.errors import InputError
from rh_bench.prompting.chat import CHAT
from rh_bench.prompting.thinking import AFTER
from rh_bench.protocol import constant_problems, engine_problems
from rh_bench.records import SCORED_KINDS, WINDOWED_KINDS, Json, Layer, Problem
from rh_bench.system.files import regular_file, sha256_file, shown
from rh_bench.system.schema import load_json, validate_document
from rh_bench.system.slugs import is_memory_id, memory_slug

_MOST_HEADS = 1 << 15
"""What the int16 columns of the tables can name, of layers and of heads in one."""
_MOST_JSON = 16 << 20
"""Bytes of a document. Empty lists and objects take twenty times as much in memory as in a file."""
_MOST_OF: Mapping[str, tuple[int, int]] = {
    "samples.parquet": (100_000, 64 << 20),
    "events.parquet": (10_000_000, 512 << 20),
    "heads.parquet": (1 << 20, 128 << 20),
}
"""Rows and uncompressed bytes of a table: a few kilobytes on disk can repeat one row until memory ends. The paper's
grid on a model of 1,024 heads gives 600 samples and some 150,000 events."""
_MOST_CELLS = 1 << 26
"""Samples × heads and replicates × heads: what computing the scores again holds in memory at a time."""


def validate_path(path: Path) -> list[Problem]:
    """Every problem of a run folder; none if the run is sound.

    What is checked: the files that belong there and no others; documents against their schemas (a newer version is
    refused by name); the hashes; the columns of the tables; every row's ranges and cross-references; success computed
    again from the texts; counts; and the run's id, which its folder must carry. Scores are not recomputed: that is
    `rh_bench.verification.verify`.
    """
    if not (path / "run.json").is_file():
        return [Problem("run.json", "", "missing: the run is unfinished")]
    return list(dict.fromkeys(_problems(path)))


def _problems(path: Path) -> Iterator[Problem]:
    yield from _unexpected_files(path)
    run, found = _document(path, "run")
    yield from found
    layers = None
    if run is not None:
        wrong_layers = list(layer_problems(run["model"]["layers"]))
        yield from _in_file("run.json", wrong_layers)
        layers = None if wrong_layers else tuple(Layer(**layer) for layer in run["model"]["layers"])
        yield from _in_file("run.json", _identity_problems(path, run))
        yield from _in_file("run.json", _work_problems(run))
        yield from _in_file("run.json", constant_problems(run["protocol"]))
        yield from _in_file("run.json", _protocol_problems(run["protocol"]))
        yield from _in_file("run.json", coverage_problems(run))
        yield from _in_file("run.json", engine_problems(run["engine"]))
        yield from _in_file("run.json", _model_problems(run["model"]))
    whole = []
    for name in RUN_FILES:
        problem = _file_problem(path, name, run)
        if problem is None:
            whole.append(name)
        else:
            yield problem
    if "summary.json" in whole:
        yield from _summary(path, run)
    yield from _tables(path, [name for name in whole if name in SCHEMAS], run, layers)


def _in_file(name: str, found: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    return (Problem(name, pointer, message) for pointer, message in found)


def _unexpected_files(path: Path) -> Iterator[Problem]:
    """Files that do not belong to a run: they would be published with it, and no hash covers them."""
    try:
        names = sorted(child.name for child in path.iterdir())
    except OSError as error:
        yield Problem(".", "", f"cannot be read ({error.strerror or error})")
        return
    strange = [name for name in names if name not in (*RUN_FILES, "run.json")]
    yield from (Problem(shown(name[:120]), "", "does not belong to a run") for name in strange[:MOST])
    if len(strange) > MOST:
        yield Problem(".", "", f"and {len(strange) - MOST} more files that do not belong to a run")


def _document(path: Path, kind: str) -> tuple[Json | None, list[Problem]]:
    """A valid document, or what is wrong with it."""
    name = f"{kind}.json"
    try:
        document = load_json(regular_file(path, name), max_bytes=_MOST_JSON)
    except InputError as error:
        return None, [Problem(name, "", error.problem)]
    problems = [Problem(name, pointer, message) for pointer, message in validate_document(document, kind)]
    return (None if problems else document), problems


def _file_problem(path: Path, name: str, run: Json | None) -> Problem | None:
    """What is wrong with a file as a file. Its hash is wrong in run.json, so that is where the pointer leads."""
    try:
        digest = sha256_file(regular_file(path, name))
    except InputError as error:
        return Problem(name, "", error.problem)
    if run is not None and run["files"][name] != digest:
        return Problem("run.json", f"/files/{name}", "the file's hash differs")
    return None


def layer_problems(layers: Sequence[Json]) -> Iterator[tuple[str, str]]:
    """What is wrong with the layers of a model that their schema does not say."""
    for place, layer in enumerate(layers):
        pointer, heads, groups = f"/model/layers/{place}", layer["query_heads"], layer["kv_heads"]
        scored = layer["kind"] in SCORED_KINDS
        if layer["index"] != place:
            yield f"{pointer}/index", f"is {layer['index']}, layers are listed in order from 0"
        if scored and not 0 < heads < _MOST_HEADS:
            yield f"{pointer}/query_heads", f"is {heads}, a layer with softmax attention has 1 to {_MOST_HEADS - 1}"
        elif scored and (groups < 1 or heads % groups):
            yield f"{pointer}/kv_heads", f"is {groups}, which does not divide the {heads} query heads"
        elif not scored and heads:
            yield f"{pointer}/query_heads", f"is {heads}, a layer of kind {layer['kind']} has none to score"
        if layer["kind"] in WINDOWED_KINDS and layer["window"] is None:
            yield f"{pointer}/window", f"is null, a {layer['kind']} layer has a window"


def _identity_problems(path: Path, run: Json) -> Iterator[tuple[str, str]]:
    """The run's id follows from what was measured, and the folders are called after the model and the id."""
    model, engine = run["model"], run["engine"]
    if run["origin"] not in ORIGINS:
        yield "/origin", f"is {run['origin']}: only what an engine measured is a run"
    elif (run["origin"] == IN_MEMORY) != (model["source"] == "memory"):
        yield "/origin", f"is {run['origin']}, the model's source is {model['source']}"
    expected = compute_run_id(
        model_revision=model["revision"],
        manifest_sha256=run["haystack"]["manifest_sha256"],
        protocol=run["protocol"],
        engine_name=engine["name"],
        engine_version=engine["version"],
    )
    if run["run_id"] != expected:
        yield "/run_id", f"is {run['run_id']}; revision, set, protocol and engine give {expected}"
    folder = path.resolve()
    if folder.name != run["run_id"]:
        yield "/run_id", f"is {run['run_id']}, the folder is called {shown(folder.name[:120])}"
    if model["slug"] != folder_name_of(model):
        yield "/model/slug", f"is {model['slug']}, the model's id gives {folder_name_of(model)}"
    if folder.parent.name != model["slug"]:
        yield "/model/slug", f"is {model['slug']}, the folder above is called {shown(folder.parent.name[:120])}"


def folder_name_of(model: Json) -> str:
    """What `rh_bench.models.load` calls the folder of this model: no run is filed under another model's name."""
    if model["source"] == "memory":
        return memory_slug(model["id"])
    return model_slug(
        PurePosixPath(model["id"].removeprefix("gguf:")).stem if model["source"] == "gguf" else model["id"]
    )


def _work_problems(run: Json) -> Iterator[tuple[str, str]]:
    """Settings that would make computing the scores again endless. Counts are compared with the tables elsewhere."""
    heads = run["counts"]["heads"]
    for pointer, name, number in (
        ("/counts/samples", "samples", run["counts"]["samples"]),
        ("/protocol/bootstrap/replicates", "replicates", run["protocol"]["bootstrap"]["replicates"]),
    ):
        if number * heads > _MOST_CELLS:
            yield pointer, f"is {number}: with {heads} heads at most {_MOST_CELLS // heads} {name} can be verified"


def _protocol_problems(protocol: Json) -> Iterator[tuple[str, str]]:
    """Fields of the protocol that go with one another."""
    if ("turn" in protocol["stop"]) != ("turn_token" in protocol):
        yield "/protocol/stop", 'must contain "turn" exactly if turn_token names a token'
    thinking = protocol.get("thinking")
    if thinking is None:
        return
    for name in ("limit", "closing_ids"):
        if (thinking["way"] == AFTER) != (thinking[name] is not None):
            yield f"/protocol/thinking/{name}", f"only belongs to the way {AFTER!r}; here it is {thinking['way']!r}"
    if protocol["template"] != CHAT:
        yield "/protocol/thinking", "only chat-template prompts can have thoughts"


def _model_problems(model: Json) -> Iterator[tuple[str, str]]:
    """Files that are named twice, or by what is no name; a GGUF file under another name than the model's; a window that
    nobody states."""
    base = (model.get("adapter") or {}).get("base")
    for place, part in (("/model", model), ("/model/adapter/base", base)):
        names = [file["path"] for file in part["files"]] if part else []
        for number, name in enumerate(names):
            if name in names[:number]:
                yield f"{place}/files/{number}/path", f"{shown(name[:120])} is listed twice"
            elif not name or "/" in name or "\\" in name or not name.isprintable() or name in (".", ".."):
                yield f"{place}/files/{number}/path", f"{shown(name[:120])!r} is not a file name"
    if model["source"] == "gguf" and [f"gguf:{file['path']}" for file in model["files"]] != [model["id"]]:
        yield "/model/id", f"is {shown(model['id'][:120])}, its only file has another name"
    if (model["source"] == "memory") != ("memory" in model):
        yield "/model/memory", "must be there exactly if the source is memory"
    elif "memory" in model:
        yield from _memory_problems(model)
    if "window_from" in model and (model["window"] is None) != (model["window_from"] is None):
        yield "/model/window_from", "must be there exactly if there is a window"


def _memory_problems(model: Json) -> Iterator[tuple[str, str]]:
    """A model without files: its revision follows from its hashes, where there are hashes."""
    memory = model["memory"]
    if not is_memory_id(model["id"]):
        yield "/model/id", "of a model in memory must be memory: and a name"
    if model["files"] or "adapter" in model:
        yield "/model/files", "a model in memory has no files"
    if (memory["weights_sha256"] is None) != (memory["unhashed"] is not None):
        yield "/model/memory/unhashed", "must be set exactly if the weights were not hashed"
    expected = memory_revision(memory)
    if expected is not None and model["revision"] != expected:
        yield "/model/revision", f"is {model['revision']}; the hashes in memory give {expected}"


def _summary(path: Path, run: Json | None) -> Iterator[Problem]:
    summary, found = _document(path, "summary")
    yield from found
    if summary is None or run is None:
        return
    counts = run["counts"]
    for name, expected in (
        ("run_id", run["run_id"]),
        ("n_samples", counts["samples"]),
        ("n_counted", counts["counted"]),
        ("heads", counts["heads"]),
    ):
        if summary[name] != expected:
            yield Problem("summary.json", f"/{name}", f"is {summary[name]}, run.json has {expected}")


def _tables(path: Path, names: Sequence[str], run: Json | None, layers: tuple[Layer, ...] | None) -> Iterator[Problem]:
    tables: dict[str, pa.Table] = {}
    for name in names:
        try:
            rows, size = _MOST_OF[name]
            tables[name] = read_table(path / name, SCHEMAS[name], OPTIONAL.get(name, ()), max_rows=rows, max_bytes=size)
        except InputError as error:
            yield Problem(name, "", error.problem)
    samples, events, heads = (tables.get(name) for name in ("samples.parquet", "events.parquet", "heads.parquet"))
    if samples is not None:
        yield from _in_file("samples.parquet", sample_problems(samples, run))
    if samples is not None and events is not None:
        yield from _in_file("events.parquet", event_problems(events, samples, layers))
    if heads is not None:
        counted = None if samples is None else _counted(samples)
        yield from _in_file("heads.parquet", head_problems(heads, layers, counted))
    if run is not None:
        yield from _in_file("run.json", capped(_count_problems(run["counts"], samples, events, heads)))


def _counted(samples: pa.Table) -> int:
    return int(samples.column("success").to_numpy().sum())


def _count_problems(counts: Json, samples: Any, events: Any, heads: Any) -> Iterator[tuple[str, str]]:
    found: dict[str, int] = {}
    if samples is not None:
        counted = _counted(samples)
        found |= {"samples": len(samples), "counted": counted, "failed": len(samples) - counted}
    for name, table in (("events", events), ("heads", heads)):
        if table is not None:
            found[name] = len(table)
    for name, number in found.items():
        if counts[name] != number:
            yield f"/counts/{name}", f"is {counts[name]}, the tables have {number}"
