"""Results of servers that our disk has no room for: the disk is to blame, and the work is not done again."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vidqueue.ops.http_client import Stop
from vidqueue.processors.comfy.client import Client, RemoteFile
from vidqueue.processors.remote.peer import Peer, PeerError

FULL = Path("/dev/full")


class _Film(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Length", str(1 << 20))
        self.end_headers()
        whole = b"x" * (1 << 20)
        self.wfile.write(whole[: 1 << 10] if self.path.startswith("/broken") else whole)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Film) as films:
        threading.Thread(target=films.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{films.server_port}"
        films.shutdown()


def by_peer(server: str, path: Path) -> None:
    Peer(server).download("/film", path, largest=2 << 20, stop=Stop())


def by_comfyui(server: str, path: Path) -> None:
    Client(server, idle_s=10).download(RemoteFile("film.mp4", "", "output"), path, limit=2 << 20, check=lambda: None)


@pytest.mark.parametrize("download", [by_peer, by_comfyui])
def test_a_disk_that_is_full_is_not_a_server_that_was_lost(server: str, download: Callable[[str, Path], None]) -> None:
    with pytest.raises(OSError, match="No space left") as raised:
        download(server, FULL)
    assert raised.value.errno == errno.ENOSPC


def test_a_connection_that_breaks_in_the_middle_still_is(server: str, tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="broke"):
        Peer(server).download("/broken", tmp_path / "film", largest=2 << 20, stop=Stop())
