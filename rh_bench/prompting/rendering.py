"""Renders chat templates in a separate process, within limits.

A chat template is a program that comes with a model. Jinja's sandbox keeps it away from files and the network, but does
not keep it from looping forever, from multiplying a text until memory runs out, or from nesting until the stack
overflows. A timer that raises an exception would not stop it either: one operation on a huge number can run for hours.
So rendering happens in a process that can be killed.

The process lives as long as its :class:`Renderer`: it is a fork of this one where that is safe (Linux), and
otherwise a new one that the tokenizer is sent to.
"""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing
import os
import signal
import sys
import warnings
import weakref
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rh_bench.errors import InputError, LimitError
from rh_bench.system.limits import CLOCK, MEMORY, PROCESSOR, RENDERED, Limit, limited

RENDERING = Limit(memory=1 << 29, processor=10, clock=60)
"""Limits of one rendering. The longest prompts of the largest windows take milliseconds and a few megabytes."""
MOST_CHARACTERS, TIMES = 1 << 20, 8
"""Most characters a template may print: this many, or this many times its input."""
_START = 120
"""Seconds for a new process to get ready."""


class RenderingLimitError(LimitError):
    """A chat template exceeds the limits of rendering."""


class Renderer:
    """Renders with the chat templates of one tokenizer.

    Args:
        tokenizer: as transformers loads it.
        name: its name in errors.
        way: start method of the process, as in `multiprocessing`; by default the safest.
    """

    def __init__(self, tokenizer: Any, name: str, way: str | None = None) -> None:
        self._tokenizer, self._name = tokenizer, name
        self._way = way or ("fork" if sys.platform == "linux" else "spawn")
        self._worker: _Worker | None = None

    def render(
        self, messages: Sequence[Mapping[str, Any]], source: str, variables: Mapping[str, Any], *, answer: bool
    ) -> tuple[str, str | None]:
        """What the template `source` prints, and how it failed, if it did.

        Args:
            answer: whether the prompt ends where the answer begins.

        Raises:
            RenderingLimitError: it takes too long or too much memory, prints too much, or ends the process.
        """
        order = {"messages": [dict(message) for message in messages], "source": source, "variables": dict(variables)}
        asked = json.dumps({**order, "answer": answer}).encode()
        found = self._ask(asked)
        if "exceeded" in found:
            raise self._refusal(RENDERING.words(found["exceeded"]))
        if "characters" in found:
            raise self._refusal(f"prints {found['characters']} characters, at most {_most(asked)} are taken")
        return found["text"], found["problem"]

    def _ask(self, asked: bytes) -> dict[str, Any]:
        worker = self._worker or _Worker(self._tokenizer, self._way)
        self._worker = worker
        try:
            answered = worker.ask(asked)
        except BaseException:
            self._worker = None
            worker.close()
            raise
        if isinstance(answered, bytes):
            document: dict[str, Any] = json.loads(answered)
            return document
        self._worker = None
        ended = worker.close()
        if answered == CLOCK or ended == "SIGXCPU":
            raise self._refusal(RENDERING.words(CLOCK if answered == CLOCK else PROCESSOR))
        raise self._refusal(f"ends the process that renders it ({ended})")

    def _refusal(self, words: str) -> RenderingLimitError:
        return RenderingLimitError(
            f"its chat template {words}", RENDERED, where=self._name, hint="use --template plain"
        )

    def __reduce__(self) -> Any:
        return Renderer, (self._tokenizer, self._name, self._way)


class _Worker:
    """The process, and the pipe to it."""

    def __init__(self, tokenizer: Any, way: str) -> None:
        context: Any = multiprocessing.get_context(way)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._pipe, tokenizer), daemon=True)
        with warnings.catch_warnings():
            # Forking a process with threads is safe here: rendering needs nothing their locks guard.
            warnings.simplefilter("ignore")
            self._process.start()
        theirs.close()
        self._finalizer = weakref.finalize(self, _close, self._pipe, self._process)
        if self._answer(_START) != b"ready":
            self.close()
            raise InputError("the process that renders chat templates does not start", hint="use --template plain")

    def ask(self, order: bytes) -> bytes | str:
        """The answer to a request; CLOCK if it took too long, "end" if the process ended."""
        try:
            self._pipe.send_bytes(order)
        except OSError:
            return "end"
        return self._answer(RENDERING.clock)

    def _answer(self, seconds: float) -> bytes | str:
        try:
            return bytes(self._pipe.recv_bytes()) if self._pipe.poll(seconds) else CLOCK
        except (OSError, EOFError):
            return "end"

    def close(self) -> str:
        """End the process; returns how it ended if not by this."""
        self._process.join(0.2)  # a process just killed by a signal says which
        code = self._process.exitcode
        self._finalizer()
        if code is None or code >= 0:
            return f"status {code}"
        return signal.Signals(-code).name


def _close(pipe: Connection, process: Any) -> None:
    with contextlib.suppress(OSError):
        pipe.close()
    with contextlib.suppress(Exception):  # at interpreter exit anything may already be gone
        process.kill()
        process.join()


def _serve(pipe: Connection, other: Connection, tokenizer: Any) -> None:
    """The process: answers requests until there are no more."""
    if not hasattr(sys, "getwindowsversion"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, when interrupted, ends this process
    gc.disable()  # nothing of the forked process may be finalised here
    with contextlib.suppress(OSError):
        other.close()
    with Path(os.devnull).open("wb") as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
    with contextlib.suppress(EOFError, OSError):
        pipe.send_bytes(b"ready")
        while True:
            pipe.send_bytes(_answer(pipe.recv_bytes(), tokenizer))
    os._exit(0)


def _answer(asked: bytes, tokenizer: Any) -> bytes:
    order = json.loads(asked)
    try:
        with limited(RENDERING):
            text, problem = _render(order, tokenizer)
            if len(text) > _most(asked):
                return json.dumps({"characters": len(text)}).encode()
            return json.dumps({"text": text, "problem": problem}).encode()
    except MemoryError:
        return json.dumps({"exceeded": MEMORY}).encode()


def _render(order: dict[str, Any], tokenizer: Any) -> tuple[str, str | None]:
    try:
        return str(
            tokenizer.apply_chat_template(
                order["messages"],
                chat_template=order["source"],
                tokenize=False,
                add_generation_prompt=order["answer"],
                **order["variables"],
            )
        ), None
    except MemoryError:
        raise
    except Exception as error:  # a template is a program that comes with the model: it can fail in any way
        return "", f"{type(error).__name__}: {str(error)[:200]}"


def _most(asked: bytes) -> int:
    return MOST_CHARACTERS + TIMES * len(asked)
