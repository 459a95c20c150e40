"""HTTP against the plain stack of Starlette and psycopg's pool, and how soon progress reaches 1 to 1,000 listeners."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg

from benchmarks.contenders.children import ROOT
from benchmarks.contenders.ours import daemon_with_noop
from benchmarks.contenders.plain import SCHEMA
from benchmarks.measure import Report, interleaved, machine, percentile
from tests.postgres import Postgres, own_postgres

PART = "http"
JOB = json.dumps({"processor": "noop", "input": {}}).encode()
CONNECTIONS = 16
# Method, connections, and among how many jobs they are shared.
ASKED = (
    ("GET", 1, 1),
    ("GET", CONNECTIONS, 1),
    ("GET", CONNECTIONS, CONNECTIONS),
    ("POST", 1, 1),
    ("POST", CONNECTIONS, 1),
)
# The processor's message is the time at which it was sent.
MESSAGE = re.compile(rb'"message":"(\d+)"')
# Slower than the daemon thins progress, so that each message is told at once.
REPORTS, PAUSE_S = 25, 0.7


class Client:
    """One kept connection that sends a request after the answer to the one before."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> Client:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        return self

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Send one request and read its whole answer."""
        self.send(method, path, body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.split(b" ", 2)[1].startswith(b"2"), head
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return await self._reader.readexactly(int(length.split(b":")[1]))

    def send(self, method: str, path: str, body: bytes = b"") -> None:
        """Write one request."""
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def requests(port: int, method: str, count: int, connections: int, jobs: int) -> list[float]:
    """Seconds that all requests took, then milliseconds of each request. The clients share `jobs` jobs among them."""
    clients = [await Client(port).open() for _ in range(connections)]
    made = [json.loads(await clients[0].ask("POST", "/v1/jobs", JOB))["id"] for _ in range(jobs)]
    taken: list[float] = []

    async def one(number: int, client: Client) -> None:
        path, body = ("/v1/jobs", JOB) if method == "POST" else (f"/v1/jobs/{made[number % jobs]}", b"")
        for _ in range(count // connections):
            begun = time.perf_counter()
            await client.ask(method, path, body)
            taken.append(1000 * (time.perf_counter() - begun))

    begun = time.perf_counter()
    await asyncio.gather(*map(one, range(connections), clients))
    seconds = time.perf_counter() - begun
    for client in clients:
        await client.close()
    return [seconds, *taken]


def compare(ports: dict[str, int], wanted: argparse.Namespace, report: Report) -> None:
    """GET and POST of one client, and of sixteen connections that read one job, or each its own."""
    for method, connections, jobs in ASKED:
        systems = {
            name: partial(_run, port, method, wanted.requests, connections, jobs) for name, port in ports.items()
        }
        rounds = interleaved(systems, wanted.rounds)
        if connections == 1:
            each = {name: [percentile(one[1:], 0.5) for one in measured] for name, measured in rounds.items()}
            report.add(PART, f"{method}, one client, p50", "ms", each, against="plain stack")
        else:
            each = {name: [(len(one) - 1) / one[0] for one in measured] for name, measured in rounds.items()}
            what = f"{method}, {connections} connections" + (f", {jobs} jobs" if jobs > 1 else "")
            report.add(PART, what, "requests/s", each, against="plain stack")


def _run(port: int, method: str, count: int, connections: int, jobs: int) -> list[float]:
    return asyncio.run(requests(port, method, count, connections, jobs))


class Listener(asyncio.Protocol):
    """One event stream, read with as little work as can be: a thousand of them share a process with each other.

    What they cost themselves would be told as the daemon's delay. `heard` gets when a message was sent, and when heard.
    """

    def __init__(self, job: str, heard: list[tuple[int, int]]) -> None:
        loop = asyncio.get_running_loop()
        self.connected: asyncio.Future[int] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._request = f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        self._heard = heard
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Note the messages of the events that have arrived as a whole."""
        now = time.monotonic_ns()
        if not self.connected.done():
            self.connected.set_result(now)
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            if sent := MESSAGE.search(event):
                self._heard.append((int(sent[1]), now))
            elif b"event: succeeded" in event:
                self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of the stream."""
        self.ended.set_result(None)


async def latencies(port: int, listeners: int) -> list[float]:
    """Milliseconds from a processor's call of `progress()` to each listener of the job's stream."""
    submitter = await Client(port).open()
    work = {"reports": REPORTS, "pause_s": PAUSE_S}
    body = json.dumps({"processor": "noop", "input": work}).encode()
    job = json.loads(await submitter.ask("POST", "/v1/jobs", body))["id"]
    heard: list[tuple[int, int]] = []
    all_listeners = [Listener(job, heard) for _ in range(listeners)]
    loop = asyncio.get_running_loop()
    for one in all_listeners:
        await loop.create_connection(lambda one=one: one, "127.0.0.1", port)  # type: ignore[misc]
    connected = await asyncio.gather(*(one.connected for one in all_listeners))
    await asyncio.gather(*(one.ended for one in all_listeners))
    await submitter.close()
    # What was sent before everybody listened was replayed to some.
    return [(now - sent) / 1e6 for sent, now in heard if sent > max(connected)]


def listen(port: int, wanted: argparse.Namespace, report: Report) -> None:
    """Progress to SSE."""
    for listeners in wanted.listeners:
        rounds = [asyncio.run(latencies(port, listeners)) for _ in range(wanted.rounds)]
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            what = f"progress to SSE, {listeners:,} listeners, {name}"
            report.add(PART, what, "ms", {"vidqueue": [percentile(one, share) for one in rounds]})


@contextmanager
def plain(postgres: Postgres) -> Iterator[int]:
    """The plain stack in a process of its own; its port."""
    url = postgres.database("plain")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA)
    command = [sys.executable, "-m", "benchmarks.contenders.plain", url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline().split()[1])
        finally:
            process.terminate()


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.web", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the table shows their medians (5)")
    parser.add_argument("--requests", type=int, default=800, help="requests in each round (800)")
    parser.add_argument("--listeners", type=int, nargs="*", default=[1, 100, 1000], help="event streams (1 100 1000)")
    parser.add_argument("--out", type=Path, help="file to write the table to, as .md and .json")
    wanted = parser.parse_args()
    report = Report(machine=machine())
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with own_postgres() as postgres, plain(postgres) as plain_port, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        daemon = daemon_with_noop(folder / "vidqueue", VIDQUEUE_DATABASE__URL=postgres.database("vidqueue")).start()
        try:
            port = int(daemon.url.rsplit(":", 1)[1].strip("/"))
            listen(port, wanted, report)
            # What is submitted from here on waits.
            daemon.sql("UPDATE vidqueue.lanes SET paused = true")
            compare({"plain stack": plain_port, "vidqueue": port}, wanted, report)
        finally:
            daemon.stop()
    report.publish(wanted.out)


if __name__ == "__main__":
    main()
