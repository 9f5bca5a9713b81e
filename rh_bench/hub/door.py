"""The HTTP client of huggingface_hub while we use it: each request is sent once, its answer is checked before the
library parses it, and its content is counted. For the rest of the process the client is unchanged.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from huggingface_hub import constants, errors, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import _http
from huggingface_hub.utils._http import hf_raise_for_status

from rh_bench.errors import InputError
from rh_bench.hub.answers import check_answer, is_api
from rh_bench.hub.client import AGAIN, MOST_ANSWER, MOST_SECONDS, TALKS, TRIES, Talk, pause, wait_before

if TYPE_CHECKING:
    import httpx2 as http
else:  # what the client library is written with: httpx2 in huggingface_hub 2
    http = importlib.import_module(HfHubHTTPError.__bases__[0].__module__.partition(".")[0])

_SENT_AGAIN = (408, 429, 500, 502, 503, 504)
"""Statuses after which huggingface_hub repeats a request by itself."""
_BROKEN = (http.TimeoutException, http.NetworkError, http.RemoteProtocolError)
"""Connection errors after which it does, too."""
_PATIENCE = {"connect": 15.0, "read": 120.0, "write": 120.0, "pool": 120.0}
"""Seconds, where the library would wait forever."""


class NotReached(OfflineModeIsEnabled):
    """A connection broke. The library is told that there is no network, so it does not repeat the request and uses what
    the cache has."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.how = type(error).__name__


def open_door() -> None:
    """Install the door, once: the client library then sends its requests through it."""
    before = getattr(_http, "_GLOBAL_CLIENT_FACTORY", None)
    if isinstance(before, _Doorway):
        return
    set_client_factory(_Doorway(before or _http.default_client_factory))


class _Doorway:
    """Makes the HTTP client: the one the library would have made, behind the door."""

    def __init__(self, before: Any) -> None:
        self._before = before

    def __call__(self) -> http.Client:
        return http.Client(transport=_Door(self._before()), follow_redirects=True, timeout=None, trust_env=False)


class _Door(http.BaseTransport):
    def __init__(self, client: http.Client) -> None:
        self._client = client

    def handle_request(self, request: http.Request) -> http.Response:
        talks = TALKS.now
        if not talks:
            return _handed_on(self._client.send(request, stream=True, follow_redirects=False), ())
        timeouts = request.extensions.get("timeout")
        if not isinstance(timeouts, dict) or not any(timeouts.values()):
            request.extensions["timeout"] = dict(_PATIENCE)
        address = _address(request)
        api = is_api(address.path)
        if api:
            for talk in talks:
                talk.ask(address.geturl())
        key = (request.method, str(request.url))
        known = talks[-1].failed.get(key)  # of the innermost: to those around it, all of this is one attempt
        if known is not None:  # the library asks again after it finds nothing in its cache
            raise known
        try:
            return self._resume(request, talks) if "range" in request.headers else self._send(request, talks, api)
        except (HfHubHTTPError, NotReached) as error:
            talks[-1].failed[key] = error
            raise

    def _send(self, request: http.Request, talks: tuple[Talk, ...], api: bool = False) -> http.Response:
        """Send a request, once.

        Raises:
            NotReached, HfHubHTTPError: it can succeed on another attempt.
            InputError: the server is not a Hub.
        """
        try:
            answer = self._client.send(request, stream=True, follow_redirects=False)
            for talk in talks:
                talk.connected = True
            if api or answer.status_code >= 400 or request.method not in ("GET", "HEAD"):
                return _looked_at(request, answer, talks)
        except _BROKEN as error:
            raise NotReached(error) from error
        return _handed_on(answer, talks)

    def _resume(self, request: http.Request, talks: tuple[Talk, ...]) -> http.Response:
        """Send the request for the rest of a file, as often as any other: repeating the whole action would start over.

        Raises:
            InputError: every attempt failed.
        """
        for tries in range(1, TRIES):
            try:
                return self._send(request, talks)
            except (HfHubHTTPError, NotReached) as error:
                headers = passing(error)
                if headers is None:
                    raise
                pause(wait_before(tries, headers))
        try:
            return self._send(request, talks)
        except (HfHubHTTPError, NotReached) as error:
            words = "the download was interrupted and could not be resumed"
            raise InputError(words, where=_address(request).geturl(), hint="run again later") from error

    def close(self) -> None:
        self._client.close()


