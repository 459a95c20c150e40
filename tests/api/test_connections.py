"""Connections to a real server: how fast they answer, and what they may cost."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from structlog.testing import capture_logs

from tests.daemon import promised
from tests.factory import eventually
from vidqueue.api.http import connections, protocol
from vidqueue.api.server import listening
from vidqueue.services import Services

HOST = b"Host: localhost\r\n"
PROBE = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
MIB = 1024 * 1024


@dataclass
class Client:
    """One TCP connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> bool:
        """Send; False if the server has hung up."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except OSError:
            return False
        return True

    async def status(self) -> int | None:
        """Status of the next answer, which is read to its end; None if the server hangs up instead."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            return None
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        self.body = await self.reader.readexactly(int(fields.get(b"content-length", b"0")))
        self.headers = fields
        return int(head.split()[1])

    async def is_closed(self, within_s: float) -> bool:
        """True if the server ends the connection in time, whatever it says before."""
        try:
            async with asyncio.timeout(within_s):
                while await self.reader.read(65536):
                    pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    address = urlsplit(url)
    client = Client(*await asyncio.open_connection(address.hostname, address.port))
    try:
        yield client
    finally:
        client.writer.transport.abort()


async def probe(url: str) -> float:
    """Ask for /healthz on a new connection, and return the seconds it took."""
    began = time.perf_counter()
    async with connected(url) as client:
        assert await client.send(PROBE)
        assert await client.status() == 200
    return time.perf_counter() - began


async def test_no_answer_on_a_kept_connection_waits_for_a_delayed_acknowledgement(wire: httpx2.AsyncClient) -> None:
    """Linux delays an ACK by 40 ms, and Nagle's algorithm holds the second packet of an answer back until it comes."""
    for path in ("/healthz", "/v1/lanes"):
        times = []
        for _ in range(20):
            began = time.perf_counter()
            assert (await wire.get(path)).status_code == 200
            times.append(time.perf_counter() - began)
        assert statistics.median(times) < 0.03, path


