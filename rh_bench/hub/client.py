"""Talking to a Hub: with which identity, how often a request is sent, and how large an answer may be.

huggingface_hub retries some requests by itself, others not, and waits as long as the server tells it to. Here all of
this is decided in one place: inside :func:`again` the client sends each request once and reports the outcome
(`rh_bench.hub.door`), and retries happen here, up to five attempts in total.
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
"""HTTP statuses after which the same request can succeed: someone else was faster, or the server is busy."""
TRIES = 5
"""Attempts for a request in total."""
PROGRESS = 10 << 20
"""Bytes of content that count as progress of an interrupted download, which resets its attempts."""
_MOST_TRIES = 200
"""Resets of a download that makes progress: no server can keep a command busy forever."""
_LONGEST_WAIT = 300.0
"""Seconds; the Hub counts requests in windows of five minutes."""
_RATE_LIMIT = re.compile(r"r=0;\s*t=([0-9]{1,6})")

MOST_ANSWER = 64 << 20
"""Bytes of one answer of the Hub's API; a page of a thousand files has some 300 KiB."""
MOST_ASKED = 2_000
"""Most requests to the Hub's API of one action, so that no list of pages is endless."""
MOST_SECONDS = 900.0
"""That one action may take on answers of the API."""


def pause(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


@dataclass(frozen=True)
class Access:
    """Which Hub, and with which token; None for what huggingface_hub is configured for."""

    endpoint: str | None = None
    token: str | None = None
    sleep: Callable[[float], None] = pause


@dataclass(frozen=True, slots=True)
class Most:
    """How much content an action may receive: what was announced, or a limit."""

    bytes: int
    what: str = "it announced"
    """Completes "takes more than the … bytes that"."""
    seconds: float | None = None


@dataclass
class Talk:
    """What one attempt of an action sends and receives. Threads of the client share it."""

    most: Most | None = None
    received: int = 0
    """Bytes of content."""
    asked: int = 0
    """Requests to the API."""
    connected: bool = False
    """Whether anything answered."""
    failed: dict[tuple[str, str], Exception] = field(default_factory=dict)
    """Outcomes of failed requests, by method and address: the library does not repeat them in this attempt."""
    began: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, where: str) -> None:
        """Count a request to the API.

        Raises:
            InputError: there were too many, or they took too long.
        """
        with self.lock:
            self.asked += 1
            asked = self.asked
        if asked > MOST_ASKED:
            raise InputError(f"returns an endless list: {MOST_ASKED} pages were read", where=where)
        self.watch(where, MOST_SECONDS)

    def take(self, count: int, where: str) -> None:
        """Count content.

        Raises:
            InputError: it is more than allowed, or it took too long.
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
        """Uncount content that the library threw away."""
        with self.lock:
            self.received -= count

    def watch(self, where: str, seconds: float) -> None:
        if time.monotonic() - self.began > seconds:
            raise InputError(f"did not answer within {seconds:.0f} seconds", where=where, hint="try again later")


class Talks:
    """The exchanges in progress. The client library has one HTTP client for the whole process, and its threads do not
    know who asked, so traffic is counted for everyone who is talking."""

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
    """Run an action, and repeat it after a pause if that can help: five attempts in total.

    Each time a download progresses by :data:`PROGRESS`, its attempts are reset.

    Args:
        most: content that it may receive.
        patient: also retry if the Hub cannot be reached at all, instead of failing at once.
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
    raise InputError("keeps breaking the connection", where="the Hub", hint="run again: what was received is kept")


def wait_before(tries: int, headers: Mapping[str, str]) -> float:
    """Seconds to wait after this many attempts: 1, 2, 4 and 8, or as long as the answer asks for."""
    return max(2.0 ** (tries - 1), _asked_wait(headers))


def _asked_wait(headers: Mapping[str, str]) -> float:
    """Seconds that an answer asks its client to wait; 0 if none."""
    asked = headers.get("retry-after") or ""
    used_up = _RATE_LIMIT.search(headers.get("ratelimit") or "")
    seconds = asked if re.fullmatch(r"[0-9]{1,6}", asked) else used_up[1] if used_up else "0"
    return min(float(seconds), _LONGEST_WAIT)
