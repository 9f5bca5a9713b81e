"""Files that pin every package by version and SHA-256, as `pip install --require-hashes` takes them."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import rh_bench
from rh_bench.errors import InputError
from rh_bench.system.files import shown

MOST_CHARACTERS = 120_000
"""Of a file as it is handed to a job: Linux takes no variable of the environment from 128 KiB on."""
_MOST_BYTES = 4 << 20
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?:\[[A-Za-z0-9,._-]+\])?"
_PINNED = re.compile(
    rf"(?P<what>(?P<name>{_NAME})(?:==(?P<version>[A-Za-z0-9.!+_-]+)| ?@ ?(?P<url>https://[^\s;#]+\.whl)))"
    r"(?:\s*;\s*(?P<when>[^#;]*?))?"
    r"(?P<hashes>(?:\s+--hash=sha256:[0-9a-f]{64})+)"
)


def read_lockfile(path: Path) -> str:
    """The lines of a file of pinned packages, without comments and without more white space than they need.

    Raises:
        InputError: it cannot be read, is too long, has a line that does not pin one package by version (or a wheel by
            its https address) and SHA-256, or does not pin this version of rh-bench.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1).decode("utf-8")
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", where=shown(path)) from None
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 text (byte {error.start})", where=shown(path)) from None
    kept = [_pinned(line, f"{shown(path)}, line {number}") for number, line in _logical_lines(text)]
    whole = "".join(f"{line}\n" for line, _ in kept)
    if len(whole) > MOST_CHARACTERS:
        hint = "keep only the hashes of one platform's wheels"
        words = f"has {len(whole)} characters without comments; at most {MOST_CHARACTERS} are allowed"
        raise InputError(words, where=shown(path), hint=hint)
    if not any(ours for _, ours in kept):
        raise InputError(
            f"does not pin rh-bench {rh_bench.__version__}", where=shown(path), hint="add it with its hash"
        )
    return whole


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Lines with what they say on the next ones after a backslash, by the number of the first; comments left out."""
    found: list[tuple[int, str]] = []
    begun: tuple[int, str] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        words = re.sub(r"(^|\s)#.*", "", line).rstrip()
        goes_on = words.endswith("\\")
        first, before = begun or (number, "")
        whole = f"{before} {words.removesuffix(chr(92))}".strip()
        begun = (first, whole) if goes_on else None
        if not goes_on and whole:
            found.append((first, whole))
    return [*found, *([begun] if begun and begun[1] else [])]


def _pinned(line: str, where: str) -> tuple[str, bool]:
    """A line, and whether it pins this version of rh-bench."""
    match = _PINNED.fullmatch(line)
    if match is None:
        raise InputError(
            f"{shown(line)[:80]!r} does not pin one package by version and SHA-256",
            where=where,
            hint="write NAME==VERSION --hash=sha256:… or NAME @ https://….whl --hash=sha256:…",
        )
    if match["url"] and ("@" in urlsplit(match["url"]).netloc or "?" in match["url"]):
        raise InputError("the address contains a password or a query, which would be public", where=where)
    ours = re.sub(r"[-_.]+", "-", match["name"].partition("[")[0]).lower() == "rh-bench"
    if ours and match["version"] not in (None, rh_bench.__version__):
        words = f"pins rh-bench {match['version']}, but this is {rh_bench.__version__}"
        raise InputError(words, where=where, hint="order with the version that will run")
    when = f" ; {match['when']}" if match["when"] else ""
    return f"{match['what']}{when} {' '.join(match['hashes'].split())}", ours
