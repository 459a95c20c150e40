"""A small HTTP server on 127.0.0.1 for tests of downloads and webhooks: each path has a handler, requests are kept."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Asked:
    """One request as the server got it."""

    path: str
    headers: dict[str, str]
    body: bytes
    method: str = "GET"


@dataclass
class Web:
    """The server's address, what it answers by path, and what it was asked."""

    url: str
    pages: dict[str, Callable[[BaseHTTPRequestHandler, Asked], None]]
    asked: list[Asked] = field(default_factory=list)


def answer(status: int = 200, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler, Asked], None]:
    """A handler that always says the same; underscores in header names become dashes."""

    def handle(server: BaseHTTPRequestHandler, asked: Asked) -> None:
        server.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            server.send_header(name.replace("_", "-"), value)
        server.end_headers()
        server.wfile.write(body)

    return handle


def file(
    content: bytes, *, etag: str = '"one"', breaks_at: int | None = None
) -> Callable[[BaseHTTPRequestHandler, Asked], None]:
    """A handler that serves a file with ranges, and closes the connection `breaks_at` bytes into the first answer."""
    answered = 0

    def handle(server: BaseHTTPRequestHandler, asked: Asked) -> None:
        nonlocal answered
        answered += 1
        begin = 0
        if asked.headers.get("range") and asked.headers.get("if-range") == etag:
            begin = int(asked.headers["range"].removeprefix("bytes=").removesuffix("-"))
            server.send_response(206)
            server.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            server.send_response(200)
        server.send_header("Content-Length", str(len(content) - begin))
        server.send_header("ETag", etag)
        server.end_headers()
        end = breaks_at if breaks_at is not None and answered == 1 else len(content)
        server.wfile.write(content[begin:end])
        if end < len(content):
            server.wfile.flush()
            server.close_connection = True

    return handle


@contextmanager
def serving(certificate: Path | None = None, key: Path | None = None) -> Iterator[Web]:
    """Run the server for the block, with TLS if it has a certificate."""
    pages: dict[str, Callable[[BaseHTTPRequestHandler, Asked], None]] = {}
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            request = Asked(
                self.path, {name.lower(): value for name, value in self.headers.items()}, body, self.command
            )
            asked.append(request)
            pages.get(self.path.partition("?")[0], answer(404))(self, request)

        do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    running.start()
    try:
        yield Web(f"http{'s' if certificate else ''}://127.0.0.1:{server.server_address[1]}", pages, asked)
    finally:
        server.shutdown()
        server.server_close()
