"""An HTTP server during one run, from which the peer fetches inputs and to which it sends reports and files."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, TypeAlias

from vidqueue.ops.addresses import Url
from vidqueue.processors.remote.uploads import RefusedUploadError, Uploads

Address: TypeAlias = IPv4Address | IPv6Address

# A report has the whole log so far; a longer one says nothing that the final answer does not.
LARGEST_REPORT = 16 << 20
TIMEOUT_S = 60


class Listener:
    """Serves the files of one run, and takes the reports about it, under addresses that nobody can guess.

    Attributes:
        reports_url: where the peer sends its reports to.
    """

    def __init__(self, base: str, reports_base: str, token: str, uploads: Uploads) -> None:
        self._base = f"{base}/{token}"
        self.reports_url = f"{reports_base}/{token}/reports"
        self.files = dict[str, Path]()
        self.uploads = uploads

    @property
    def uploads_url(self) -> str:
        """Below which it uploads files."""
        return f"{self._base}/uploads"

    def offer(self, file: Path) -> str:
        """Return the URL of a file; its name keeps the extension."""
        name = f"{len(self.files)}{file.suffix}"
        self.files[f"{self._base.rpartition('/')[2]}/{name}"] = file
        return f"{self._base}/{name}"


@contextmanager
def listening(
    peer: Url, hear: Callable[[Any], None], uploads: Uploads, *, own_address: Address | None = None,
    upload_port: int | None = None,
) -> Iterator[Listener]:  # fmt: skip
    """Serve on the address of this machine that the peer can reach.

    Args:
        peer: the address of the server.
        hear: gets each report, in a thread.
        uploads: gets each file.
        own_address: what the server knows this machine by; found out if not given.
        upload_port: where it uploads files to, beside the address that each of its requests names.

    Raises:
        OSError: there is no way to the peer, the port is in use, or `own_address` is none of this machine.
    """
    address = str(own_address) if own_address is not None else _address_towards(peer)
    token = secrets.token_urlsafe(24)
    shown = f"[{address}]" if ":" in address else address
    with ExitStack() as serving:
        servers = [
            serving.enter_context(closing(_bound(address, port))) for port in (0, upload_port) if port is not None
        ]
        bases = [f"http://{shown}:{server.server_address[1]}" for server in servers]
        # Reports go to the port that stays: an old server repeats for minutes what nobody takes any more.
        listener = Listener(bases[0], bases[-1], token, uploads)
        for server in servers:
            server.listener, server.token, server.hear = listener, token, hear
            # Whatever is sent to the port that is only for uploads is one.
            server.takes_all = server is not servers[0]
            serving.enter_context(_answering(server))
        yield listener


def _bound(address: str, port: int) -> Any:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = type("Server", (ThreadingHTTPServer,), {"address_family": family, "daemon_threads": True})
    server: Any = kind((address, port), _Handler)
    server.close = server.server_close
    return server


@contextmanager
def _answering(server: Any) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="peer-listener", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
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
        ours = self.path == f"/{self.server.token}/reports"
        if not (ours or self.server.takes_all) or not length.isdigit() or int(length) > LARGEST_REPORT:
            self.close_connection = True
            self.send_error(404)
            return
        body = self.rfile.read(int(length))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        if not ours:  # of an earlier run
            return
        try:
            self.server.hear(json.loads(body))
        except (ValueError, RecursionError):
            return

    def do_PUT(self) -> None:
        """Take a file that the model made."""
        uploads_path = f"/{self.server.token}/uploads"
        if not self.server.takes_all and not self.path.startswith(f"{uploads_path}/"):
            self.close_connection = True
            self.send_error(404)
            return
        listener = self.server.listener
        sent_to = f"http://{self.headers.get('Host', '')}{self.path}"
        try:
            address = listener.uploads.receive(sent_to, listener.uploads_url, self.headers, self.rfile)
        except (RefusedUploadError, OSError) as error:
            self.close_connection = True
            self.send_error(error.status if isinstance(error, RefusedUploadError) else 507)
            return
        self.send_response(200)
        self.send_header("Location", address)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Log nothing: the addresses are secret."""
