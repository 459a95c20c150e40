"""A daemon without a descriptor left answers probes, writes a bounded log, and goes on when there are some again."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.daemon import Daemon, until

pytestmark = pytest.mark.slow

STREAM = b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    started = Daemon(tmp_path / "data").start()
    yield started
    assert started.stop() == 0


def _stream(daemon: Daemon) -> socket.socket:
    """A connection that is at work for as long as it is open, so that it does not give way."""
    address = urlsplit(daemon.url)
    assert address.hostname
    connection = socket.create_connection((address.hostname, address.port or 80), timeout=5)
    connection.sendall(STREAM)
    return connection


def test_a_daemon_without_descriptors_answers_probes_and_recovers(daemon: Daemon) -> None:
    assert daemon.ended(daemon.submit(act="work"))["state"] == "succeeded"
    daemon.http.close()
    pid = daemon.process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    in_use = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (in_use + 4, hard))
    streams = [_stream(daemon) for _ in range(16)]
    try:
        until(lambda: "no_descriptor_for_connection" in daemon.log.read_text(), what="it has none left")
        for _ in range(5):
            assert httpx2.get(f"{daemon.url}/healthz", timeout=10).status_code == 200
        assert daemon.process.poll() is None
        # A storm of one fault is a few lines, not one for each round of the event loop.
        assert daemon.log.read_text().count("no_descriptor_for_connection") < 20
    finally:
        for stream in streams:
            stream.close()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    daemon.http = httpx2.Client(base_url=daemon.url, timeout=30)
    assert daemon.ended(daemon.submit(act="work"))["attempt"] == 1
    assert daemon.violations() == []
