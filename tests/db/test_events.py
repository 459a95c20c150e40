"""Event numbers: a reader that knows N has missed nothing below N."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import psycopg

from tests.factory import Queue, eventually
from tests.statements import counted
from vidqueue.db.event_feed import READ_UNHEARD_S, EventFeed, Subscription
from vidqueue.db.pool import Database
from vidqueue.db.tables import attempts, events
from vidqueue.db.tables.events import Event
from vidqueue.job import AttemptRef
from vidqueue.progress import Progress


async def test_every_change_of_state_tells_itself_once_and_in_order(any_queue: Queue) -> None:
    job_id = await any_queue.submit()
    await any_queue.dispatch(await any_queue.lane())
    await any_queue.sql("UPDATE vidqueue.jobs SET cancel_requested_at = now() WHERE id = %s", job_id)
    await any_queue.sql("UPDATE vidqueue.jobs SET priority = 3 WHERE id = %s", job_id)
    kinds = await any_queue.sql("SELECT kind FROM vidqueue.events WHERE job_id = %s ORDER BY number", job_id)
    assert [one["kind"] for one in kinds] == ["queued", "running", "cancel_requested", "updated"]


async def test_numbers_rise_in_the_order_of_commit_under_concurrent_writers(any_queue: Queue) -> None:
    """A reader that follows by number, while twenty writers commit as they like, sees every event."""
    seen: list[int] = []
    done = asyncio.Event()

    async def follow() -> None:
        while True:
            finished = done.is_set()
            async with any_queue.database.transaction() as connection:
                page = await events.after(connection, seen[-1] if seen else 0)
            seen.extend(event.number for event in page)
            if finished and not page:
                return

    async def write() -> None:
        for _ in range(10):
            await any_queue.submit()

    reader = asyncio.create_task(follow())
    await asyncio.gather(*(write() for _ in range(20)))
    done.set()
    await reader
    written = await any_queue.sql("SELECT number FROM vidqueue.events ORDER BY number")
    assert seen == [one["number"] for one in written]
    assert len(seen) == 200


async def test_events_that_nobody_reads_wake_at_once_and_are_read_a_few_times_a_second(
    queue: Queue, server_log: Path
) -> None:
    async with EventFeed(queue.database) as feed:
        begun = time.monotonic()
        with counted(queue.database.url, server_log) as found, feed.wakes_on(frozenset({"queued"})) as wake:
            for _ in range(10):
                wake.clear()
                await queue.submit()
                await asyncio.wait_for(wake.wait(), 30)
        reads = sum(times for text, times in found.texts.items() if "array_agg(DISTINCT e.kind)" in text)
        assert 0 < reads <= 2 + (time.monotonic() - begun) / READ_UNHEARD_S


async def test_the_first_event_after_a_start_of_the_server_skips_numbers_a_crash_may_have_lost(
    any_queue: Queue,
) -> None:
    await any_queue.submit()
    before = (await any_queue.sql("SELECT max(number) AS n FROM vidqueue.events"))[0]["n"]
    await any_queue.sql("UPDATE vidqueue.event_epoch SET server_started = server_started - interval '1 day'")
    await any_queue.database.pool.drain()  # no session outlives its server
    await any_queue.submit()
    await any_queue.submit()
    numbers = [one["number"] for one in await any_queue.sql("SELECT number FROM vidqueue.events ORDER BY number")]
    assert numbers[-2] >= before + 10_000
    assert numbers[-1] == numbers[-2] + 1


async def test_listeners_hear_of_a_job_and_a_forged_notification_changes_nothing(
    any_queue: Queue, any_database_url: str
) -> None:
    async with EventFeed(any_queue.database) as channel:
        with channel.subscribe() as subscription:
            async with await psycopg.AsyncConnection.connect(any_database_url, autocommit=True) as forger:
                await forger.execute("SELECT pg_notify('vidqueue', 'succeeded'), pg_notify('vidqueue', 'garbage {')")
            job_id = await any_queue.submit()
            event = await asyncio.wait_for(subscription.next(), 5)
    assert event is not None
    assert (event.kind, event.job_id) == ("queued", job_id)


async def test_the_channel_survives_the_loss_of_its_connection_and_misses_nothing(any_queue: Queue) -> None:
    async with EventFeed(any_queue.database) as channel:
        with channel.subscribe() as subscription:
            heard: list[UUID] = []
            for _ in range(3):
                await any_queue.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%' "
                    "OR query = 'SELECT 1' AND pid <> pg_backend_pid() AND datname = current_database()"
                )
                expected = await any_queue.submit()
                event = await asyncio.wait_for(subscription.next(), 10)
                assert event is not None
                assert event.job_id is not None
                heard.append(event.job_id)
                assert heard[-1] == expected


async def test_a_listener_that_is_too_slow_is_told_and_others_go_on(any_queue: Queue) -> None:
    async with EventFeed(any_queue.database) as channel:
        with channel.subscribe(size=3) as slow, channel.subscribe() as quick:
            for _ in range(6):
                await any_queue.submit()
            for _ in range(6):
                assert await asyncio.wait_for(quick.next(), 5) is not None
            assert slow.overflowed
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    while await slow.next() is not None:
                        pass
            assert slow.overflowed


async def test_progress_is_written_with_its_event_and_never_falls(any_queue: Queue) -> None:
    job_id = await any_queue.submit()
    ref = await any_queue.dispatch(await any_queue.lane())
    assert ref is not None
    for fraction in (0.2, 0.5, 0.4):
        async with any_queue.database.transaction() as connection:
            await attempts.report(connection, ref, progress=Progress(fraction, "encode", fps=25.0))
    job = await any_queue.job(job_id)
    assert (round(job.progress, 3), job.stage, job.fps) == (0.5, "encode", 25.0)
    assert await any_queue.violations() == []


async def test_progress_of_a_zombie_changes_nothing(any_queue: Queue) -> None:
    job_id = await any_queue.submit()
    ref = await any_queue.dispatch(await any_queue.lane())
    assert ref is not None
    zombie = AttemptRef(ref.job_id, ref.attempt, ref.fence - 1)
    async with any_queue.database.transaction() as connection:
        await attempts.report(connection, zombie, progress=Progress(0.9))
    assert (await any_queue.job(job_id)).progress == 0
    assert await any_queue.sql("SELECT 1 FROM vidqueue.events WHERE kind = 'progress'") == []


async def test_a_batch_in_one_transaction_wakes_a_listener_once(any_queue: Queue, any_database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(any_database_url, autocommit=True) as listener:
        await listener.execute("LISTEN vidqueue")
        await any_queue.sql("SELECT vidqueue.submit('zoo', '{}') FROM generate_series(1, 100)")
        heard = [note.payload async for note in listener.notifies(timeout=1)]
    assert heard == ["queued"]


async def test_events_are_there_when_the_job_is(any_queue: Queue) -> None:
    job_id = await any_queue.submit()
    await eventually(lambda: any_queue.sql("SELECT 1 FROM vidqueue.events WHERE job_id = %s", job_id))


def event_of(job_id: UUID | None) -> Event:
    return Event(1, job_id, "ann" if job_id else "", "progress", datetime.now(UTC), {})


async def test_an_event_goes_to_those_who_follow_its_job_and_to_those_who_follow_all(database: Database) -> None:
    feed, first, second = EventFeed(database), uuid4(), uuid4()
    with (
        feed.subscribe(job_id=first) as one,
        feed.subscribe(job_id=first) as too,
        feed.subscribe(job_id=second) as other,
        feed.subscribe() as of_all,
        feed.subscribe(owner="bob") as of_bob,
    ):
        for job_id in (first, second, None):
            feed._distribute(event_of(job_id))
        told = [[event.job_id for event in await who.next_many(0)] for who in (one, too, other, of_all, of_bob)]
    assert told == [[first], [first], [second], [first, second, None], [None]]
    assert not feed._subscriptions


async def test_a_pause_is_counted_from_the_event_before_it() -> None:
    subscription = Subscription(owner=None, size=5)
    loop = asyncio.get_running_loop()
    loop.call_later(0.1, subscription.offer, event_of(None))
    assert len(await subscription.next_many(0.15)) == 1
    begun = loop.time()
    assert await subscription.next_many(0.15) == []
    assert loop.time() - begun >= 0.15
    subscription.close()
