"""Talking to a Hub: as whom, how often a request is sent, and how much one answer may be.

huggingface_hub sends some requests again by itself, others not, and waits as long as it is told to. Here all of this is
decided once: while something of ours is :func:`again`'s business, the client sends a request once and says what came of
it (`rh_bench.hub.door`), and it is sent again here, five times in all.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from rh_bench.errors import InputError, LimitError
from rh_bench.system.limits import DOWNLOADED

T = TypeVar("T")
AGAIN = (408, 409, 412, 429, 500, 502, 503, 504)
"""HTTP answers after which the same request can succeed: somebody else was faster, or the server is busy."""
TRIES = 5
"""How often a request is sent in all."""
PROGRESS = 10 << 20
"""Bytes of content after which a download that breaks off has got on, so that its tries are counted anew."""
_MOST_TRIES = 200
"""Of a download that gets on: no server keeps a command busy for ever by this."""
_LONGEST_WAIT = 300.0
"""Seconds; the Hub counts requests in windows of five minutes."""
_RATE_LIMIT = re.compile(r"r=0;\s*t=([0-9]{1,6})")

MOST_ANSWER = 64 << 20
"""Bytes of one answer of the Hub's API; a page of a thousand files has some 300 KiB."""
MOST_ASKED = 2_000
"""Requests to the Hub's API of one action, so that no list of pages is without end."""
MOST_SECONDS = 900.0
"""That one action may take on answers of the API."""


def pause(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


@dataclass(frozen=True)
class Access:
    """Which Hub, and as whom; None is what huggingface_hub is set up for."""

    endpoint: str | None = None
    token: str | None = None
    sleep: Callable[[float], None] = pause


@dataclass(frozen=True, slots=True)
class Most:
    """How much content an action may bring: what was announced, or a limit."""

    bytes: int
    what: str = "it announced"
    """Completes "takes more than the … bytes that"."""
    seconds: float | None = None


@dataclass
class Talk:
    """What one try of an action asks and gets. Threads of the client share it."""

    most: Most | None = None
    received: int = 0
    """Bytes of content."""
    asked: int = 0
    """Requests to the API."""
    connected: bool = False
    """Whether anything answered."""
    failed: dict[tuple[str, str], Exception] = field(default_factory=dict)
    """What came of requests that failed, by method and address: the library does not send them again in this try."""
    began: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, where: str) -> None:
        """Count a request to the API.

        Raises:
            InputError: there were too many, or they have taken too long.
        """
        with self.lock:
            self.asked += 1
            asked = self.asked
        if asked > MOST_ASKED:
            raise InputError(f"gives a list without end: {MOST_ASKED} pages were read", where=where)
        self.watch(where, MOST_SECONDS)

    def take(self, count: int, where: str) -> None:
        """Count content.

        Raises:
            InputError: it is more than there may be, or it has taken too long.
        """
        with self.lock:
            self.received += count
            received = self.received
        if self.most is None:
            return
        if received > self.most.bytes:
            words = f"takes more than the {self.most.bytes} bytes that {self.most.what}"
            raise LimitError(words, DOWNLOADED, where=where)
        if self.most.seconds is not None:
            self.watch(where, self.most.seconds)

    def lose(self, count: int) -> None:
        """Count content as never received: the library threw it away."""
        with self.lock:
            self.received -= count

    def watch(self, where: str, seconds: float) -> None:
        if time.monotonic() - self.began > seconds:
            raise InputError(f"has not answered within {seconds:.0f} seconds", where=where, hint="try again later")


class Talks:
    """The talks that are going on. The client library has one HTTP client for the whole process, and its threads know
    nothing of who asked; so what is sent and received is counted for everybody who is talking."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: tuple[Talk, ...] = ()

    @property
    def now(self) -> tuple[Talk, ...]:
        return self._now

    @contextmanager
    def holding(self, talk: Talk) -> Iterator[Talk]:
        with self._lock:
            self._now = (*self._now, talk)
        try:
            yield talk
        finally:
            with self._lock:
                self._now = tuple(one for one in self._now if one is not talk)


TALKS = Talks()


def again(action: Callable[[], T], access: Access, *, most: Most | None = None, patient: bool = True) -> T:
    """Do it, and do it again after a while where that can help: five times in all.

    Each time that a download has got on by :data:`PROGRESS` its tries are counted anew.

    Args:
        most: content that it may bring.
        patient: also try again where the Hub is not there at all, rather than say so at once.
    """
    from rh_bench.hub.door import absent, open_door, passing

    open_door()
    tries = 0
    for _ in range(_MOST_TRIES):
        talk = Talk(most)
        try:
            with TALKS.holding(talk):
                return action()
        except Exception as error:
            tries = 1 if talk.received >= PROGRESS else tries + 1
            headers = passing(error)
            nobody = not patient and not talk.connected and absent(error)
            if headers is None or tries >= TRIES or nobody:
                raise
            access.sleep(wait_before(tries, headers))
    raise InputError("breaks off again and again", where="the Hub", hint="run again: what has arrived is kept")


def wait_before(tries: int, headers: Mapping[str, str]) -> float:
    """Seconds to wait after so many tries: 1, 2, 4 and 8, or as long as the answer asks for."""
    return max(2.0 ** (tries - 1), _asked_wait(headers))


def _asked_wait(headers: Mapping[str, str]) -> float:
    """Seconds that an answer asks its client to wait; 0 where it asks for none."""
    asked = headers.get("retry-after") or ""
    used_up = _RATE_LIMIT.search(headers.get("ratelimit") or "")
    seconds = asked if re.fullmatch(r"[0-9]{1,6}", asked) else used_up[1] if used_up else "0"
    return min(float(seconds), _LONGEST_WAIT)
