"""The dataset card of a haystack set: YAML that the Hub and `load_dataset` read, and a page for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import yaml

from rh_bench.records import Json

DEFAULT_CONFIG = "samples"
SPLIT = "test"

_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
    (10**9, "100M<n<1B"),
    (10**10, "1B<n<10B"),
    (10**11, "10B<n<100B"),
    (10**12, "100B<n<1T"),
)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The one Parquet file of a config."""

    path: str
    table: pa.Table
    bytes: int


def dataset_card(manifest: Json, configs: Mapping[str, ConfigFile]) -> str:
    """README.md of a set.

    Args:
        manifest: the manifest without `files`.
        configs: file by config name.
    """
    front = yaml.safe_dump(_metadata(manifest, configs), sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{front}---\n\n{_page(manifest, configs)}"


def _metadata(manifest: Json, configs: Mapping[str, ConfigFile]) -> dict[str, Any]:
    licence = manifest["source"]["licence"].lower()
    ordered = dict(sorted(configs.items()))
    return {
        "license": licence if licence in ("cc0-1.0", "mit", "apache-2.0", "cc-by-4.0", "cc-by-sa-4.0") else "unknown",
        "language": ["en"],
        "pretty_name": f"rh_bench needle-in-a-haystack set: {manifest['name']}",
        "size_categories": [size_category(manifest["counts"]["samples"])],
        "task_categories": ["text-generation", "question-answering"],
        "tags": ["needle-in-a-haystack", "long-context", "retrieval-heads", "interpretability", "rh_bench"],
        "configs": [
            {
                "config_name": name,
                **({"default": True} if name == DEFAULT_CONFIG else {}),
                "data_files": [{"split": SPLIT, "path": file.path}],
            }
            for name, file in ordered.items()
        ],
        "dataset_info": [
            dataset_info(
                name, file.table.schema, SPLIT, rows=file.table.num_rows, memory=file.table.nbytes, disk=file.bytes
            )
            for name, file in ordered.items()
        ],
    }


def dataset_info(config: str, schema: pa.Schema, split: str, *, rows: int, memory: int, disk: int) -> dict[str, Any]:
    """Features and sizes in the form of the `datasets` library, which writes them itself.

    Args:
        memory, disk: bytes of the config uncompressed, and as its files.
    """
    from datasets import Features, SplitDict, SplitInfo
    from datasets.info import DatasetInfo

    splits = SplitDict()
    splits.add(SplitInfo(split, num_bytes=memory, num_examples=rows))
    features = Features.from_arrow_schema(schema)
    info = DatasetInfo(features=features, splits=splits, download_size=disk, dataset_size=memory)
    return {"config_name": config, **info._to_yaml_dict()}


def size_category(rows: int) -> str:
    """The Hub's word for a number of rows."""
    return next((label for limit, label in _SIZES if rows < limit), "n>1T")


def _page(manifest: Json, configs: Mapping[str, ConfigFile]) -> str:
    source, grid, counts = manifest["source"], manifest["grid"], manifest["counts"]
    rows = "\n".join(f"| `{name}` | {file.table.num_rows} | {_ABOUT[_kind(name)]} |" for name, file in configs.items())
    lengths, depths = grid["lengths"], grid["depths"]
    revision = f" at `{source['revision']}`" if source["revision"] else ""
    return f"""# {manifest["name"]}

A needle-in-a-haystack set for measuring *retrieval heads* with [rh_bench](https://github.com/rh-bench/rh-bench):
{counts["needles"]} needles × {len(lengths)} context lengths ({lengths[0]} to {lengths[-1]} tokens) × {len(depths)}
depths = {counts["samples"]} samples.

```python
from datasets import load_dataset

needles = load_dataset("<this repository>", "needles", split="{SPLIT}")
```

| config | rows | what |
|---|---|---|
{rows}

Lengths are tokens of the model's own tokenizer, so a sample becomes a prompt only with one: `rh-bench evaluate` does
it, and a config `prompts-<tokenizer>`, where there is one, holds the result.

## Where the text comes from

Source: {source["kind"]}, `{source["id"]}`{revision}, licence {source["licence"]}. `manifest.json` has the seed and the
SHA-256 of every file; building again with the same versions gives the same bytes.

## Limits

Needles are single English sentences whose answer is copied word for word, so the set measures verbatim retrieval. It
says nothing about reasoning over long contexts, and scores of heads measured on it do not predict what a model can do.
"""


_ABOUT = {
    "needles": "the sentence to hide, its question, and where the answer stands in it",
    "haystacks": "the long texts",
    "samples": "which needle at which context length and depth",
    "prompts": "ready-made token ids and text for one tokenizer",
}


def _kind(config: str) -> str:
    return config.partition("-")[0]
