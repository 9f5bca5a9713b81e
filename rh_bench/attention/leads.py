"""By how much a head looks where it looks: how far chosen positions stand below the best one, in units of the scores.

Whether a head has a copy event at a step is the sign of a difference: its best score among the positions that would
make one, less its best score elsewhere. How large that difference is says whether rounding could have turned it, which
the arg-max alone does not (:mod:`rh_bench.verification.judging`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rh_bench.attention.capture import Recorder, row_blocks, row_scores, sink_scores

_FLOOR = -1e9
"""Stands for minus infinity, in what leaves this module: a position that a row does not see."""


@dataclass
class LeadRecorder(Recorder):
    """While `count` is set, a forward pass writes how its last R rows score `positions`.

    `positions` is int64 [R, P] on the device, positions of the whole sequence, -1 where there are fewer than P.
    `inside` is float32 [R, P, A, H]: the score of each position less the best score of its row; `outside` is float32
    [R, A, H]: the best score among all other positions (an attention sink counts as one) less the best of all. The A
    axis is as that of `Recorder.targets`.
    """

    positions: torch.Tensor | None = None
    inside: torch.Tensor | None = None
    outside: torch.Tensor | None = None

    def observe(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, kwargs: dict[str, Any]
    ) -> None:
        if not self.count or self.positions is None:
            return
        assert self.inside is not None and self.outside is not None
        dropped = 0 if self.end is None else self.end - key.shape[2]
        place, heads, done = self.rows[layer], query.shape[1], 0
        for near, far in row_blocks(query, key, self.count):
            scores = row_scores(query, key, mask, kwargs, near, far).flatten(0, 1)
            rows = slice(done, done + far - near)
            inside, outside = leads(scores, self.positions[rows] - dropped, sink_scores(kwargs, near, far))
            self.inside[rows, :, place, :heads] = inside.permute(1, 2, 0)
            self.outside[rows, place, :heads] = outside.T
            done = rows.stop


def leads(scores: torch.Tensor, chosen: torch.Tensor, sink: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """How far chosen keys, and the best of all others, stand below the best.

    Args:
        scores: float32 [H, R, K], as they go into the softmax (or the logarithms of weights).
        chosen: int64 [R, P], indices into the keys; negative ones choose nothing.
        sink: [H, 1 or R], scores of attention sinks, or None.

    Returns:
        float32 [H, R, P] and [H, R], neither above 0.
    """
    keys = scores.shape[2]
    there = (chosen >= 0) & (chosen < keys)
    index = chosen.clamp(0, keys - 1)
    inside = scores.gather(2, index[None].expand(len(scores), -1, -1)).masked_fill(~there[None], _FLOOR)
    hidden = torch.zeros(scores.shape[1:], dtype=torch.int32, device=scores.device)
    hidden.scatter_add_(1, index, there.to(torch.int32))
    outside = scores.masked_fill((hidden > 0)[None], _FLOOR).amax(dim=-1)
    if sink is not None:
        outside = torch.maximum(outside, sink.expand_as(outside))
    best = torch.maximum(outside, inside.amax(dim=-1)) if chosen.shape[1] else outside
    return (inside - best[..., None]).clamp_min(_FLOOR), (outside - best).clamp_min(_FLOOR)
