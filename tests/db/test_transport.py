"""procrastinate as we use it: a contract with its private parts, and the worker's behaviour under faults."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from procrastinate import exceptions
from procrastinate.manager import JobManager
from procrastinate.worker import Worker

from tests.factory import Queue, eventually
from vidqueue.db import transport as transport_module
from vidqueue.db.pool import Database
from vidqueue.db.tables import attempts
from vidqueue.db.transport import LaneWorker, Transport
from vidqueue.errors import DATABASE_BUSY, VidqueueError
from vidqueue.job import AttemptRef

QUEUE = "lane:test:cpu0"


@pytest_asyncio.fixture
async def transport(database: Database) -> AsyncIterator[Transport]:
    async with Transport(database) as opened:
        yield opened


def test_upstream_still_has_every_private_method_that_the_lane_worker_overrides() -> None:
    ours = {name for name in vars(LaneWorker) if name.startswith("_") and not name.startswith("__")}
    added = {"_take_back", "_answer_lost", "_woken"}
    assert all(inspect.iscoroutinefunction(getattr(Worker, name)) for name in ours - added)
    assert not any(hasattr(Worker, name) for name in added)


async def test_a_ticket_reaches_its_lane_only_if_the_transaction_commits(queue: Queue, transport: Transport) -> None:
    received: asyncio.Queue[AttemptRef] = asyncio.Queue()
    stopping = asyncio.Event()
    serving = asyncio.create_task(transport.serve(QUEUE, received.put, stopping))
    await queue.submit()
    lane = await queue.lane(queue=QUEUE)
    async with queue.database.transaction() as connection:
        assert (await attempts.dispatch(connection, [lane], lease_s=30)).given
        raise psycopg.Rollback
    ref = await queue.dispatch(lane)
    assert ref is not None
    transport.wake(QUEUE)
    assert await asyncio.wait_for(received.get(), 5) == ref
    await eventually(lambda: _table_is_empty(queue))
    assert received.empty()
    stopping.set()
    await asyncio.wait_for(serving, 10)


async def test_a_lane_keeps_serving_after_every_connection_was_cut(
    queue: Queue, transport: Transport, database_url: str
) -> None:
    received: asyncio.Queue[AttemptRef] = asyncio.Queue()
    stopping = asyncio.Event()
    serving = asyncio.create_task(transport.serve(QUEUE, received.put, stopping))
    lane = await queue.lane(queue=QUEUE)
    for _ in range(2):
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as cutter:
            await cutter.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await eventually(lambda: _submitted(queue))
        ref = await queue.dispatch(lane)
        assert ref is not None
        transport.wake(QUEUE)
        assert await asyncio.wait_for(received.get(), 10) == ref
        await queue.sql("UPDATE vidqueue.attempts SET ended_at = now(), outcome = 'canceled'")
    stopping.set()
    await asyncio.wait_for(serving, 15)


async def test_a_lane_goes_on_after_another_daemon_took_its_worker_for_dead(queue: Queue, transport: Transport) -> None:
    received: asyncio.Queue[AttemptRef] = asyncio.Queue()
    stopping = asyncio.Event()
    serving = asyncio.create_task(transport.serve(QUEUE, received.put, stopping))
    await eventually(lambda: queue.sql("SELECT 1 FROM procrastinate.procrastinate_workers"))
    # What any worker does at its start to those without a heartbeat for half a minute: an outage is enough.
    await queue.sql("DELETE FROM procrastinate.procrastinate_workers")
    await queue.submit()
    ref = await queue.dispatch(await queue.lane(queue=QUEUE))
    assert ref is not None
    transport.wake(QUEUE)
    assert await asyncio.wait_for(received.get(), 10) == ref
    stopping.set()
    await asyncio.wait_for(serving, 15)


async def test_a_ticket_whose_fetch_lost_its_answer_is_delivered_all_the_same(
    queue: Queue, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, lost = JobManager.fetch_job, 0

    async def lose(self: JobManager, *args: Any, **values: Any) -> Any:
        nonlocal lost
        job = await real(self, *args, **values)
        if job is not None and lost == 0:
            lost += 1
            raise exceptions.ConnectorException
        return job

    monkeypatch.setattr(JobManager, "fetch_job", lose)
    received: asyncio.Queue[AttemptRef] = asyncio.Queue()
    stopping = asyncio.Event()
    serving = asyncio.create_task(transport.serve(QUEUE, received.put, stopping))
    await queue.submit()
    ref = await queue.dispatch(await queue.lane(queue=QUEUE))
    assert ref is not None
    transport.wake(QUEUE)
    assert await asyncio.wait_for(received.get(), 15) == ref
    assert lost == 1
    await eventually(lambda: _table_is_empty(queue))
    stopping.set()
    await asyncio.wait_for(serving, 10)


async def test_a_delivery_that_comes_during_an_empty_fetch_is_not_lost(
    queue: Queue, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream clears its flag after the fetch; the delivery would wait for the next poll then."""
    lane = await queue.lane(queue=QUEUE)
    real, fetched = JobManager.fetch_job, asyncio.Event()
    delivered: list[AttemptRef | None] = []

    async def slow(self: JobManager, *args: Any, **values: Any) -> Any:
        job = await real(self, *args, **values)
        if job is None and not delivered:
            # It found nothing; before it has returned, the delivery comes.
            await queue.submit()
            delivered.append(await queue.dispatch(lane))
            transport.wake(QUEUE)
            await asyncio.sleep(0.5)
            fetched.set()
        return job

    monkeypatch.setattr(JobManager, "fetch_job", slow)
    monkeypatch.setattr(transport_module, "POLL_S", 60.0)
    received: asyncio.Queue[AttemptRef] = asyncio.Queue()
    stopping = asyncio.Event()
    serving = asyncio.create_task(transport.serve(QUEUE, received.put, stopping))
    await asyncio.wait_for(fetched.wait(), 20)
    assert await asyncio.wait_for(received.get(), 10) == delivered[0]
    stopping.set()
    await asyncio.wait_for(serving, 10)


async def test_a_delivery_of_which_nobody_was_told_is_found_by_the_poll_and_nobody_listens(
    queue: Queue, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "POLL_S", 0.2)
    received: asyncio.Queue[AttemptRef] = asyncio.Queue()
    stopping = asyncio.Event()
    serving = asyncio.create_task(transport.serve(QUEUE, received.put, stopping))
    await eventually(lambda: queue.sql("SELECT 1 FROM procrastinate.procrastinate_workers"))
    await queue.submit()
    ref = await queue.dispatch(await queue.lane(queue=QUEUE))
    assert await asyncio.wait_for(received.get(), 10) == ref
    # PostgreSQL wakes every session that listens at every notification, so that each lane's would cost every job.
    assert await queue.sql("SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN %procrastinate%'") == []
    stopping.set()
    await asyncio.wait_for(serving, 10)


async def _submitted(queue: Queue) -> bool:
    """The first try may meet a connection whose end has not arrived yet; that is told, and nothing was queued."""
    try:
        await queue.submit()
    except VidqueueError as error:
        if error.code not in DATABASE_BUSY:
            raise
        return False
    return True


async def _table_is_empty(queue: Queue) -> bool:
    return await queue.sql("SELECT 1 FROM procrastinate.procrastinate_jobs") == []
