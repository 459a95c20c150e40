"""A small HTTP server for the time of one run: the peer fetches its inputs here, and tells how far it is."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, TypeAlias

from vidqueue.ops.addresses import Url

Address: TypeAlias = IPv4Address | IPv6Address

# A report has the whole log so far; a longer one says nothing that the final answer does not.
LARGEST_REPORT = 16 << 20
TIMEOUT_S = 60


class Listener:
    """Serves the files of one run, and takes the reports about it, under addresses that nobody can guess."""

    def __init__(self, base: str, token: str) -> None:
        self._base = f"{base}/{token}"
        self.files = dict[str, Path]()

    @property
    def reports_url(self) -> str:
        """Where the peer sends its reports to."""
        return f"{self._base}/reports"

    def offer(self, file: Path) -> str:
        """Return the URL of a file; its name keeps the extension."""
        name = f"{len(self.files)}{file.suffix}"
        self.files[f"{self._base.rpartition('/')[2]}/{name}"] = file
        return f"{self._base}/{name}"


@contextmanager
def listening(peer: Url, hear: Callable[[Any], None], *, own_address: Address | None = None) -> Iterator[Listener]:
    """Serve on the address of this machine that the peer can reach; `hear` gets each report, in a thread.

    Raises:
        OSError: there is no way to the peer, or `own_address` is none of this machine.
    """
    address = str(own_address) if own_address is not None else _address_towards(peer)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    token = secrets.token_urlsafe(24)
    kind = type("Server", (ThreadingHTTPServer,), {"address_family": family, "daemon_threads": True})
    server = kind((address, 0), _Handler)
    shown = f"[{address}]" if family == socket.AF_INET6 else address
    server.listener = listener = Listener(f"http://{shown}:{server.server_address[1]}", token)
    server.reports_path, server.hear = f"{token}/reports", hear
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="peer-listener", daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _address_towards(peer: Url) -> str:
    """The address from which this machine talks to a host. Connecting a datagram socket sends nothing."""
    family, _, _, _, address = socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


class _Handler(BaseHTTPRequestHandler):
    timeout = TIMEOUT_S
    server: Any

    def do_GET(self) -> None:
        """Send a file."""
        file = self.server.listener.files.get(self.path.lstrip("/"))
        if file is None:
            self.send_error(404)
            return
        with file.open("rb") as source:
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(file.stat().st_size))
            self.end_headers()
            shutil.copyfileobj(source, self.wfile, 1 << 20)

    def do_POST(self) -> None:
        """Take a report."""
        length = self.headers.get("Content-Length", "")
        if self.path.lstrip("/") != self.server.reports_path or not length.isdigit() or int(length) > LARGEST_REPORT:
            self.close_connection = True
            self.send_error(404)
            return
        body = self.rfile.read(int(length))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        try:
            self.server.hear(json.loads(body))
        except (ValueError, RecursionError):
            return

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Say nothing: the addresses are secret."""
