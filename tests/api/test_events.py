"""Server-sent events on a real socket: nothing missed, nothing twice, and an end when there is one."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.api.test_jobs import REFUSED, run, submit, success
from tests.factory import Queue, eventually
from vidqueue.api.server import listening
from vidqueue.api.v1 import events
from vidqueue.db.tables import attempts
from vidqueue.progress import Progress
from vidqueue.services import Services


@dataclass
class Told:
    """One event as the client sees it."""

    number: int
    kind: str
    data: dict[str, Any]


async def stream(client: httpx2.AsyncClient, url: str, after: int | None = None) -> AsyncIterator[Told]:
    """Events of a stream, until it ends."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    async with client.stream("GET", url, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                yield Told(int(fields["id"]), fields["event"], json.loads(fields["data"]))
                fields = {}


async def take(told: AsyncIterator[Told], until: str, seen: list[Told]) -> None:
    """Collect events up to the first one of kind `until`."""
    async for event in told:
        seen.append(event)
        if event.kind == until:
            return


async def log_of(queue: Queue) -> list[int]:
    """Numbers of all events there are."""
    return [row["number"] for row in await queue.sql("SELECT number FROM vidqueue.events ORDER BY number")]


async def test_a_jobs_stream_tells_everything_and_ends_with_the_job(
    wire: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    job = await submit(wire, title="x")
    seen: list[Told] = []
    reading = asyncio.create_task(collect(stream(wire, job["urls"]["events"]), seen))
    await eventually(lambda: truth(bool(seen)))
    await submit(wire, title="another job, which this stream does not tell")
    await run(queue, services, success(services))
    await asyncio.wait_for(reading, 10)
    assert [event.kind for event in seen] == ["queued", "running", "succeeded"]
    assert {event.data["job_id"] for event in seen} == {job["id"]}
    assert [event.number for event in seen] == [event.data["number"] for event in seen]


async def collect(told: AsyncIterator[Told], seen: list[Told]) -> None:
    async for event in told:
        seen.append(event)


async def truth(value: bool) -> bool:
    return value


async def test_a_finished_job_is_told_once_more_and_then_no_more(
    wire: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    job = await submit(wire)
    await run(queue, services, success(services))
    seen: list[Told] = []
    await asyncio.wait_for(collect(stream(wire, job["urls"]["events"]), seen), 10)
    assert [event.kind for event in seen] == ["queued", "running", "succeeded"]
    part: list[Told] = []
    await asyncio.wait_for(collect(stream(wire, job["urls"]["events"], after=seen[0].number), part), 10)
    assert part == seen[1:]
    for number in (seen[-1].number, seen[-1].number + 1000):
        again = await wire.get(job["urls"]["events"], headers={"Last-Event-ID": str(number)})
        assert (again.status_code, again.content) == (204, b"")
    assert (await wire.get(job["urls"]["events"], params={"after": seen[-1].number})).status_code == 204


async def test_a_retried_job_is_followed_past_its_first_end(
    wire: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    job = await submit(wire)
    await run(queue, services, REFUSED)
    await wire.post(job["urls"]["retry"])
    seen: list[Told] = []
    reading = asyncio.create_task(collect(stream(wire, job["urls"]["events"]), seen))
    await eventually(lambda: truth(len(seen) == 4))
    await run(queue, services, success(services))
    await asyncio.wait_for(reading, 10)
    assert [event.kind for event in seen] == ["queued", "running", "failed", "queued", "running", "succeeded"]


async def test_the_stream_of_all_starts_live(wire: httpx2.AsyncClient, queue: Queue) -> None:
    await submit(wire, title="before")
    told = stream(wire, "/v1/events")
    seen: list[Told] = []
    reading = asyncio.create_task(take(told, "canceled", seen))
    await eventually(lambda: connected(queue, wire, seen))
    job = await submit(wire, title="after")
    await wire.post(job["urls"]["cancel"])
    await asyncio.wait_for(reading, 10)
    assert "before" not in {event.data.get("title") for event in seen}
    assert [event.kind for event in seen if event.data["job_id"] == job["id"]] == ["queued", "canceled"]


@pytest.mark.parametrize("beyond", [1000, 2**63 - 1])
@pytest.mark.parametrize("whose", ["all", "job"])
async def test_a_number_beyond_the_newest_event_means_from_now_on(
    wire: httpx2.AsyncClient, queue: Queue, beyond: int, whose: str
) -> None:
    job = await submit(wire, title="before")
    number = min((await log_of(queue))[-1] + beyond, 2**63 - 1)
    url = "/v1/events" if whose == "all" else job["urls"]["events"]
    async with wire.stream("GET", url, headers={"Last-Event-ID": str(number)}) as answer:
        # The answer has begun, so the place in the log is chosen.
        await wire.post(job["urls"]["cancel"])
        async with asyncio.timeout(10):
            kinds = [line async for line in until_canceled(answer)]
    assert kinds == ["event: canceled"]


async def until_canceled(answer: httpx2.Response) -> AsyncIterator[str]:
    """The kinds of the events up to a cancellation."""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            yield line
        if line == "event: canceled":
            return


async def connected(queue: Queue, wire: httpx2.AsyncClient, seen: list[Told]) -> bool:
    """Make events until the stream tells one: only then is it surely open."""
    await submit(wire, title="knock")
    return bool(seen)


async def test_a_reader_who_comes_again_misses_nothing_and_hears_nothing_twice(
    wire: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    """Several connections write while one reader stays and another keeps breaking off."""
    stop = asyncio.Event()

    async def write(number: int) -> None:
        job_id = await queue.submit(title=f"writer {number}")
        while not stop.is_set():
            async with services.database.transaction() as connection:
                await connection.execute("UPDATE vidqueue.jobs SET priority = 1 - priority WHERE id = %s", (job_id,))

    async def read_in_pieces() -> list[int]:
        numbers: list[int] = []
        after = 0
        for length in (1, 7, 40, 3, 100, 20):
            told = stream(wire, "/v1/events", after=after)
            piece = []
            async for event in told:
                piece.append(event.number)
                if len(piece) == length:
                    break
            await told.aclose()  # type: ignore[attr-defined]
            numbers += piece
            after = numbers[-1]
        return numbers

    stayed: list[Told] = []
    staying = asyncio.create_task(collect(stream(wire, "/v1/events", after=0), stayed))
    writers = [asyncio.create_task(write(number)) for number in range(4)]
    pieces = await asyncio.wait_for(read_in_pieces(), 60)
    stop.set()
    await asyncio.gather(*writers)
    log = await log_of(queue)
    await eventually(lambda: truth(len(stayed) >= len(log)))
    staying.cancel()
    await asyncio.gather(staying, return_exceptions=True)
    assert pieces == log[: len(pieces)]
    assert [event.number for event in stayed] == log


async def test_a_reader_who_falls_behind_catches_up_from_the_log(
    wire: httpx2.AsyncClient, queue: Queue, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe = services.event_feed.subscribe
    monkeypatch.setattr(type(services.event_feed), "subscribe", lambda self, **how: subscribe(**{**how, "size": 2}))
    seen: list[Told] = []
    reading = asyncio.create_task(collect(stream(wire, "/v1/events", after=0), seen))
    # One transaction: the channel offers all of them before any reader has its turn.
    await queue.sql("SELECT vidqueue.submit('zoo', '{}') FROM generate_series(1, 50)")
    log = await log_of(queue)
    await eventually(lambda: truth(len(seen) >= len(log)))
    assert [event.number for event in seen] == log
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


async def test_progress_is_told_as_it_is_written(wire: httpx2.AsyncClient, queue: Queue, services: Services) -> None:
    job = await submit(wire)
    ref = await queue.dispatch(await queue.lane())
    assert ref is not None
    seen: list[Told] = []
    reading = asyncio.create_task(take(stream(wire, job["urls"]["events"]), "progress", seen))
    await eventually(lambda: truth(bool(seen)))
    async with services.database.transaction() as connection:
        await attempts.report(connection, ref, progress=Progress(0.25, stage="encode", fps=50.0, speed=2.0, eta_s=9.0))
    await asyncio.wait_for(reading, 10)
    data = seen[-1].data
    assert [data[name] for name in ("progress", "stage", "fps", "speed", "eta_s")] == [0.25, "encode", 50.0, 2.0, 9.0]
    shown = (await wire.get(job["urls"]["self"])).json()
    assert [shown[name] for name in ("progress", "stage", "fps", "speed", "eta_s")] == [0.25, "encode", 50.0, 2.0, 9.0]


async def test_a_silent_stream_is_pinged(wire: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PING_S", 0.05)
    job = await submit(wire)
    text = b""
    async with wire.stream("GET", job["urls"]["events"]) as answer:
        async for chunk in answer.aiter_raw():
            text += chunk
            if text.count(b": ping\n\n") == 3:
                break
    assert text.startswith(b"retry: 3000\n\n")


async def test_streams_end_when_the_server_does(services: Services, queue: Queue) -> None:
    seen: list[Told] = []
    async with httpx2.AsyncClient(timeout=20) as client:
        async with asyncio.timeout(20):
            async with listening(services) as url:
                job = await queue.submit()
                reading = asyncio.create_task(collect(stream(client, f"{url}/v1/jobs/{job}/events"), seen))
                waiting = asyncio.create_task(
                    client.post(f"{url}/v1/jobs", json={"processor": "zoo"}, headers={"Prefer": "wait=60"})
                )
                await eventually(lambda: counted(queue, 2))
                await eventually(lambda: truth(bool(seen)))
            # Both ended well: the stream with its last chunk, the wait with the job as it is.
            await reading
            assert (await waiting).status_code == 202


async def counted(queue: Queue, jobs: int) -> bool:
    return len(await queue.sql("SELECT id FROM vidqueue.jobs")) == jobs


async def test_a_client_who_leaves_is_noticed(server: str, services: Services, queue: Queue) -> None:
    subscriptions = services.event_feed._subscriptions
    async with httpx2.AsyncClient(base_url=server) as client, client.stream("GET", "/v1/events") as answer:
        await anext(answer.aiter_raw())
        await eventually(lambda: truth(len(subscriptions) == 1))
    await eventually(lambda: truth(len(subscriptions) == 0))


async def test_a_client_who_reads_nothing_is_dropped(
    server: str, services: Services, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "SEND_TIMEOUT_S", 0.3)
    subscriptions = services.event_feed._subscriptions
    address = urlsplit(server)
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        await asyncio.get_running_loop().sock_connect(deaf, (address.hostname, address.port))
        await asyncio.get_running_loop().sock_sendall(deaf, b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await eventually(lambda: truth(len(subscriptions) == 1))
        long_title = "x" * 500
        insert = "SELECT vidqueue.submit('zoo', '{}', title => %s) FROM generate_series(1, 2000)"

        async def dropped() -> bool:
            await queue.sql(insert, long_title)
            return not subscriptions

        await eventually(dropped, within_s=40)


@pytest.mark.parametrize("number", ["x", "-1", str(2**63), "1.5"])
async def test_a_number_that_is_none_is_refused(client: httpx2.AsyncClient, number: str) -> None:
    answer = await client.get("/v1/events", headers={"Last-Event-ID": number})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "Last-Event-ID")


async def test_head_of_a_stream_answers_at_once(wire: httpx2.AsyncClient) -> None:
    answer = await asyncio.wait_for(wire.head("/v1/events"), 5)
    assert (answer.status_code, answer.content) == (200, b"")


async def test_replays_take_no_connection_from_anybody_and_none_is_cut_off(
    services: Services, queue: Queue, server: str
) -> None:
    """More listeners than connections read all of a long log, while every connection of the others is in use."""
    await queue.sql("SELECT vidqueue.submit('zoo', '{}') FROM generate_series(1, 1200)")
    log = await log_of(queue)
    async with AsyncExitStack() as stack:
        limits = httpx2.Limits(max_connections=None)
        client = await stack.enter_async_context(httpx2.AsyncClient(base_url=server, timeout=60, limits=limits))
        for _ in range(services.database.pool.max_size):
            await stack.enter_async_context(services.database.statement())
        heard = await asyncio.gather(*(_first(client, "/v1/events", len(log)) for _ in range(30)))
    assert all(numbers == log for numbers in heard)


async def _first(client: httpx2.AsyncClient, url: str, count: int) -> list[int]:
    numbers: list[int] = []
    told = stream(client, url, after=0)
    async for event in told:
        numbers.append(event.number)
        if len(numbers) == count:
            break
    await told.aclose()  # type: ignore[attr-defined]
    return numbers


async def test_readers_of_the_same_page_share_one_statement(services: Services, queue: Queue) -> None:
    await queue.submit()
    pages = await asyncio.gather(*(services.event_feed.log.page(0, job_id=None, owner="local") for _ in range(50)))
    assert len({id(page) for page in pages}) == 1
    assert [event.kind for event in pages[0]] == ["queued"]
    later = await queue.submit()
    assert (await services.event_feed.log.page(0, job_id=None, owner="local"))[-1].job_id == later
