"""Finding a model's files and saying exactly which ones they were.

MODEL is a Hub id (``org/name[@revision]``), a local folder, or ``gguf:<file>``; a PEFT adapter is an id or a folder
like any other, and brings its base model along. Weights are safetensors or GGUF, never pickle. Neither torch nor
transformers is imported. A model that its user holds in memory has no files: what it is recognised by then is a
:class:`Memory`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from rh_bench.artifacts.run import IN_MEMORY, MEASURED, model_slug
from rh_bench.errors import InputError
from rh_bench.hub.models import fetch_model
from rh_bench.hub.refs import RepoRef, parse_repo
from rh_bench.models.adapter_config import ADAPTER_CONFIG, ADAPTER_WEIGHTS, AdapterConfig, read_adapter_config
from rh_bench.records import Json
from rh_bench.system.files import sha256_file, shown
from rh_bench.system.schema import load_json

INDEX = "model.safetensors.index.json"
_DESCRIBED = ("*.safetensors", "*.json", "*.gguf", "tokenizer.model", "*.txt", "*.jinja", "*.py")

Files = tuple[tuple[str, str, int], ...]
"""(name, sha256, bytes) of each file."""


@dataclass(frozen=True)
class Adapter:
    """What makes a model out of its base."""

    config: AdapterConfig
    revision: str
    """The Hub's commit of the adapter alone, or the SHA-256 over its files."""
    base: ModelSource


@dataclass(frozen=True)
class Memory:
    """What a model that was measured in memory is recognised by; see :mod:`rh_bench.models.identity`."""

    weights_sha256: str | None
    """None if the weights were not hashed; `unhashed` says why."""
    config_sha256: str
    """Over the configuration, what ends an answer, the classes of all modules, and the adapters' settings."""
    tokenizer_sha256: str
    unhashed: str | None
    adapters: tuple[str, ...] = ()
    """Methods of the adapters in force, as PEFT names them; they are not merged."""
    quantisation: str | None = None
    hooks: int = 0
    """Forward hooks that its user put on it; they took part in the measurement."""

    def describe(self) -> Json:
        """The `memory` object of a model in run.json."""
        return {
            "weights_sha256": self.weights_sha256,
            "config_sha256": self.config_sha256,
            "tokenizer_sha256": self.tokenizer_sha256,
            "unhashed": self.unhashed,
            "adapters": list(self.adapters),
            "quantisation": self.quantisation,
            "hooks": self.hooks,
        }


@dataclass(frozen=True)
class ModelSource:
    """Where a model's files lie and what they are called."""

    kind: str
    """"hub", "folder", "gguf" or "memory"."""
    id: str
    slug: str
    folder: Path
    revision: str
    """The Hub's commit, or the SHA-256 over the names and hashes of the files; of an adapter, over its revision and its
    base's, so that the same adapter on other weights is another model."""
    files: Files
    """Of an adapter, those of the adapter alone."""
    gguf_file: str | None = None
    adapter: Adapter | None = None
    memory: Memory | None = None
    """Of a model without files, which its user held in memory; `folder` means nothing then."""

    @property
    def origin(self) -> str:
        """The `origin` of a run of this model."""
        return IN_MEMORY if self.memory else MEASURED

    @property
    def weights(self) -> ModelSource:
        """What the architecture and its weights are loaded from: the base of an adapter, otherwise the model itself."""
        return self.adapter.base if self.adapter else self

    @property
    def tokenizer(self) -> ModelSource:
        """What the tokenizer is loaded from: an adapter can bring one with added tokens, and mostly brings none."""
        brings = any(
            name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json") for name, _, _ in self.files
        )
        return self if self.adapter is None or brings else self.adapter.base

    def describe(self) -> Json:
        """What run.json says of where the model came from."""
        document: Json = {
            "id": self.id,
            "slug": self.slug,
            "revision": self.revision,
            "source": self.kind,
            "files": describe_files(self.files),
        }
        if self.memory is not None:
            document["memory"] = self.memory.describe()
        if self.adapter is not None:
            base = self.adapter.base
            document["adapter"] = {
                "method": self.adapter.config.method,
                "revision": self.adapter.revision,
                "base": {
                    "id": base.id,
                    "revision": base.revision,
                    "source": base.kind,
                    "files": describe_files(base.files),
                },
            }
        return document


