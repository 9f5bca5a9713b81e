"""A look at a site over HTTP, on this machine alone: what a static host does, and no more."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from rh_bench.errors import InputError

HOST = "127.0.0.1"
TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".xml": "application/xml; charset=utf-8",
    ".tsv": "text/tab-separated-values; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".yaml": "application/yaml",
    "": "application/octet-stream",
}
"""What each kind of file is called, whatever this machine's own tables say."""


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = dict(TYPES)  # noqa: RUF012

    def send_head(self) -> Any:
        """Names with a leading dot are no part of the site, and folders are not listed."""
        if any(part.startswith(".") for part in unquote(self.path.split("?")[0]).split("/")):
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def list_directory(self, path: Any) -> None:
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the terminal belongs to the command."""


def make_server(site: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of the folder `site`, bound and not yet running; port 0 takes any that is free.

    Raises:
        InputError: `site` holds no site, or the port is taken.
    """
    if not (site / "index.html").is_file():
        raise InputError("holds no index.html", where=site, hint="build it with rh-bench leaderboard RUNS --out SITE")
    handler = functools.partial(_Handler, directory=str(site))
    try:
        return ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        raise InputError(
            f"cannot listen on port {port} ({error.strerror or error})", hint="choose another --port"
        ) from None


def address(server: ThreadingHTTPServer) -> str:
    return f"http://{HOST}:{server.server_address[1]}/"