HEADS = {
    "target": (b"GET /" + b"a" * MIB + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "query": (b"GET /v1/jobs?tag=" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "value": (b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"a" * MIB + b"\r\n\r\n", 431),
    "name": (b"GET / HTTP/1.1\r\n" + HOST + b"A" * MIB + b": a\r\n\r\n", 431),
    "many": (b"GET / HTTP/1.1\r\n" + HOST + b"A: a\r\n" * 101 + b"\r\n", 431),
    "total": (b"GET / HTTP/1.1\r\n" + HOST + (b"A: " + b"a" * 8000 + b"\r\n") * 9 + b"\r\n", 431),
    "nonsense": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10, 400),
    "no_end_of_lines": (b"\r\n" * 100_000, 400),
    "two_lengths": (b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    "other_coding": (b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "two_framings": (
        b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400
    ),
    "two_hosts": (b"GET /v1/jobs HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n\r\n", 400),
    "same_host_twice": (b"GET /v1/jobs HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    "no_host": (b"GET /v1/jobs HTTP/1.1\r\n\r\n", 400),
    "pipelined": (b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n", 404),
}  # fmt: skip


async def test_blank_space_around_a_header_is_no_part_of_it(server: str) -> None:
    async with connected(server) as client:
        body = b'{"processor": "none"}'
        head = b"POST /v1/jobs HTTP/1.1\r\nHost: \t localhost \t\r\nContent-Type: application/json \r\n"
        assert await client.send(head + b"Content-Length: %d \r\n\r\n" % len(body) + body)
        assert await client.status() == 422
        assert json.loads(client.body)["code"] == "unknown_processor"


@pytest.mark.parametrize("name", HEADS)
async def test_a_head_beyond_the_bounds_is_refused_with_a_problem(server: str, name: str) -> None:
    head, status = HEADS[name]
    async with connected(server) as client:
        await client.send(head)
        assert await client.status() == status
        problem = json.loads(client.body)
        assert client.headers[b"content-type"] == b"application/problem+json"
        assert (problem["status"], bool(problem["code"]), bool(problem["hint"])) == (status, True, True)
    await probe(server)


@pytest.mark.parametrize("behind", [b"", PROBE, PROBE * 8], ids=["alone", "one", "many"])
async def test_an_answer_ends_when_its_client_leaves_whatever_was_asked_behind_it(
    server: str, services: Services, behind: bytes
) -> None:
    """The server noticed that for the last request of a connection only, and wrote to one that was closed."""

    async def is_followed() -> bool:
        return bool(services.event_feed._subscriptions)

    async def is_left() -> bool:
        return not await is_followed()

    with capture_logs() as logs:
        async with connected(server) as client:
            assert await client.send(b"GET /v1/events HTTP/1.1\r\n" + HOST + b"\r\n" + behind)
            await client.reader.readuntil(b"retry:")
            await eventually(is_followed)
        # Before the next ping, which would fail.
        await eventually(is_left, within_s=10)
    assert [one["event"] for one in logs if one["log_level"] == "error"] == []


ENDLESS = {
    "header": (b"GET / HTTP/1.1\r\n" + HOST + b"A: ", b"a" * 65536),
    "target": (b"GET /", b"a" * 65536),
    "headers": (b"GET / HTTP/1.1\r\n" + HOST, b"A: a\r\n" * 10_000),
    "empty_lines": (b"", b"\r\n" * 30_000),
    "trailer": (b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: ", b"a" * 65536),
    "extension": (b"POST /v1/jobs HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5;a=", b"a" * 65536),
    "body_nobody_reads": (b"POST /nothing HTTP/1.1\r\n" + HOST + b"Content-Length: 999999999999\r\n\r\n", b"a" * 65536),
    "chunks_nobody_reads": (
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n",
        b"10000\r\n" + b"a" * 65536 + b"\r\n",
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_what_does_not_end_is_cut_off_soon(server: str, name: str) -> None:
    start, piece = ENDLESS[name]
    async with connected(server) as client:
        await client.send(start)
        sent, began = 0, time.perf_counter()
        while sent < 300 * MIB and await client.send(piece):
            sent += len(piece)
        assert sent < 64 * MIB
        assert time.perf_counter() - began < promised(5)
    await probe(server)


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b"GET / HT"],
        [b"GET / HTTP/1.1\r\n" + HOST],
        [b"\r\n"],
        [PROBE, b"GET / HT"],
        [PROBE, b"\r\n"],
        [b"GET /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n"],
        [b"GET /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n", b"a"],
        [b"GET /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n", b"a" * 9],
        [PROBE],
    ],
    ids=["silent", "line", "head", "empty_line", "second", "second_empty", "body", "part", "whole_body", "kept"],
)
async def test_a_connection_on_which_nothing_more_comes_is_closed(
    services: Services, monkeypatch: pytest.MonkeyPatch, pieces: list[bytes]
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.3)
    monkeypatch.setattr(protocol, "DRAIN_TIMEOUT_S", 0.3)
    async with listening(services) as url, connected(url) as client:
        for piece in pieces:
            await client.send(piece)
            await asyncio.sleep(0.05)
        assert await client.is_closed(8)


async def test_a_head_that_drips_is_refused_in_time(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.5)
    async with listening(services) as url, connected(url) as client:

        async def drip() -> None:
            for letter in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 1000:
                if not await client.send(bytes([letter])):
                    return
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        assert await client.status() == 408
        assert json.loads(client.body)["code"] == "request_timeout"
        dripping.cancel()


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
async def test_a_request_for_another_protocol_is_answered_as_one_of_http(
    server: str, caplog: pytest.LogCaptureFixture, protocol: bytes
) -> None:
    """Clients of ComfyUI ask for a websocket at /ws."""
    asked = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"
    async with connected(server) as client:
        await client.send(b"GET /ws HTTP/1.1\r\n" + HOST + asked)
        assert await client.status() == 404
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    await probe(server)


async def test_requests_in_one_packet_are_answered_in_turn(server: str) -> None:
    async with connected(server) as client:
        await client.send(PROBE * 5 + b"nonsense\r\n\r\n")
        assert [await client.status() for _ in range(5)] == [200] * 5
        assert await client.is_closed(8)


async def test_ten_thousand_requests_in_one_packet_are_not_collected(server: str) -> None:
    async with connected(server) as client:
        await client.send(PROBE * 3000)
        assert await client.is_closed(10)
    await probe(server)


@pytest.fixture
def few(services: Services) -> Callable[[int], Services]:
    """The same services, with a limit of connections."""

    def limited(most: int) -> Services:
        api = services.settings.api.model_copy(update={"max_connections": most})
        settings = services.settings.model_copy(update={"api": api})
        return Services(settings, services.database, services.event_feed, services.storage, services.inputs)

    return limited


async def test_a_new_connection_takes_the_place_of_the_one_idle_longest(few: Callable[[int], Services]) -> None:
    async with AsyncExitStack() as stack, listening(few(16)) as url:
        silent = [await stack.enter_async_context(connected(url)) for _ in range(16)]
        await asyncio.sleep(0.1)
        for _ in range(3):
            await probe(url)
        assert await silent[0].is_closed(5)
        assert await silent[15].send(PROBE)
        assert await silent[15].status() == 200


async def test_when_every_connection_is_at_work_probes_are_answered_and_others_told(
    few: Callable[[int], Services], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "RESERVED", 2)
    stream = b"GET /v1/events HTTP/1.1\r\n" + HOST + b"\r\n"
    async with AsyncExitStack() as stack, listening(few(16)) as url:
        listeners = [await stack.enter_async_context(connected(url)) for _ in range(16)]
        for listener in listeners:
            await listener.send(stream)
            await listener.reader.readuntil(b"retry:")
        # Silent ones do not keep the last places either.
        for _ in range(20):
            await stack.enter_async_context(connected(url))
        assert await probe(url) < 1
        async with connected(url) as client:
            await client.send(b"GET /v1/jobs HTTP/1.1\r\n" + HOST + b"\r\n")
            assert await client.status() == 503
            assert json.loads(client.body)["code"] == "overloaded"
            assert client.headers[b"retry-after"]
            assert await client.is_closed(5)
        listeners[0].writer.transport.abort()

        async def answered() -> Any:
            async with connected(url) as client:
                await client.send(b"GET /problems HTTP/1.1\r\n" + HOST + b"\r\n")
                return await client.status() == 200

        async with asyncio.timeout(10):
            while not await answered():
                await asyncio.sleep(0.05)


async def test_a_client_that_reads_nothing_of_an_answer_is_cut_off(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "WRITE_TIMEOUT_S", 0.3)
    page = b"GET /docs/swagger.js HTTP/1.1\r\n" + HOST + b"\r\n"
    async with listening(services) as url, connected(url) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(page * 16)
        await asyncio.sleep(2)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert await client.is_closed(10)


def test_the_limit_of_open_files_bounds_the_connections() -> None:
    assert connections.most_connections(4096, 65_536) == 4096
    assert connections.most_connections(4096, 1024) == 672
    assert connections.most_connections(4096, 64) == connections.RESERVED
