"""Chat templates that never end, fill the memory, print without end or end the process that renders them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tiny import tiny_checkpoint, tiny_tokenizer

from rh_bench.cli.main import main
from rh_bench.data_builders.build import Recipe, build_set
from rh_bench.data_builders.sources import parse_source
from rh_bench.errors import InputError
from rh_bench.prompting import rendering
from rh_bench.prompting.chat import chat_template
from rh_bench.prompting.rendering import Renderer, RenderingLimitError
from rh_bench.sets.grids import choose_grid
from rh_bench.system.limits import Limit

ASKED = [{"role": "user", "content": "What is it?"}]
PRINT = "{{ messages[0]['content'] }}"
SPIN = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"
HOSTILE = {
    "loops": (SPIN + PRINT, "takes more than 1 s of processor time"),
    "a power": ("{{ 9 ** (9 ** 9) }}", "takes more than 1 s of processor time"),
    "a giant": ("{% set x = ('x' * 10**9) * 20 %}" + PRINT, "takes more than 536870912 bytes of memory"),
    "doubling": (
        "{% set n = namespace(x='xxxx') %}{% for a in range(64) %}{% set n.x = n.x ~ n.x %}{% endfor %}" + PRINT,
        "takes more than 536870912 bytes of memory",
    ),
    "output": ("{% for a in range(100000) %}" + "x" * 100 + "{% endfor %}" + PRINT, "at most"),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "RENDERING", Limit(1 << 29, 1, 20))


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_template_is_one_line(kind: str) -> None:
    source, words = HOSTILE[kind]
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = source
    chat = chat_template(tokenizer)
    way = chat.attempt if kind in ("output", "doubling") else chat.render
    with pytest.raises(RenderingLimitError, match="its chat template (takes|prints|ends)") as caught:
        way(ASKED)
    assert len(str(caught.value).splitlines()) == 1 and (words is None or words in str(caught.value))
    # What comes after it is rendered again.
    assert chat._renderer.render(ASKED, PRINT, {}, answer=True) == ("What is it?", None)


@pytest.mark.parametrize(
    "source",
    ["{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "{% if " * 9000],
)
def test_what_nests_without_end_fails_and_ends_nothing(source: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = source
    with pytest.raises(InputError) as caught:
        chat_template(tokenizer).render(ASKED)
    assert "its chat template" in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_a_template_without_end_is_not_read() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = PRINT + " " * (1 << 20)
    with pytest.raises(InputError, match="longer than 1048576 characters"):
        chat_template(tokenizer)


@pytest.mark.slow
def test_a_sleeping_process_is_ended_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "RENDERING", Limit(1 << 29, 60, 1))
    renderer = Renderer(tiny_tokenizer(), "x")
    with pytest.raises(RenderingLimitError, match="takes longer than 1 s"):
        renderer.render(ASKED, SPIN, {}, answer=True)


def test_the_process_ends_with_its_renderer() -> None:
    renderer = Renderer(tiny_tokenizer(), "x")
    renderer.render(ASKED, PRINT, {}, answer=True)
    assert renderer._worker is not None
    process = renderer._worker._process
    assert process.is_alive()
    del renderer
    assert not process.is_alive()


@pytest.mark.slow
def test_a_new_process_renders_as_a_copy_does() -> None:
    """As on Windows and macOS, where no process is copied."""
    tokenizer = tiny_tokenizer(chat=True)
    new, copy = Renderer(tokenizer, "x", "spawn"), Renderer(tokenizer, "x")
    for source in (
        tokenizer.chat_template,
        "{{ bos_token }}" + PRINT + "{{ eos_token }}",
        "{{ raise_exception('no') }}",
    ):
        ways = [one.render(ASKED, source, {"date_string": "é"}, answer=True) for one in (new, copy)]
        assert ways[0] == ways[1]
    with pytest.raises(RenderingLimitError, match="takes"):
        new.render(ASKED, "{% set x = 'x' * 10**13 %}", {}, answer=True)


@pytest.mark.slow
def test_evaluate_refuses_a_template_that_never_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_set(Recipe(parse_source("synthetic"), choose_grid("quick", "300", "50"), needle_count=1), tmp_path / "set")
    model = tiny_checkpoint(tmp_path / "model", chat=True)
    for source, _ in (HOSTILE["a power"], HOSTILE["a giant"]):
        (model / "chat_template.jinja").write_text(source)
        before = time.monotonic()
        argv = ["evaluate", str(model), "--haystack", str(tmp_path / "set"), "--out", str(tmp_path / "runs")]
        assert main([*argv, "--device", "cpu"]) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert "its chat template takes more than" in said and "use --template plain" in said
        assert time.monotonic() - before < 60
    assert not (tmp_path / "runs").exists()
