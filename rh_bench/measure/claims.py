"""What a run says of its model, its set and how the model was asked, against what those give.

Whole descriptions are compared, field by field, so that a field that is new is compared without anyone's doing. What a
document of an older version does not say is left out. docs/verification.md says of every field where it is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase as fnmatch
from typing import TYPE_CHECKING, Any

from rh_bench import __version__
from rh_bench.artifacts.fingerprint import WEIGHTS
from rh_bench.hub.models import MODEL_FILES, SPARE_WEIGHTS
from rh_bench.models.window import OPTION
from rh_bench.prompting.thinking import is_older
from rh_bench.records import Json

if TYPE_CHECKING:
    from rh_bench.measure.asking import Asking
    from rh_bench.models.load import LoadedModel, Outline
    from rh_bench.sets.dataset import HaystackSet

_LONGEST = 120
_HOW_RUN = ("recurrent", "croppable", "read_from")
"""Fields of a layer that say how it is run, and nothing of what is measured."""


def set_claims(haystack: Json, haystacks: HaystackSet, location: str, commit: str | None) -> list[str]:
    """What the `haystack` of a run says other than the set.

    Args:
        location, commit: where the set was found. What was measured on a local folder may lie elsewhere now.
    """
    found: Json = {
        "manifest_sha256": haystacks.manifest_sha256,
        "name": haystacks.manifest["name"],
        "source": haystacks.manifest["source"],
    }
    if commit is not None and haystack["revision"] is not None:
        found |= {"location": location, "revision": commit}
    return list(differences(haystack, found, "/haystack"))


def model_claims(model: Json, found: Json, outline: Outline) -> list[str]:
    """What the `model` of a run says other than the model's files do, without its weights.

    Args:
        model: of a run whose revision is the model's.
        found: as `rh_bench.models.load.describe_named` gives it.
        outline: what the configuration gives, by the names of this version of transformers.
    """
    problems = [*_adapter_claims(model, found), *differences(model, _comparable(model, found), "/model")]
    if "memory" not in model:
        problems += _file_claims(model["files"], found["files"], model["source"], "/model/files")
    base, own = (part.get("adapter", {}).get("base") for part in (model, found))
    if base and own:
        problems += _file_claims(base["files"], own["files"], base["source"], "/model/adapter/base/files")
    if "window_from" not in model and model["window"] not in (found["window"], outline.stated_window):
        problems.append(_differs("/model/window", model["window"], found["window"]))
    for name, possible in (("architecture", outline.architectures), ("model_type", outline.model_types)):
        if model[name] not in possible:
            problems.append(_differs(f"/model/{name}", model[name], " or ".join(sorted(possible))))
    if model.get("text_part_of") not in (None, *(outline.architectures if outline.has_parts else ())):
        problems.append(_differs("/model/text_part_of", model["text_part_of"], None))
    if not _is_plain(model):
        return problems
    if outline.parameters and model["parameters"] not in outline.parameters:
        problems.append(_differs("/model/parameters", model["parameters"], min(outline.parameters)))
    elif outline.most_parameters is not None and model["parameters"] > outline.most_parameters:
        problems.append(_differs("/model/parameters", model["parameters"], f"at most {outline.most_parameters}"))
    return problems


def loaded_claims(run: Json, loaded: LoadedModel) -> list[str]:
    """What the `model` of a run says other than the model that was loaded: all of it, parameters and layers too.

    Notes, and how a layer is run, are compared with those of the same versions: both are this package's words.
    """
    model, found = run["model"], loaded.describe()
    comparable = _comparable(model, found)
    names = ("architecture", "model_type", "text_part_of", *(("parameters",) if _is_plain(model) else ()))
    comparable |= {name: found[name] for name in names}
    same = "memory" not in model and run["environment"].get("rh_bench") == __version__ and _same_transformers(run)
    if same:
        comparable["notes"] = found["notes"]
    problems = [*_adapter_claims(model, found), *differences(model, comparable, "/model")]
    problems += memory_claims(model, loaded)
    if len(model["layers"]) != len(found["layers"]):
        problems.append(_differs("/model/layers", f"{len(model['layers'])} layers", f"{len(found['layers'])} layers"))
        return problems
    for place, (claimed, layer) in enumerate(zip(model["layers"], found["layers"], strict=True)):
        kept = {name: value for name, value in layer.items() if same or name not in _HOW_RUN}
        problems += differences(claimed, kept, f"/model/layers/{place}")
    return problems


def memory_claims(model: Json, loaded: LoadedModel) -> list[str]:
    """Whether the weights of a run's model, measured in memory, are those of the model that was loaded."""
    if "memory" not in model or unknown_weights(model):
        return []
    from rh_bench.models.identity import weights_sha256

    if weights_sha256(loaded.model) == model["memory"]["weights_sha256"]:
        return []
    return ["this is not the run's model: the SHA-256 of its weights differs"]


def unknown_weights(model: Json) -> str | None:
    """Why the weights of a run's model, measured in memory, cannot be compared with those of its files: what it does is
    all there is to compare then. None if they can."""
    memory = model.get("memory")
    if memory is None:
        return None
    if memory["unhashed"] is not None:
        return f"its weights were not hashed ({memory['unhashed']})"
    if memory["adapters"]:
        return "its adapters were not merged into its weights"
    if memory["quantisation"] is not None:
        return "its weights were quantised in memory"
    return "it is a part of a larger model" if model.get("text_part_of") else None


def _is_plain(model: Json) -> bool:
    """Whether the number of its parameters is that of its files: adapters add some, packed weights count otherwise."""
    memory = model.get("memory")
    return memory is None or not (memory["adapters"] or memory["quantisation"] or memory["unhashed"])