def _address(request: http.Request) -> Any:
    """Without the query, which can contain signatures."""
    return urlsplit(str(request.url))._replace(query="", fragment="")


def _looked_at(request: http.Request, answer: http.Response, talks: tuple[Talk, ...]) -> http.Response:
    """An answer other than a file, read completely.

    Raises:
        InputError: it is not a Hub's answer, or too large.
        HfHubHTTPError: it is one after which the library would repeat the request.
    """
    address = _address(request)
    try:
        content = b"".join(_bounded(answer, talks, address.geturl()))
    finally:
        answer.close()
    skip = ("content-encoding", "content-length", "transfer-encoding")
    headers = [(name, value) for name, value in answer.headers.multi_items() if name.lower() not in skip]
    whole = http.Response(answer.status_code, headers=headers, content=content, request=request)
    if whole.status_code in _SENT_AGAIN:
        hf_raise_for_status(whole)
    if whole.is_success and request.method != "HEAD":
        check_answer(request.method, address.path, content, address.geturl())
    return whole


def _bounded(answer: http.Response, talks: tuple[Talk, ...], where: str) -> Iterator[bytes]:
    size = 0
    for chunk in answer.iter_bytes():
        size += len(chunk)
        if size > MOST_ANSWER:
            raise InputError(f"the server is not a Hub: it sent more than {MOST_ANSWER} bytes", where=where)
        for talk in talks:
            talk.watch(where, MOST_SECONDS)
        yield chunk


def _handed_on(answer: http.Response, talks: tuple[Talk, ...]) -> http.Response:
    """An answer whose content the caller reads."""
    return http.Response(
        answer.status_code,
        headers=answer.headers.multi_items(),
        stream=_Content(answer, talks),
        extensions=answer.extensions,
    )


class _Content(http.SyncByteStream):
    """Content as it arrives, counted."""

    def __init__(self, answer: http.Response, talks: tuple[Talk, ...]) -> None:
        self._answer, self._talks = answer, talks

    def __iter__(self) -> Iterator[bytes]:
        if not self._talks:
            yield from self._answer.iter_raw()
            return
        where, received = _address(self._answer.request).geturl(), 0
        try:
            for chunk in self._answer.iter_raw():
                received += len(chunk)
                for talk in self._talks:
                    talk.take(len(chunk), where)
                yield chunk
        except _BROKEN as error:
            step = constants.DOWNLOAD_CHUNK_SIZE  # written at a time: the rest is lost
            if received < step:
                raise NotReached(error) from error
            for talk in self._talks:
                talk.lose(received % step)
            # This makes the library ask for the rest.
            raise http.RemoteProtocolError(str(error), request=self._answer.request) from error

    def close(self) -> None:
        self._answer.close()


def root_of(error: BaseException) -> BaseException:
    """The cause of the library's error: why it looked in its cache, why a file was not sent."""
    wrapped = isinstance(error, LocalEntryNotFoundError) or type(error) is RuntimeError
    return error.__cause__ if wrapped and error.__cause__ is not None else error


def passing(error: BaseException) -> Mapping[str, str] | None:
    """The headers of an answer, or none, if another attempt can succeed; None if it cannot."""
    error = root_of(error)
    if isinstance(error, HfHubHTTPError):
        return error.response.headers if error.response.status_code in AGAIN else None
    if isinstance(error, OfflineModeIsEnabled):
        return {} if isinstance(error, NotReached) else None
    return {} if isinstance(error, http.TransportError | ConnectionError | errors.XetDownloadError) else None


def absent(error: BaseException) -> bool:
    """Whether there was no server to connect to."""
    found = root_of(error)
    return isinstance(found, NotReached) and found.how in ("ConnectError", "ConnectTimeout")


def misread(error: BaseException) -> bool:
    """Whether the library failed on an unexpected answer."""
    kinds = (KeyError, TypeError, AttributeError, IndexError, AssertionError, json.JSONDecodeError, UnicodeDecodeError)
    return isinstance(error, kinds) and of_library(error)


def of_library(error: BaseException) -> bool:
    """Whether the client library raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else ""
    return module.partition(".")[0] in ("huggingface_hub", "json")
