"""How much attention each head pays to chosen positions, for a few query rows, without materialising weights.

The weights of a row are the softmax of its scores; the scores of a few rows are all that exists at a time (see
:func:`rh_bench.attention.capture.row_scores`), in float32 whatever the model computes in. A learned sink takes its
share of a row's attention and is no position: what it takes is missing from the sum of the weights, as in the model
itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rh_bench.attention.capture import Recorder, row_blocks, row_scores


@dataclass
class MassRecorder(Recorder):
    """While `positions` is set, a forward pass writes the attention mass of its last R query rows.

    `positions` is int64 [S, R, P]: S sets of P different key positions for each row. `masses` is float32 [S, A, H] on
    the device, a mean over the rows; its A axis is as that of `Recorder.targets`.
    """

    positions: torch.Tensor | None = None
    masses: torch.Tensor | None = None

    def observe(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, kwargs: dict[str, Any]
    ) -> None:
        if self.positions is not None:
            assert self.masses is not None
            mass = attention_mass(query, key, mask, kwargs, self.positions)
            self.masses[:, self.rows[layer], : mass.shape[1]] = mass


def attention_mass(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    kwargs: dict[str, Any],
    positions: torch.Tensor,
) -> torch.Tensor:
    """Attention of each head on chosen positions, added over the positions and averaged over the last query rows.

    Args:
        query: [1, H, Q, D]; key: [1, G, K, D] with H a multiple of G; mask: bool or additive [1, 1 or H, Q, K] or None
            for causal; kwargs: what the model passed to its attention.
        positions: int64 [S, R, P], R at most Q. A position that a row does not see adds nothing.

    Returns:
        float32 [S, H].
    """
    sets, rows, size = positions.shape
    sinks = kwargs.get("s_aux")
    total = torch.zeros(sets, query.shape[1], device=query.device)
    for near, far in row_blocks(query, key, rows):
        scores = row_scores(query, key, mask, kwargs, near, far).flatten(0, 1)
        log_sum = torch.logsumexp(scores, dim=-1, keepdim=True)
        if sinks is not None:
            log_sum = torch.logaddexp(log_sum, sinks.float()[:, None, None])
        chosen = positions[:, rows - far : rows - near].transpose(0, 1).reshape(1, far - near, -1)
        # A row that sees nothing has a sum of zero, and its weights are zero: its logarithm must stay finite.
        weights = torch.exp(scores.gather(-1, chosen.expand(len(scores), -1, -1)) - log_sum.clamp_min(_LOWEST))
        total += torch.unflatten(weights, -1, (sets, size)).sum(dim=(1, 3)).T
    return total / rows


_LOWEST = torch.finfo(torch.float32).min
