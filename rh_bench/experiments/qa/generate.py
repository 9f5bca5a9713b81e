"""Greedy generation in batches, by transformers' own ``generate``, each row with its own heads removed.

Prompts are padded on the left. A row ends at an end-of-sequence token or where a stop text appears, and a batch ends as
soon as all its rows have. A batch that does not fit in memory is halved, and so are those after it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from rh_bench.attention.ablation import Head, Phase, ablate_rows
from rh_bench.errors import InputError
from rh_bench.models.load import LoadedModel
from rh_bench.prompting.chat import ChatTemplate
from rh_bench.prompting.stopping import stop_rule
from rh_bench.prompting.vocabulary import embedding_rows
from rh_bench.records import IntArray
from rh_bench.system.memory import available_memory, model_shape, plan_memory

MOST_ROWS = {"cuda": 256, "cpu": 16}
"""Rows of a batch where memory is plenty: more are no faster."""
_RESERVED = 0.85
"""Share of the free memory that batches are planned for."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What a prompt was continued with."""

    ids: tuple[int, ...]
    """Without the end-of-sequence token."""
    finished: bool
    """It ended by itself, or at a stop text, rather than at the limit of tokens."""


class Generator:
    """Continues prompts with one model.

    Args:
        loaded: the model.
        stop: texts at which a row ends; ASCII.
        phase: in which rows heads are removed, see `rh_bench.attention.ablation.ablate`.
        chat: the chat template that the prompts are written with, if any: a row ends where its turn does, too.
    """

    def __init__(
        self, loaded: LoadedModel, stop: Sequence[str], phase: Phase = "both", chat: ChatTemplate | None = None
    ) -> None:
        self._model, self._tokenizer = loaded.model, loaded.tokenizer
        self._stop, self._phase = tuple(stop), phase
        self.rule = stop_rule(loaded.model, loaded.tokenizer, None, chat)
        """Which tokens end a row."""
        self._eos = sorted(self.rule.ends)
        self._most: int | None = None
        """Rows of the largest batch that fitted, once one did not."""

    def run(
        self, prompts: Sequence[IntArray], heads: Sequence[Collection[Head]], max_new_tokens: int
    ) -> list[Generated]:
        """Continue prompts, one set of removed heads each.

        Raises:
            InputError: not even one row fits in memory.
        """
        size = min(len(prompts), self._most or len(prompts))
        done: list[Generated] = []
        while len(done) < len(prompts):
            rows = slice(len(done), len(done) + size)
            found = self._try(prompts[rows], heads[rows], max_new_tokens)
            if found is None:
                if size == 1:
                    raise InputError(
                        f"a prompt of {len(prompts[len(done)])} tokens does not fit",
                        where="memory",
                        hint="give fewer --shots",
                    )
                self._most = size = max(1, size // 2)
                continue
            done += found
        return done

    def _pad(self) -> int:
        """A token to fill rows with. It is masked, but must have an embedding: one that was added may have none."""
        rows = embedding_rows(self._model)
        known = (self._tokenizer.pad_token_id, *self._eos)
        return next((int(i) for i in known if i is not None and (rows is None or i < rows)), 0)

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _try(
        self, prompts: Sequence[IntArray], heads: Sequence[Collection[Head]], max_new_tokens: int
    ) -> list[Generated] | None:
        """One batch; None if memory is not enough."""
        try:
            return self._batch(prompts, heads, max_new_tokens)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
        # Here the traceback, which holds the tensors of the batch, is gone.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None

    def _batch(
        self, prompts: Sequence[IntArray], heads: Sequence[Collection[Head]], max_new_tokens: int
    ) -> list[Generated]:
        width = max(map(len, prompts))
        pad = self._pad()
        ids = torch.full((len(prompts), width), pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.from_numpy(prompt.astype("int64"))
            mask[row, width - len(prompt) :] = 1
        ends = _Ends(self._decode, self._stop, self._eos, width, len(prompts))
        config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            eos_token_id=self._eos or None,
            pad_token_id=pad,
            use_cache=True,
        )
        with torch.inference_mode(), _only(self._model, config), ablate_rows(self._model, heads, phase=self._phase):
            out = self._model.generate(
                input_ids=ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                generation_config=config,
                stopping_criteria=StoppingCriteriaList([ends]),
            )
        return [ends.row(row, tokens) for row, tokens in enumerate(out[:, width:].tolist())]


class _Ends(StoppingCriteria):  # type: ignore[misc]
    """Notes where each row ends, and stops those that do.

    Only a token that holds the last character of a stop text can complete it, so that few rows are decoded. What stands
    before the first word is no part of a response: an empty line there ends nothing.
    """

    def __init__(
        self, decode: Callable[[list[int]], str], stop: Sequence[str], eos: Sequence[int], width: int, rows: int
    ) -> None:
        self._decode, self._stop, self._eos, self._width = decode, stop, frozenset(eos), width
        self._ends: list[int | None] = [None] * rows
        """Tokens of each row that has ended, an end-of-sequence token not counted."""
        self._last = {text[-1] for text in stop}
        self._completes: dict[int, bool] = {}

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        made = input_ids.shape[1] - self._width
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if self._ends[row] is not None:
                continue
            if token in self._eos:
                self._ends[row] = made - 1
            elif self._may_complete(token):
                text = self._decode(input_ids[row, self._width :].tolist()).lstrip()
                if any(stop in text for stop in self._stop):
                    self._ends[row] = made
        return torch.tensor([end is not None for end in self._ends], device=input_ids.device)

    def row(self, row: int, tokens: list[int]) -> Generated:
        """A row of what was generated, padding and all."""
        end = self._ends[row]
        return Generated(tuple(tokens if end is None else tokens[:end]), end is not None)

    def _may_complete(self, token: int) -> bool:
        if token not in self._completes:
            self._completes[token] = any(char in self._last for char in self._decode([token]))
        return self._completes[token]


@contextmanager
def _only(model: Any, config: GenerationConfig) -> Iterator[None]:
    """Inside the block, `config` is all that ``generate`` goes by: it would fill what is not set there with the model's
    own settings, penalties and the like."""
    before = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = before


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def rows_that_fit(loaded: LoadedModel, positions: int) -> int:
    """Rows of a batch, an estimate on the safe side, for prompts with their answers of up to `positions` tokens."""
    most = MOST_ROWS.get(loaded.device, MOST_ROWS["cpu"])
    available = available_memory(loaded.model.device)
    if available is None:
        return most
    shape = model_shape(loaded.model.config, 0)
    width: int = next(loaded.model.parameters()).element_size()
    plan, least = (plan_memory(shape, width, count, loaded.device, None) for count in (positions, 1))
    # A cache that grows exists twice while it is copied. What a single position needs is there once for all rows.
    a_row = 2 * plan.cache + plan.workspace - least.workspace + shape.vocabulary * (width + 4)
    return max(1, min(most, int(available * _RESERVED - least.workspace) // a_row))
