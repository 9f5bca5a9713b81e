"""Names of quantised variants."""

from __future__ import annotations

from typing import Any

import pytest

from rh_bench.interchange.names import mark_in, own_name, quantisation_of


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "AWQ"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "GPTQ-Int4"),
        ("qwen25_7b_instruct_bnb4", "bnb4"),
        ("llama-3-8b-4bit", "4bit"),
        ("unsloth/Llama-3-8B-bnb-4bit", "bnb-4bit"),
        ("gguf:Llama-3-8B.Q4_K_M.gguf", "Q4_K_M"),
        ("model-IQ3_XXS", "IQ3_XXS"),
        ("model-q8_0", "q8_0"),
        ("RedHat/Llama-3-8B-FP8", "FP8"),
        ("org/model-GGUF", "GGUF"),
        ("org/model-q4", "q4"),
        ("org/model-w4a16", "w4a16"),
        ("openai/gpt-oss-20b-mxfp4", "mxfp4"),
        ("meta-llama/Llama-3.1-8B-Instruct", None),
        ("Qwen/Qwen2.5-7B", None),
        ("google/gemma-2-9b-it", None),
        ("mistralai/Mixtral-8x7B-v0.1", None),
        ("org/model-1b-2024q1", None),
    ],
)
def test_marks_of_quantisation(name: str, mark: str | None) -> None:
    assert mark_in(name) == mark


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, None),
        ({"quantization": "bnb-nf4"}, "bnb-nf4"),
        ({"quantization": "none"}, None),
        ({"quant": None, "quantisation": "bf16"}, None),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "awq-4"),
        ({"quantization_config": {"load_in_4bit": True}}, "4bit"),
        ({"load_in_8bit": True}, "8bit"),
        ({"load_in_4bit": "yes"}, None),
        ({"model": "tiny_gptq4"}, "gptq4"),
        ({"model": "tiny", "quantization": ["x"]}, None),
        ({"quantization": "a\x1b[31m\nb" * 20}, "a\\u001b[31m ba\\u001b[31m ba\\u001b[31m ba"),
    ],
)
def test_what_a_document_says(document: dict[str, Any], said: str | None) -> None:
    found = quantisation_of(document, "model")
    assert found == said
    assert found is None or (found.isprintable() and 0 < len(found) <= 40)


def test_a_name_says_it_once() -> None:
    assert own_name("org/tiny", None) == "org/tiny"
    assert own_name("org/tiny", "bnb4") == "org/tiny (bnb4)"
    assert own_name("org/tiny-AWQ", "awq4") == "org/tiny-AWQ"
    assert own_name("org/tiny-GGUF", "Q4_K_M") == "org/tiny-GGUF (Q4_K_M)", "a container says nothing of its bits"
