"""The local web server of the page: files, computed answers, and what the page sends back. Standard library only.

It listens on the loopback address alone and answers only requests that name that address, so that no other site can
reach it through a name of its own. Every answer carries the two headers without which a browser gives a page neither
shared memory (and so no WebAssembly threads) nor a fine clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NEVER_ELSEWHERE = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self' blob: data:"
)
"""The page may load nothing from any other place, whatever its scripts try."""
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".mjs": "text/javascript",
    ".js": "text/javascript",
    ".css": "text/css; charset=utf-8",
    ".wasm": "application/wasm",
    ".json": "application/json",
    ".jpg": "image/jpeg",
    ".svg": "image/svg+xml",
}
BODY_LIMIT = 256 * 1024 * 1024
"""The largest thing a page may send: 1024×2048 logits of twenty classes have 168 MB."""

Reply = bytes | None
"""None: there is nothing (yet); the page asks again."""


@dataclass
class Site:
    """What is served. Keys of ``files`` ending in ``/``, but ``/`` itself, are folders; nothing outside is reached."""

    files: dict[str, Path] = field(default_factory=dict)
    computed: dict[str, Callable[[], Reply]] = field(default_factory=dict)
    takes: dict[str, Callable[[bytes], None]] = field(default_factory=dict)
    watched: dict[str, Callable[[], None]] = field(default_factory=dict)
    """Called when the page that opened this address is no more: its connection has ended."""
    served: set[str] = field(default_factory=set)
    """The addresses of files that were fetched: what really was loaded."""

    def file(self, path: str) -> Path | None:
        """The file behind an address; None where there is none, or where it lies outside its folder."""
        named = self.files.get(path)
        if named is not None and named.is_file():
            return named
        for prefix, folder in self.files.items():
            if prefix != "/" and prefix.endswith("/") and path.startswith(prefix):
                found = (folder / path[len(prefix) :]).resolve()
                if found.is_relative_to(folder.resolve()) and found.is_file():
                    return found
        return None


class Handler(BaseHTTPRequestHandler):
    """One connection of a page."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        path = self._path()
        site = self.server.site
        if path is None:
            return
        if path in site.watched:
            self._watch(site.watched[path])
        elif path in site.computed:
            reply = site.computed[path]()
            if reply is None:
                self._send(HTTPStatus.NO_CONTENT, b"", "text/plain")
            else:
                self._send(HTTPStatus.OK, reply, "application/octet-stream")
        elif (file := site.file(path)) is not None:
            site.served.add(path)
            kind = TYPES.get(file.suffix, "application/octet-stream")
            self._send(HTTPStatus.OK, file.read_bytes(), kind)
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        path = self._path()
        if path is None:
            return
        length = self.headers.get("Content-Length", "")
        if path not in self.server.site.takes:
            self._refuse(HTTPStatus.NOT_FOUND)
        elif not length.isdigit():
            self._refuse(HTTPStatus.LENGTH_REQUIRED)
        elif int(length) > self.server.body_limit:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self.server.site.takes[path](self.rfile.read(int(length)))
            self._send(HTTPStatus.NO_CONTENT, b"", "text/plain")

    def _path(self) -> str | None:
        """The decoded path; None, answered already, for a request that names another host."""
        if self.headers.get("Host") not in self.server.names:
            self._refuse(HTTPStatus.FORBIDDEN)
            return None
        return unquote(urlsplit(self.path).path)

    def _watch(self, ended: Callable[[], None]) -> None:
        """Hold the connection open, saying nothing more, until the other end lets go."""
        self._head(HTTPStatus.OK, "text/event-stream", None)
        self.wfile.flush()
        self.close_connection = True
        try:
            while self.connection.recv(1):
                pass
        except OSError:
            pass  # a reset is an end too
        ended()

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True  # an unread body would be taken for the next request
        self._send(status, f"{status.value} {status.phrase}\n".encode(), "text/plain")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        try:
            self._head(status, kind, len(body))
            self.wfile.write(body)
        except ConnectionError:
            self.close_connection = True  # the page is gone; whoever waits for it hears so elsewhere

    def _head(self, status: HTTPStatus, kind: str, length: int | None) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        if kind.startswith("text/html"):
            headers["Content-Security-Policy"] = NEVER_ELSEWHERE
        if length is not None and status != HTTPStatus.NO_CONTENT:
            headers["Content-Length"] = str(length)
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in {**headers, **ISOLATION}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the page says itself what went wrong."""


class Server(ThreadingHTTPServer):
    """A `Site` on the loopback address, as a context manager; port 0 takes any free one."""

    daemon_threads = True

    def __init__(self, site: Site, port: int = 0, body_limit: int = BODY_LIMIT) -> None:
        self.site, self.body_limit = site, body_limit
        super().__init__(("127.0.0.1", port), Handler)
        self.port = int(self.server_address[1])
        self.names = {f"127.0.0.1:{self.port}", f"localhost:{self.port}"}
        self.url = f"http://127.0.0.1:{self.port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that is killed breaks connections; that is no news."""

    def __enter__(self) -> Server:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.shutdown()
        self.server_close()
