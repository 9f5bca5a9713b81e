"""Prompts of the question-answering experiments: their files, their text, their ids."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files

import pytest
from tiny import tiny_tokenizer

from rh_bench.errors import InputError
from rh_bench.experiments.qa.task_prompts import AnswerPrompts, load_prompts
from rh_bench.scores.answers import exact_match, extract_choice, extract_number, extract_words
from rh_bench.sets.tasks import TASKS, Question

SHA256 = {
    "prompts-extractive.v1.json": "381cd4d94f0db224c335a8de05a7767bbfb0bc812f213415590cd2cf9053841f",
    "prompts-gsm8k.v1.json": "1320340d7a29fba2000736852a3258afe6ea0a6124f7f9bdd5151beb0bda3474",
    "prompts-mmlu.v1.json": "f9a4478f59e97d53cbe4ccf3a532abd37bd9238bbfcdf38dc9e2b9ff2cf32624",
    "prompts-musique.v1.json": "51e3ae6a5c7de35f910fb791158b2fed6270c8d3aad2e668a05b559917289f8a",
}


@pytest.mark.parametrize("task", TASKS)
def test_a_released_file_is_never_changed(task: str) -> None:
    prompts = load_prompts(task)
    assert prompts.sha256 == SHA256[prompts.file], "prompts that were used keep their bytes: write another version"
    data = (files("rh_bench.experiments.qa") / "data" / prompts.file).read_bytes()
    assert prompts.describe() == {"file": prompts.file, "version": 1, "sha256": hashlib.sha256(data).hexdigest()}
    document = json.loads(data)
    assert document["licence"] == "CC0-1.0" and document["task"] == task
    with pytest.raises(InputError, match="no version 99"):
        load_prompts(task, 99)


@pytest.mark.parametrize("task", TASKS)
def test_the_answers_of_the_shots_are_read_as_meant(task: str) -> None:
    prompts = load_prompts(task)
    assert set(prompts.modes) == ({"direct"} if task == "extractive" else {"direct", "cot"})
    for shot in prompts.shots:
        for mode in prompts.modes:
            said = prompts.answered(mode, shot)
            assert prompts.cut(said) == said, "a shot's answer holds no stop text"
            if task == "gsm8k":
                assert extract_number(said) == shot.answer
            elif task == "mmlu":
                assert extract_choice(said, len(shot.question.choices)) == shot.answer
            else:
                assert exact_match(extract_words(said) or "", [shot.answer])
                assert shot.answer in shot.question.passage
            assert (shot.rationale in said) == (mode == "cot") or not shot.rationale


def test_a_plain_prompt_is_this_text() -> None:
    text = load_prompts("gsm8k").plain("cot", Question("x", "Is {this} 5?", ("5",)), 1)
    assert text == (
        "Think step by step, then give the answer to the question as a number.\n\n"
        "Question: Mira packs 6 crates with 8 jars of honey in each. Five jars break on the way. How many jars arrive"
        " whole?\nAnswer: Mira packs 6 * 8 = 48 jars. Five of them break, so 48 - 5 = 43 jars arrive whole. The"
        " answer is 43.\n\nQuestion: Is {this} 5?\nAnswer:"
    )
    choice = Question("x", "Which?", ("A",), "", ("w", "x"))
    assert load_prompts("mmlu").plain("direct", choice, 0).endswith("\n\nQuestion: Which?\n(A) w\n(B) x\nAnswer:")
    passage = Question("x", "Which?", ("A",), "A text.")
    assert (
        load_prompts("extractive").plain("direct", passage, 0).endswith("Passage: A text.\n\nQuestion: Which?\nAnswer:")
    )


def test_turns_alternate_and_the_instruction_comes_first() -> None:
    turns = load_prompts("gsm8k").turns("direct", Question("x", "How many?", ("5",)), 2)
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert turns[0]["content"].startswith("Give the answer") and turns[1]["content"] == "The answer is 43."
    assert turns[-1]["content"] == "Question: How many?"
    (alone,) = load_prompts("gsm8k").turns("direct", Question("x", "How many?", ("5",)), 0)
    assert alone["content"].endswith("before it.\n\nQuestion: How many?")


def test_a_response_is_cut_where_it_should_have_stopped() -> None:
    prompts = load_prompts("gsm8k")
    assert prompts.cut(" \n 5 and so.\n\nQuestion: and then?\nQuestion: more") == "5 and so."
    assert prompts.cut("Question: is that it?") == "Question: is that it?" and prompts.cut("") == ""
    assert load_prompts("extractive").cut("\n\nthe Danube\nand more") == "the Danube"


def test_ids_of_plain_and_chat_prompts() -> None:
    question = Question("x", "How many?", ("5",))
    plain = AnswerPrompts(tiny_tokenizer(), load_prompts("gsm8k"), "auto", 1)
    assert plain.template_name == "plain"
    ids = plain.build("direct", question)
    assert tiny_tokenizer().decode(ids) == load_prompts("gsm8k").plain("direct", question, 1)
    chat = AnswerPrompts(tiny_tokenizer(chat=True), load_prompts("gsm8k"), "auto", 1)
    assert chat.template_name == "chat"
    text = tiny_tokenizer(chat=True).decode(chat.build("direct", question))
    assert text.startswith("<s>user: Give the answer") and text.endswith("How many?</s><s>assistant: ")
    assert chat.text([*tiny_tokenizer()("5\nQuestion: 6")["input_ids"]]) == "5"


def test_what_cannot_be_asked_is_refused() -> None:
    prompts = load_prompts("gsm8k")
    for template, shots, said in (("poem", 1, "unknown template"), ("chat", 1, "no chat"), ("plain", 5, "has 4 shots")):
        with pytest.raises(InputError, match=said):
            AnswerPrompts(tiny_tokenizer(), prompts, template, shots)
    with pytest.raises(InputError, match="x: its text holds '</s>', a control token"):
        AnswerPrompts(tiny_tokenizer(), prompts, "plain", 0).build("cot", Question("x", "Is </s> it?", ("5",)))
    with pytest.raises(InputError, match="unknown task"):
        load_prompts("poetry")
