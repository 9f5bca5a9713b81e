"""The dataset card of a results repository."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from rh_bench.artifacts.results_repo import DATA
from rh_bench.data_builders.dataset_card import dataset_info, size_category

SPLIT = "train"
_ABOUT = {
    "heads": "a row for each model and head: score by both rules with 95% intervals, rank, activation frequency",
    "models": "a row for each run: what was measured on what, and the leaderboard's numbers with 95% intervals",
    "samples": "a row for each run and sample: where the needle stood, the answer, whether it counts",
    "experiments": "a row for each experiment and claim: verdict, effect with its 95% interval, p, n, level verified",
    "events": "a row for each copy event: sample, layer, head, step, offset in the span",
}


def results_card(out: Path, configs: Mapping[str, pa.Schema], runs: int) -> str:
    """README.md of a results folder whose tables are written."""
    facts = {name: _facts(sorted((out / DATA / name).glob("*.parquet"))) for name in configs}
    metadata: dict[str, Any] = {
        "license": "cc0-1.0",
        "language": ["en"],
        "pretty_name": "rh_bench results: retrieval heads of language models",
        "size_categories": [size_category(sum(rows for rows, _, _ in facts.values()))],
        "task_categories": ["text-generation"],
        "tags": ["retrieval-heads", "interpretability", "long-context", "needle-in-a-haystack", "rh_bench"],
        "configs": [
            {
                "config_name": name,
                **({"default": True} if name == "models" else {}),
                "data_files": [{"split": SPLIT, "path": f"{DATA}/{name}/*.parquet"}],
            }
            for name in configs
        ],
        "dataset_info": [
            dataset_info(name, schema, SPLIT, rows=facts[name][0], memory=facts[name][1], disk=facts[name][2])
            for name, schema in configs.items()
        ],
    }
    front = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{front}---\n\n{_page(facts, runs)}"


def _facts(files: list[Path]) -> tuple[int, int, int]:
    """Rows, bytes uncompressed and bytes on disk, from the footers."""
    footers = [pq.read_metadata(file) for file in files]
    memory = sum(f.row_group(i).total_byte_size for f in footers for i in range(f.num_row_groups))
    return sum(f.num_rows for f in footers), memory, sum(file.stat().st_size for file in files)


def _page(facts: Mapping[str, tuple[int, int, int]], runs: int) -> str:
    rows = "\n".join(f"| `{name}` | {count:,} | {_ABOUT[name]} |" for name, (count, _, _) in facts.items())
    return f"""# Retrieval heads of language models

{runs} runs of [rh_bench](https://github.com/rh-bench/rh-bench): for every attention head of a model, how much of a
needle hidden in a long text it copies into the answer (Wu et al., "Retrieval Head Mechanistically Explains Long-Context
Factuality", ICLR 2025).

```python
from datasets import load_dataset

heads = load_dataset("<this repository>", "heads", split="{SPLIT}")
```

| config | rows | what |
|---|---|---|
{rows}

## Where the numbers come from

`runs/<model>/<run id>/` holds each run as it was submitted, with every copy event, from which all of these numbers can
be computed again (`rh-bench score`). `verification/` holds what a maintainer found when it was taken in: *valid* (well
formed), *recomputed* (the numbers are what the events give, the prompts are those of the set), *rerun* (samples that
the submitter could not choose were measured again and agree). Column `verified` of `models` names the highest. A run is
*attested* where a maintainer saw that a job of the Hub, ordered for it, made it: column `attested` names the job, and
`attestations/` holds the orders. `experiments/`, where there are any, are verified in the same way.

Column `coverage` of `models` says what of its set a run measured, in words in `measured_on`: *whole* (all of its
samples), *part* (some of them), *own* (a grid of lengths and depths of its own). Whoever chooses what is measured can
choose what comes out: rank only rows that say *whole*. `started`, and `seconds` in `samples`, are as claimed by the
submitter; no verification can check them.

Submit a run with `rh-bench submit RUN --repo <this repository>`.

## Limits

Scores depend on the set, its lengths and the protocol: compare rows with equal `manifest_sha256`, `protocol`,
`template` and `dtype` whose `coverage` is *whole*. A
score says how often a head looks at what is being copied. It does not predict what a model can do. Numbers that could
not be computed are null.
"""
