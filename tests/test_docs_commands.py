"""Every command in the docs is one that the command line takes, and the recipes are what they are said to be."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from rh_bench.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of each `rh-bench` in shell lines, comments and what surrounds it left out."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(
            line.replace("'", " ' ") if line.count("'") == 1 else line, posix=True, punctuation_chars=True
        )
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, "&&"]:
            if set(word) <= set("&|;()<>"):
                if "rh-bench" in words:
                    yield words[words.index("rh-bench") + 1 :]
                words = []
            else:
                words.append(word)


def shell_blocks() -> list[tuple[str, list[str]]]:
    return [
        (f"{page.name}: rh-bench {shlex.join(arguments)}", arguments)
        for page in PAGES
        for language, text in BLOCK.findall(page.read_text(encoding="utf-8"))
        if language == "sh"
        for arguments in commands(text)
    ]


@pytest.mark.parametrize("arguments", [pytest.param(a, id=name) for name, a in shell_blocks()])
def test_a_command_of_the_docs_is_taken(arguments: list[str]) -> None:
    try:
        name, command, rest = app.resolve_command(click.Context(app), arguments)
        assert command is not None and name is not None
        command.make_context(name, rest)
    except click.exceptions.Exit:  # --help and --version
        pass


def test_there_are_commands() -> None:
    named = {arguments[0] for _, arguments in shell_blocks() if arguments}
    assert {"publish", "submit", "review", "collect", "verify", "leaderboard", "import", "export", "audit"} <= named


def test_the_recipe_of_a_github_action() -> None:
    (text,) = [
        text
        for language, text in BLOCK.findall((ROOT / "docs" / "publishing.md").read_text(encoding="utf-8"))
        if language == "yaml"
    ]
    recipe: dict[Any, Any] = yaml.safe_load(text)
    assert recipe[True].keys() == {"schedule", "workflow_dispatch"}, "`on`, which YAML 1.1 takes for a truth value"
    assert recipe["permissions"] == {}, "GitHub's own token may do nothing"
    steps = recipe["jobs"]["review"]["steps"]
    ran = [arguments for step in steps for arguments in commands(step.get("run", "").replace("pip install", "#"))]
    assert [arguments[0] for arguments in ran] == ["review", "collect", "publish"]
    for name, *arguments in ran:
        app.commands[name].make_context(name, arguments)
    for step in steps:
        talks = "rh-bench" in step.get("run", "") and "pip install" not in step["run"]
        assert ("HF_TOKEN" in step.get("env", {})) == talks, "the token is shown to what needs it alone"