def describe_files(files: Files) -> list[Json]:
    """Files as run.json lists them."""
    return [{"path": path, "sha256": digest, "bytes": size} for path, digest, size in files]


def resolve_model(text: str, *, trust_remote_code: bool = False, base_revision: str | None = None) -> ModelSource:
    """Find a model's files, downloading them if it is on the Hub, and hash them.

    Args:
        base_revision: which commit of an adapter's base on the Hub to take, instead of what the adapter says.

    Raises:
        InputError: there is no such file, folder or repository, its weights are in an unsafe format, or it is an
            adapter whose base cannot be fetched.
    """
    if text.startswith("gguf:"):
        return _gguf_source(Path(text.removeprefix("gguf:")).expanduser())
    path = Path(text).expanduser()
    if path.is_dir():
        return _with_base(_folder_source(path.resolve()), base_revision)
    if text.startswith((".", "/", "~")) or "\\" in text or text.count("/") > 1:
        raise InputError("no such folder", where=text, hint="give a Hub id, a local folder or gguf:FILE")
    return _with_base(_hub_source(parse_repo(text), trust_remote_code), base_revision)


def hub_name(model: Json) -> str:
    """What MODEL was, for `rh-bench evaluate`, of the `model` of a run on the Hub."""
    adapter = model.get("adapter")
    return f"{model['id']}@{adapter['revision'] if adapter else model['revision']}"


def base_revision(model: Json) -> str | None:
    """Commit of the base of the adapter that the `model` of a run is; None if there is none, or none on the Hub."""
    base = (model.get("adapter") or {}).get("base")
    return base["revision"] if base and base["source"] == "hub" else None


def _hub_source(ref: RepoRef, trust_remote_code: bool) -> ModelSource:
    folder, commit = fetch_model(ref, trust_remote_code=trust_remote_code)
    return ModelSource("hub", ref.repo_id, model_slug(ref.repo_id), folder, commit, _hashes(folder))


def _gguf_source(path: Path) -> ModelSource:
    if not path.is_file():
        raise InputError("no such file", where=f"gguf:{path}", hint="give the path of a .gguf file")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise InputError("this is not a GGUF file", where=path)
    digest = sha256_file(path)
    files = ((path.name, digest, path.stat().st_size),)
    return ModelSource("gguf", f"gguf:{path.name}", model_slug(path.stem), path.parent, digest, files, path.name)


def _folder_source(path: Path) -> ModelSource:
    if not (path / "config.json").is_file() and not (path / ADAPTER_CONFIG).is_file():
        raise InputError("there is no config.json", where=path, hint="give a folder written by save_pretrained")
    if not list(path.glob("*.safetensors")):
        raise InputError("there are no safetensors weights", where=path, hint="convert them; pickle is never loaded")
    files = _hashes(path)
    return ModelSource("folder", path.name, model_slug(path.name), path, _digest(files), files)


def _hashes(folder: Path) -> Files:
    names = sorted({file for pattern in _DESCRIBED for file in folder.glob(pattern) if file.is_file()})
    return tuple((file.name, sha256_file(file), file.stat().st_size) for file in names)


