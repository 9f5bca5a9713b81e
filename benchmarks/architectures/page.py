"""The rows of a sweep as docs/architectures.md."""

from __future__ import annotations

import platform
from importlib.metadata import version

from benchmarks.architectures.check import EXACT, NOT_BUILT, REFUSED, ROPE, WRONG, Row

_HEAD = """# Architectures

Which model types of transformers can be measured. Two states: **exact**, or **refused** in one line.

This page is made by `python -m benchmarks.architectures --page docs/architectures.md`. For each causal-LM type it makes
a tiny random model, saves it, loads it as `rh-bench evaluate` does, and measures nine prompts (29 to 79 tokens, sliding
windows of 24) in float32 with both engines: `fast` with prompts at once, in pieces of 7 tokens, and without sharing.
**Exact** means: every token is that of transformers' `generate()`; every arg-max position of every head is that of the
attention weights that `generate()` returned and, where rotary factors do not change during the answer, of one pass
without a cache (weights closer than 1e-5 count as ties); and equal positions give equal copy events. Where a type has a
rotary embedding, it is measured again with each scaled kind that it takes, with a window of 56 tokens before
scaling, so that prompts and answers lie on both sides of it and across.

A type says what code runs, not which checkpoints exist: a checkpoint of an exact type can still be refused, for weights
that are missing, a tokenizer that falls apart, or logits that overflow.
"""

_EXACT = """`default` is the rotary embedding (or other positions) that the type has by itself. What is slower is named.

"""
_MISSING = """No small random model of these types could be made here, so nothing is said of them.

"""


def write_page(rows: list[Row]) -> str:
    """Markdown of the table: wrong (none, it is hoped), exact, refused, not built."""
    types: dict[str, list[Row]] = {}
    for row in rows:
        types.setdefault(row.model_type, []).append(row)
    by_state: dict[str, dict[str, list[Row]]] = {state: {} for state in (WRONG, EXACT, REFUSED, NOT_BUILT)}
    for name, own in sorted(types.items()):
        by_state[_state(own)][name] = own
    exact, refused = by_state[EXACT], by_state[REFUSED]
    counts = ", ".join(f"{len(by_state[state])} {state}" for state in (EXACT, REFUSED, NOT_BUILT, WRONG))
    parts = [_HEAD, _versions(), f"{len(types)} types: {counts}.\n"]
    if by_state[WRONG]:
        lines = "".join(_wrong(own) for own in by_state[WRONG].values())
        parts.append(f"## Wrong\n\n| type | rotary embedding | what |\n|---|---|---|\n{lines}")
    lines = "".join(_exact(name, own) for name, own in exact.items())
    parts.append(f"## Exact\n\n{_EXACT}| type | exact with | copy events | how |\n|---|---|---:|---|\n{lines}")
    lines = "".join(_reason(name, own) for name, own in refused.items())
    parts.append(f"## Refused\n\n| type | the line |\n|---|---|\n{lines}")
    lines = "".join(_reason(name, own) for name, own in by_state[NOT_BUILT].items())
    parts.append(f"## Not built\n\n{_MISSING}| type | why |\n|---|---|\n{lines}")
    return "\n".join(parts)


def _state(rows: list[Row]) -> str:
    """What a type is: that of its own form, unless a scaled one is wrong."""
    first = rows[0].state
    if first == EXACT and not all(row.state in (EXACT, REFUSED, NOT_BUILT) for row in rows):
        return WRONG
    return first if first in (EXACT, REFUSED, NOT_BUILT) else WRONG


def _versions() -> str:
    names = ", ".join(f"{name} {version(name)}" for name in ("transformers", "torch"))
    return f"Made with {names}, Python {platform.python_version()}, on a CPU ({platform.machine()}).\n"


def _exact(name: str, rows: list[Row]) -> str:
    kinds = [row.rope or "default" for row in rows if row.state == EXACT]
    shown = "default, and every scaled kind" if len(kinds) == len(ROPE) + 1 else ", ".join(kinds)
    notes = "; ".join(dict.fromkeys(note for row in rows[:1] for note in row.notes))
    refused = "".join(f"; {row.rope} refused: {row.reason}" for row in rows if row.state == REFUSED)
    return f"| `{name}` | {shown} | {sum(row.events for row in rows)} | {_cell(notes + refused)} |\n"


def _reason(name: str, rows: list[Row]) -> str:
    return f"| `{name}` | {_cell(rows[0].reason)} |\n"


def _wrong(rows: list[Row]) -> str:
    wrong = [row for row in rows if row.state not in (EXACT, REFUSED, NOT_BUILT)]
    return "".join(f"| `{r.model_type}` | {r.rope or 'default'} | {r.state}: {_cell(r.reason)} |\n" for r in wrong)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
