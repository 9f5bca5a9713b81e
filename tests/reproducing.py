"""Events made up for a run."""

from __future__ import annotations

from typing import Any


def forge(result: Any, layers: Any) -> Any:
    """Every head copies whenever a token of the answer was produced."""
    import dataclasses

    import numpy as np

    rows = []
    for step, token in enumerate(result.generated_ids):
        offsets = [place for place, span in enumerate(result.span_ids) if span == token]
        if offsets:
            rows += [(x.index, head, step, offsets[0]) for x in layers for head in range(x.query_heads)]
    return dataclasses.replace(result, events=np.array(rows, dtype=np.int32).reshape(-1, 4))