def asking_claims(run: Json, asking: Asking) -> list[str]:
    """What the `protocol` of a run says other than how its model is asked: template, what ends an answer, thoughts.

    A run that is older than turns ends no answer at one, and says nothing of thoughts.
    """
    protocol, found = run["protocol"], asking.protocol()
    if is_older(run):
        found = {name: found[name] for name in ("template", "stop")}
    missing = [name for name in ("turn_token", "thinking") if (name in protocol) != (name in found)]
    problems = [_differs(f"/protocol/{name}", protocol.get(name), found.get(name)) for name in missing]
    return problems + list(differences(protocol, found, "/protocol"))


def grid_claims(protocol: Json, found: Json) -> list[str]:
    """What the `grid` of a run says other than what its lengths, depths, needles and limit make of the set."""
    return list(differences(protocol["grid"], found, "/protocol/grid"))


def differences(claimed: Json, found: Json, place: str) -> Iterator[str]:
    """Fields of `found` that `claimed` has with another value. What `claimed` does not have is not compared."""
    for name, value in found.items():
        if name in claimed and not _equal(claimed[name], value):
            if isinstance(value, dict) and isinstance(claimed[name], dict):
                inner = list(differences(claimed[name], value, f"{place}/{name}"))
                yield from inner or [_differs(f"{place}/{name}", claimed[name], value)]
            else:
                yield _differs(f"{place}/{name}", claimed[name], value)


def _adapter_claims(model: Json, found: Json) -> Iterator[str]:
    """An adapter that is none, or one that the run does not say is one. In memory a merged one is no longer one."""
    if "memory" not in model and ("adapter" in model) != ("adapter" in found):
        yield _differs("/model/adapter", model.get("adapter"), found.get("adapter"))


def _comparable(model: Json, found: Json) -> Json:
    """What of a model's description must be the same in the run, by where the model came from.

    A local model may have been copied to a folder of another name. A window that the user stated is the user's word.
    """
    left_out = {"files", "layers", "notes", "architecture", "model_type", "parameters", "text_part_of"}
    if "memory" in model:
        left_out |= {"id", "slug", "source", "revision", "base_model", "adapter"}
    elif found["source"] != "hub":
        left_out |= {"id", "slug"}
    if model.get("window_from") == OPTION:
        left_out |= {"window", "window_from"}
    elif "window_from" not in model:
        left_out.add("window")
    kept = {name: value for name, value in found.items() if name not in left_out}
    if "adapter" in kept and "memory" not in model:
        if found["adapter"]["base"]["source"] != "hub":
            kept.pop("base_model")
        # Files are compared by themselves, and the name of a local base is as claimed: both are what the run says here.
        said = (model.get("adapter") or {}).get("base") or {}
        base = dict(kept["adapter"]["base"])
        base |= {name: said[name] for name in ("files", *(() if base["source"] == "hub" else ("id",))) if name in said}
        kept["adapter"] = {**kept["adapter"], "base": base}
    return kept


def _file_claims(claimed: Sequence[Json], found: Sequence[Json], source: str, place: str) -> Iterator[str]:
    """Files that a run names and the model does not have like that, and files that it leaves out.

    Of a model on the Hub a version of this package fetches some kinds of files, and another version others: what is
    named must be there, and weights must be named. A GGUF file may have been renamed.
    """

    def key(file: Json) -> tuple[str, str, int]:
        return ("" if source == "gguf" else file["path"], file["sha256"], file["bytes"])

    there, named = {key(file) for file in found}, {key(file) for file in claimed}
    for number, file in enumerate(claimed):
        if key(file) not in there and not (source == "hub" and _is_not_fetched(file["path"])):
            said = f"the model has no file {_short(file['path'])} with this hash and size"
            yield f"run.json#{place}/{number}: {said}"
    for file in found:
        weights = file["path"].endswith(WEIGHTS) and not _is_not_fetched(file["path"])
        if key(file) not in named and (source != "hub" or weights):
            yield f"run.json#{place}: {_short(file['path'])} is left out"


def _is_not_fetched(name: str) -> bool:
    """Whether a file of a repository is none of those that models are fetched with: it can lie in the cache of whoever
    made the run, for another program's sake, and not in this one."""
    return any(fnmatch(name, spare.rpartition("/")[2]) for spare in SPARE_WEIGHTS if "*/" not in spare) or not any(
        fnmatch(name, wanted) for wanted in MODEL_FILES
    )


def _same_transformers(run: Json) -> bool:
    from rh_bench.system.environment import describe_environment

    return bool(run["environment"].get("transformers") == describe_environment("cpu", "")["transformers"])


def _equal(claimed: Any, found: Any) -> bool:
    """Equal in value and type: true is no 1."""
    if isinstance(found, dict):
        return (
            isinstance(claimed, dict)
            and claimed.keys() == found.keys()
            and all(_equal(claimed[name], value) for name, value in found.items())
        )
    if isinstance(found, list):
        return (
            isinstance(claimed, list)
            and len(claimed) == len(found)
            and all(_equal(*pair) for pair in zip(claimed, found, strict=True))
        )
    return isinstance(claimed, bool) == isinstance(found, bool) and bool(claimed == found)


def _differs(pointer: str, claimed: Any, found: Any) -> str:
    return f"run.json#{pointer} is {_short(claimed)}, it must be {_short(found)}"


def _short(value: Any) -> str:
    from rh_bench.system.files import shown

    text = shown(str(value) if isinstance(value, str) else repr(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