def _digest(files: Files) -> str:
    lines = "".join(f"{digest}  {name}\n" for name, digest, _ in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _with_base(source: ModelSource, base_revision: str | None) -> ModelSource:
    """A model as it is; an adapter with its base.

    As in transformers, a folder that holds a whole model and an adapter is that model with that adapter on top.
    """
    if not (source.folder / ADAPTER_CONFIG).is_file():
        return source
    config = read_adapter_config(source.folder, source.id)
    if not (source.folder / ADAPTER_WEIGHTS).is_file():
        raise InputError(
            f"is an adapter without {ADAPTER_WEIGHTS}",
            where=source.id,
            hint="save it as safetensors; pickle is never loaded",
        )
    own = tuple(file for file in source.files if file[0].startswith("adapter_"))
    rest = tuple(file for file in source.files if not file[0].startswith("adapter_"))
    if (source.folder / "config.json").is_file() and any(name.endswith(".safetensors") for name, _, _ in rest):
        base = replace(source, files=rest, revision=source.revision if source.kind == "hub" else _digest(rest))
        source = replace(source, files=own)
    else:
        base = _base_source(config, source, base_revision)
    revision = source.revision if source.kind == "hub" else _digest(source.files)
    both = hashlib.sha256(f"{revision}\n{base.revision}\n".encode()).hexdigest()
    return replace(source, revision=both, adapter=Adapter(config, revision, base))


def _base_source(config: AdapterConfig, source: ModelSource, revision: str | None) -> ModelSource:
    """The base that an adapter names. What it says is someone's file: an adapter from the Hub reaches the Hub alone,
    and code of a repository that the user did not name is never run.

    Raises:
        InputError: it names none, one that cannot be fetched, or one that is an adapter itself.
    """
    name, hint = config.base, f"name its base in {ADAPTER_CONFIG}: a Hub id or, for a local adapter, a folder"
    if name is None:
        raise InputError(f"{ADAPTER_CONFIG} names no base model", where=source.id, hint=hint)
    folder = _base_folder(name, source.folder) if source.kind == "folder" else None
    if folder is not None:
        base = _folder_source(folder)
    else:
        try:
            ref = parse_repo(name)
        except InputError:
            where = "neither a folder here nor a Hub id" if source.kind == "folder" else "not a Hub id"
            raise InputError(f"its base {shown(name)[:200]!r} is {where}", where=source.id, hint=hint) from None
        base = _hub_source(RepoRef(ref.repo_id, revision or config.base_revision or ref.revision), False)
    if (base.folder / ADAPTER_CONFIG).is_file():
        raise InputError(
            f"its base {shown(base.id)} is itself an adapter", where=source.id, hint="merge it into its base first"
        )
    return base


def _base_folder(name: str, adapter: Path) -> Path | None:
    """The folder that a local adapter names as its base, as PEFT reads it, or else seen from the adapter."""
    if "\0" in name:
        return None
    try:
        path = Path(name).expanduser()
        return next((place.resolve() for place in (path, adapter / path) if place.is_dir()), None)
    except (OSError, RuntimeError):  # a name that is too long, a home that there is not
        return None


def refuse_other_files(source: ModelSource) -> None:
    """Refuse a folder whose own words would have weights loaded from files other than those that were hashed.

    Raises:
        InputError: its index names a file that is missing, no safetensors file or not directly in the folder, or its
            configuration names such a file.
    """
    hashed = {name for name, _, _ in source.files}
    config = load_json(source.folder / "config.json", constant=lambda text: None)
    named = config.get("transformers_weights") if isinstance(config, dict) else None
    if named is not None and not (named in hashed and str(named).endswith((".safetensors", INDEX))):
        raise _other_file(source, "config.json", named)
    index = source.folder / (str(named) if str(named).endswith(".index.json") else INDEX)
    if not index.is_file() or (named is None and "model.safetensors" in hashed):
        return
    document = load_json(index)
    shards = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(shards, dict):
        raise InputError(f"{index.name} has no weight_map of files", where=source.id)
    for shard in shards.values():
        if shard not in hashed or not str(shard).endswith(".safetensors"):
            raise _other_file(source, index.name, shard)


def _other_file(source: ModelSource, name: str, named: object) -> InputError:
    return InputError(
        f"{name} names {shown(named)[:200]!r}, which is not a safetensors file in this folder",
        where=source.id,
        hint="save the model again with save_pretrained",
    )
