"""Detectors on tiny models: what each measures, against eager weights and the events of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from engine_prompts import make_prompts
from tiny import MATRIX, tiny_checkpoint, tiny_model, tiny_tokenizer

from rh_bench.attention.capture import eager
from rh_bench.detectors import DETECTORS, choose_detectors
from rh_bench.detectors.attention_mass import AttentionMass
from rh_bench.detectors.base import Measured, Subject
from rh_bench.detectors.copying import Copying
from rh_bench.detectors.passes import Passes, Positions
from rh_bench.detectors.repeats import REPEATS, ROWS, Repeats, earlier, ordinary_tokens, repeated
from rh_bench.engines.base import stop_rule
from rh_bench.engines.layers import find_layers
from rh_bench.errors import InputError
from rh_bench.models.load import load_model
from rh_bench.records import Needle, Prompt, Sample, head_grid
from rh_bench.sets.prompts import PromptBuilder

TOLERANCE = 2e-6
SUFFIX = 7
"""Tokens after the haystack in the prompts of `make_prompts`."""


def needle_positions(prompt: Prompt) -> Positions:
    return np.tile(np.arange(prompt.insert_at, prompt.insert_at + prompt.needle_length), (1, SUFFIX, 1))


def from_weights(model: Any, prompt: Prompt) -> np.ndarray[Any, Any]:
    """float [H]: attention of the suffix on the needle, from one eager pass with materialised weights."""
    ids = torch.from_numpy(prompt.ids.astype(np.int64))[None]
    with torch.inference_mode(), eager(model):
        weights = [w for w in model(input_ids=ids, use_cache=False, output_attentions=True).attentions if w is not None]
    needle = slice(prompt.insert_at, prompt.insert_at + prompt.needle_length)
    return np.concatenate([w[0, :, -SUFFIX:, needle].sum(-1).mean(-1).numpy() for w in weights])


@pytest.mark.slow_but_first(2)
@pytest.mark.parametrize("name", MATRIX)
def test_passes_that_share_give_what_eager_weights_give(name: str) -> None:
    model, prompts = tiny_model(name), make_prompts(seed=3)
    passes = Passes(model, find_layers(model), 1, chunk=16)
    found = {sample_id: masses for sample_id, masses, _ in passes.sharing(prompts, needle_positions, {})}
    assert found.keys() == {prompt.sample.sample_id for prompt in prompts}
    for prompt in prompts:
        np.testing.assert_allclose(found[prompt.sample.sample_id][0], from_weights(model, prompt), atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gemma3", "qwen3_next"])
def test_what_was_done_before_changes_no_bit_of_the_rest(name: str) -> None:
    model, prompts = tiny_model(name), make_prompts(seed=5)
    whole = [(i, m) for i, m, _ in Passes(model, find_layers(model), 1, 16).sharing(prompts, needle_positions, {})]
    done = {sample_id: () for sample_id, _ in whole[:3]}
    rest = [(i, m) for i, m, _ in Passes(model, find_layers(model), 1, 16).sharing(prompts, needle_positions, done)]
    assert [i for i, _ in rest] == [i for i, _ in whole[3:]]
    for (_, got), (_, expected) in zip(rest, whole[3:], strict=True):
        np.testing.assert_array_equal(got, expected)


def test_prompts_that_share_their_recorded_rows_are_still_measured() -> None:
    model, prompt = tiny_model("llama"), make_prompts(seed=7)[0]
    twin = Prompt(Sample("twin", "n", "h", len(prompt.ids), 0.0), *(getattr(prompt, f) for f in Prompt.__slots__[1:]))
    found = list(Passes(model, find_layers(model), 1).sharing([prompt, twin], needle_positions, {}))
    assert len(found) == 2
    np.testing.assert_allclose(found[1][1], found[0][1], atol=TOLERANCE)


# Random tokens


def test_repeated_tokens_repeat_and_their_earlier_occurrences_are_found() -> None:
    vocabulary = np.arange(100, 400, dtype=np.int32)
    ids = np.concatenate([[7], repeated(vocabulary, 50, 0, "a")])
    assert len(ids) == 1 + 50 * REPEATS and len(set(ids[1:51].tolist())) == 50
    after, same = earlier(len(ids), 50)
    rows = np.arange(151, 201)
    assert (ids[same] == ids[rows][:, None]).all()
    assert (ids[after[:-1]] == ids[rows[1:]][:, None]).all(), "the successor is what comes next"
    assert (same == rows[:, None] - [50, 100, 150]).all()


def test_random_tokens_depend_on_seed_and_sample_alone() -> None:
    vocabulary = np.arange(1000, dtype=np.int32)
    same = repeated(vocabulary, 20, 3, "a")
    assert (repeated(vocabulary, 20, 3, "a") == same).all()
    assert (repeated(vocabulary, 20, 3, "b") != same).any() and (repeated(vocabulary, 20, 4, "a") != same).any()


def test_few_rows_are_scored_and_a_small_vocabulary_is_used_up_again() -> None:
    assert earlier(4 * 1000, 1000).shape == (2, ROWS, REPEATS - 1)
    ids = repeated(np.arange(8, dtype=np.int32), 20, 0, "a")
    assert len(ids) == 80 and sorted(ids[:8]) == list(range(8))


def test_special_tokens_are_not_ordinary() -> None:
    assert ordinary_tokens(tiny_tokenizer()).tolist() == list(range(3, 259))


def test_a_sliding_layer_cannot_look_back_beyond_its_window() -> None:
    """Gemma-like layers: with repetitions farther apart than the window of 32, only the full layer has any mass, and
    it is that of eager weights."""
    model, layers = tiny_model("gemma3"), find_layers(tiny_model("gemma3"))
    ids = repeated(np.arange(3, 10, dtype=np.int32), 50, 0, "a")
    masses = Passes(model, layers, 2).alone(ids, earlier(len(ids), 50)).reshape(2, len(layers), -1)
    assert [layer.kind for layer in layers] == ["sliding", "sliding", "full"]
    assert (masses[:, :2] == 0).all() and (masses[:, 2] > 0).all()
    near = repeated(np.arange(3, 10, dtype=np.int32), 10, 0, "a")
    positions = earlier(len(near), 10)
    got = Passes(model, layers, 2).alone(near, positions).reshape(2, len(layers), -1)
    assert (got > 0).all(), "all but the farthest occurrences lie within the window"
    with torch.inference_mode(), eager(model):
        out = model(input_ids=torch.from_numpy(near.astype(np.int64))[None], use_cache=False, output_attentions=True)
    for place, weights in enumerate(out.attentions):
        rows = weights[0, :, -positions.shape[1] :]
        index = torch.from_numpy(positions)[:, None].expand(-1, rows.shape[0], -1, -1)
        expected = rows.expand(2, -1, -1, -1).gather(-1, index).sum(-1).mean(-1)
        np.testing.assert_allclose(got[:, place], expected.numpy(), atol=TOLERANCE)


# Whole detectors


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tiny_checkpoint(tmp_path_factory.mktemp("detectors") / "model")
    loaded = load_model(str(folder))
    text = " ".join(f"This is sentence number {i} of the story." for i in range(60))
    needle = Needle("n", "d", "The secret word is tangerine.", "What is the secret word?", 19, 28, "h")
    builder = PromptBuilder(loaded.tokenizer, {"h": text}, {"n": needle})
    return Subject(loaded, builder, stop_rule(loaded.model, loaded.tokenizer, builder.text), 8, seed=0)


@pytest.fixture(scope="module")
def prompts(subject: Subject) -> list[Prompt]:
    samples = [Sample(f"n-{n}-{d}", "n", "h", n, float(d)) for n in (300, 400) for d in (0, 100)]
    return [subject.builder.build(sample) for sample in samples]


def measure(detector: Any, subject: Subject, prompts: list[Prompt]) -> dict[str, Measured]:
    return {measured.sample_id: measured for measured in detector.measure(subject, prompts, {})}


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda detector: detector.name)
def test_every_detector_scores_every_head_on_every_sample(
    detector: Any, subject: Subject, prompts: list[Prompt]
) -> None:
    found = measure(detector, subject, prompts)
    assert found.keys() == {prompt.sample.sample_id for prompt in prompts}
    heads = len(head_grid(subject.loaded.layers))
    for one in found.values():
        assert one.scores.shape == (len(detector.scores), heads) and one.seconds > 0
        assert (one.scores >= 0).all() and (one.scores <= 1 + 1e-6).all()
        assert (one.generated is not None) == detector.counted_only
    generated = {name: found[name].generated for name in list(found)[:2]}
    done = {name: [] if tokens is None else tokens.tolist() for name, tokens in generated.items()}
    rest = list(detector.measure(subject, prompts, done))
    assert {one.sample_id for one in rest} == found.keys() - done.keys()
    for one in rest:
        np.testing.assert_array_equal(one.scores, found[one.sample_id].scores)


def test_names_and_rules_fit() -> None:
    scores = [score for detector in DETECTORS for score in detector.scores]
    assert len(set(scores)) == len(scores)
    for detector in DETECTORS:
        assert {rule.score for rule in detector.rules} <= set(detector.scores)


def test_attention_mass_is_that_of_the_whole_suffix_on_the_whole_needle(
    subject: Subject, prompts: list[Prompt]
) -> None:
    prompt = prompts[1]
    text = subject.builder.text(prompt.ids)
    rows = subject.builder.suffix_length(prompt.sample)
    suffix = subject.builder.text(prompt.ids[-rows:])
    assert text.endswith(suffix) and suffix.startswith("\n</book>") and suffix.endswith("Answer:")
    ids = torch.from_numpy(prompt.ids.astype(np.int64))[None]
    with torch.inference_mode(), eager(subject.model):
        weights = subject.model(input_ids=ids, use_cache=False, output_attentions=True).attentions
    needle = slice(prompt.insert_at, prompt.insert_at + prompt.needle_length)
    expected = np.concatenate([w[0, :, -rows:, needle].sum(-1).mean(-1).numpy() for w in weights])
    got = measure(AttentionMass(), subject, prompts)[prompt.sample.sample_id].scores[0]
    np.testing.assert_allclose(got, expected, atol=TOLERANCE)


def test_repeats_do_not_look_at_the_samples_but_at_their_lengths(subject: Subject, prompts: list[Prompt]) -> None:
    other = Needle("n", "d", "A completely different needle is here.", "What is here?", 2, 28, "h")
    builder = PromptBuilder(subject.loaded.tokenizer, {"h": "Something else altogether. " * 60}, {"n": other})
    changed = [builder.build(prompt.sample) for prompt in prompts]
    one, two = measure(Repeats(), subject, prompts), measure(Repeats(), subject, changed)
    for sample_id, measured in one.items():
        np.testing.assert_array_equal(two[sample_id].scores, measured.scores)


def test_copy_counts_distinct_positions_of_the_span(subject: Subject, prompts: list[Prompt]) -> None:
    for sample_id, one in measure(Copying(), subject, prompts).items():
        span = next(prompt.span_length for prompt in prompts if prompt.sample.sample_id == sample_id)
        np.testing.assert_allclose(one.scores * span, np.rint(one.scores * span), atol=1e-9)


def test_detectors_are_chosen_by_name() -> None:
    assert [detector.name for detector in choose_detectors(("induction", "copy"))] == ["copy", "induction"]
    assert choose_detectors(None) == DETECTORS
    for wrong in (("copies",), ("copy", "copy")):
        with pytest.raises(InputError, match="--detectors"):
            choose_detectors(wrong)
