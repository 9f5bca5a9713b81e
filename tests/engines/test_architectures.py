"""A representative part of the sweep over all types of models: through the loader, against transformers itself.

The whole sweep is `python -m benchmarks.architectures`, and docs/architectures.md its table.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.architectures.check import EXACT, NOT_BUILT, REFUSED, ROPE, Row, check_default_memory, check_type
from benchmarks.architectures.page import write_page
from benchmarks.architectures.truth import Truth, differing

PLAIN = (
    "apertus",
    "bamba",  # recurrent layers; it counts positions from zero in each call unless it is told
    "bart",
    "bloom",  # computes attention by itself, with a bias by distance
    "codegen",
    "cohere2",
    "deepseek_v3",  # latent attention: keys and values of other widths
    "falcon",
    "falcon_h1",  # attention and a recurrent state in one layer
    "gemma3_text",
    "glm4",
    "gpt2",
    "gpt_bigcode",  # one key/value head
    "gpt_neo",  # sliding windows in attention of its own
    "gpt_neox",
    "gptj",
    "granite_swa",  # attention sinks that its weights do not show
    "granitemoehybrid",
    "jamba",
    "lfm2",
    "llama4_text",  # chunked attention
    "ministral",
    "minimax",  # a cache of its own
    "mixtral",
    "modernbert-decoder",
    "mpt",
    "olmo2",
    "opt",
    "qwen3_moe",
    "qwen3_next",
    "smollm3",
    "stablelm",
    "starcoder2",
    "xglm",
)
SCALED = ("gemma3_text", "gpt_oss", "llama", "phi3", "phimoe")
"""Rotary factors a layer type, attention sinks, plain, and two that start over when the window is outgrown."""
REFUSALS = {
    "bert": "read text in both directions",
    "deepseek_v32": "indices",
    "diffllama": "2 times",
    "mamba": "no attention that can be seen",
    "moshi": "its cache keeps only the last 24",
    "recurrent_gemma": "does not pass a key/value cache",
    "zamba2": "2 times",  # one attention block for several layers
}


@pytest.mark.slow
@pytest.mark.parametrize("model_type", PLAIN)
def test_exact(model_type: str) -> None:
    rows = list(check_type(model_type, ropes=()))
    assert [(row.state, row.reason) for row in rows] == [(EXACT, "")]
    assert rows[0].events, "without copy events nothing is shown"


@pytest.mark.slow
@pytest.mark.parametrize("model_type", SCALED)
def test_exact_with_every_scaled_rotary_embedding(model_type: str) -> None:
    rows = list(check_type(model_type))
    assert {row.state for row in rows} == {EXACT}, [row.reason for row in rows]
    assert sum(row.events for row in rows) > 0, "without copy events nothing is shown"
    expected = {"longrope"} if model_type == "phi3" else set(ROPE)  # the only kind that its configuration takes
    assert {row.rope for row in rows} - {""} >= expected - {"dynamic"}


@pytest.mark.slow
@pytest.mark.parametrize("model_type", REFUSALS)
def test_refused_in_one_line(model_type: str) -> None:
    row = next(check_type(model_type, ropes=()))
    assert row.state == REFUSED and REFUSALS[model_type] in row.reason and "\n" not in row.reason


@pytest.mark.parametrize("model_type", ["gemma4_text", "dots3_note_text", "llama", "bamba", "deepseek_v3", "gpt_neo"])
def test_memory_of_a_default_configuration_is_planned(model_type: str) -> None:
    assert check_default_memory(model_type) is None


def test_a_difference_is_seen() -> None:
    """The comparison itself: another token, another position, a tie, a sink."""
    weights = np.zeros((1, 2, 4), dtype=np.float32)
    weights[0, 0], weights[0, 1] = [0.1, 0.6, 0.3, 0], [0.2, 0.4, 0.4, 0]
    truth, said = Truth((7,), (weights,)), np.array([7], dtype=np.int32)

    def looks(*heads: int) -> np.ndarray:
        return np.array([[heads]], dtype=np.int32)

    assert differing(truth, said, looks(1, 1), sinks=False) is None
    assert differing(truth, said, looks(1, 2), sinks=False) is None, "a tie"
    assert "position 2 instead of 1" in str(differing(truth, said, looks(2, 1), sinks=False))
    assert "token 0" in str(differing(truth, said + 1, looks(1, 1), sinks=False))
    assert "sink" in str(differing(truth, said, looks(-1, 1), sinks=False))
    sunk = Truth((7,), (weights * 0.3,))
    assert differing(sunk, said, looks(-1, -1), sinks=True) is None
    assert "sink" in str(differing(sunk, said, looks(1, -1), sinks=True))


def test_the_page_puts_each_type_in_its_place() -> None:
    rows = [
        Row("good", "", EXACT, events=3),
        Row("good", "yarn", EXACT, events=4),
        Row("bad", "", "wrong", "token 0 differs"),
        Row("half", "", EXACT, events=1),
        Row("half", "yarn", "wrong", "a | b"),
        Row("no", "", REFUSED, "why not"),
        Row("none", "", NOT_BUILT, "too large"),
    ]
    page = write_page(rows)
    assert "5 types: 1 exact, 1 refused, 1 not built, 2 wrong" in page
    assert "| `good` | default, yarn | 7 |" in page and "| `half` | yarn | wrong: a \\| b |" in page
