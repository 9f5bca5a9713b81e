"""Greedy generation in batches: the tokens of one prompt alone, and each row with its own heads removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import MATRIX, random_ids, tiny_checkpoint, tiny_model, tiny_tokenizer

from rh_bench.attention.ablation import ablate
from rh_bench.engines.layers import find_layers
from rh_bench.errors import InputError
from rh_bench.experiments.qa.generate import Generator, rows_that_fit
from rh_bench.models.load import LoadedModel, ModelSource, load_model

LENGTHS = (40, 7, 23, 12)


def loaded(name: str, seed: int = 0) -> LoadedModel:
    model = tiny_model(name, seed)
    source = ModelSource("folder", name, name, Path(), "0" * 64, ())
    return LoadedModel(model, tiny_tokenizer(), source, find_layers(model), "float32", "cpu", "a processor")


def alone(one: LoadedModel, ids: Any, steps: int, heads: Any = ()) -> list[int]:
    """Greedy decoding by hand, without a cache, a batch or padding."""
    tokens, eos = [int(i) for i in ids], 2
    with torch.inference_mode(), ablate(one.model, heads):
        for _ in range(steps):
            token = int(one.model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax())
            if token == eos:
                break
            tokens.append(token)
    return tokens[len(ids) :]


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("name", MATRIX)
def test_rows_of_a_batch_are_as_if_alone(name: str) -> None:
    one = loaded(name)
    prompts = [random_ids(length, seed) for seed, length in enumerate(LENGTHS)]
    sets = [(), ((1, 1), (1, 3)), ((1, 0),), ((1, 0), (1, 1), (1, 2))]
    found = Generator(one, ()).run(prompts, sets, 12)
    assert [list(row.ids) for row in found] == [
        alone(one, ids, 12, heads) for ids, heads in zip(prompts, sets, strict=True)
    ]
    assert [row.finished for row in found] == [len(row.ids) < 12 for row in found]
    if name == "llama":
        plain = Generator(one, ()).run(prompts, [()] * 4, 12)
        assert plain[0] == found[0] and plain != found, "removing heads changes what is generated"


def test_what_the_models_own_settings_ask_for_is_left_out_and_kept() -> None:
    one = loaded("qwen2")
    ids = random_ids(20, 3)
    before = Generator(one, ()).run([ids], [()], 10)
    own = one.model.generation_config
    own.repetition_penalty, own.do_sample, own.temperature, own.max_length = 5.0, True, 9.0, 3
    assert Generator(one, ()).run([ids], [()], 10) == before
    assert one.model.generation_config is own and own.repetition_penalty == 5.0


@pytest.fixture(scope="module")
def bytes_model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A model over bytes, so that what it generates is text."""
    return load_model(str(tiny_checkpoint(tmp_path_factory.mktemp("generate") / "model")))


def encode(text: str) -> Any:
    return np.asarray(tiny_tokenizer()(text)["input_ids"], dtype=np.int32)


@pytest.mark.slow
def test_a_row_ends_at_a_stop_text(bytes_model: LoadedModel) -> None:
    prompts = [encode("What is it? "), encode("And that one there? ")]
    whole = Generator(bytes_model, ()).run(prompts, [(), ()], 40)
    text = tiny_tokenizer().decode(list(whole[0].ids))
    printable = [i for i in range(4, len(text) - 1) if text[i : i + 2].isascii() and text[i : i + 2].strip()]
    stop = text[printable[0] : printable[0] + 2]
    cut = Generator(bytes_model, (stop, "never")).run(prompts, [(), ()], 40)
    assert cut[0].finished and cut[0].ids == whole[0].ids[: len(cut[0].ids)]
    assert tiny_tokenizer().decode(list(cut[0].ids)).count(stop) == 1
    assert tiny_tokenizer().decode(list(cut[0].ids)).endswith(stop)
    if stop not in tiny_tokenizer().decode(list(whole[1].ids)):
        assert cut[1] == whole[1], "the other row goes on"


def test_empty_lines_before_the_first_word_end_nothing() -> None:
    from rh_bench.experiments.qa.generate import _Ends

    tokenizer = tiny_tokenizer()
    ends = _Ends(lambda ids: str(tokenizer.decode(ids)), ("\n",), (2,), 3, 2)
    rows = [[9, 9, 9, *encode("\n\nyes\nno").tolist()], [9, 9, 9, *encode("yes\n").tolist(), 2, 0, 0, 0]]
    stopped = [ends(torch.tensor([row[: 3 + made] for row in rows]), None).tolist() for made in range(1, 8)]
    assert [row[0] for row in stopped] == [False] * 5 + [True] * 2
    assert [row[1] for row in stopped] == [False] * 3 + [True] * 4
    assert tokenizer.decode(ends.row(0, rows[0][3:]).ids) == "\n\nyes\n"
    assert tokenizer.decode(ends.row(1, rows[1][3:]).ids) == "yes\n"


def crowded(most: int, seen: list[int]) -> Any:
    """A hook that makes passes over more rows than `most` run out of memory."""

    def hook(_: Any, args: Any, kwargs: Any) -> None:
        rows = len(kwargs["input_ids"])
        seen.append(rows)
        if rows > most:
            raise torch.OutOfMemoryError("no memory for so many rows")

    return hook


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_halved() -> None:
    one = loaded("llama")
    prompts = [random_ids(length, seed) for seed, length in enumerate((*LENGTHS, 9, 30, 11))]
    expected = Generator(one, ()).run(prompts, [()] * 7, 8)
    seen: list[int] = []
    handle = one.model.register_forward_pre_hook(crowded(2, seen), with_kwargs=True)
    try:
        generator = Generator(one, ())
        assert generator.run(prompts, [()] * 7, 8) == expected
        assert seen[:2] == [7, 3] and max(seen[2:]) == 1
        del seen[:]
        assert generator.run(prompts, [()] * 7, 8) == expected and max(seen) == 1, "it stays small"
    finally:
        handle.remove()
    handle = one.model.register_forward_pre_hook(crowded(0, seen), with_kwargs=True)
    try:
        with pytest.raises(InputError, match="a prompt of 40 tokens does not fit"):
            Generator(one, ()).run(prompts, [()] * 7, 8)
    finally:
        handle.remove()


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    one = loaded("llama")

    def hook(*_: Any) -> None:
        raise RuntimeError("something else")

    handle = one.model.register_forward_pre_hook(hook)
    try:
        with pytest.raises(RuntimeError, match="something else"):
            Generator(one, ()).run([random_ids(5, 0)], [()], 3)
    finally:
        handle.remove()


def test_rows_are_planned_by_memory(bytes_model: LoadedModel) -> None:
    few, many = rows_that_fit(bytes_model, 200_000_000), rows_that_fit(bytes_model, 10)
    assert few == 1 and 1 <= many <= 16
