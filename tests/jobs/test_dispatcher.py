"""When the lanes of a daemon are asked for: after events, and no more often than that may make a difference."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from tests.factory import Queue, eventually
from vidqueue.db.pool import Connection
from vidqueue.db.tables import attempts
from vidqueue.db.tables.attempts import Begun, Dispatched
from vidqueue.jobs import dispatch
from vidqueue.jobs.dispatch import Dispatcher
from vidqueue.services import Services


@asynccontextmanager
async def dispatching(services: Services, lanes: Sequence[UUID]) -> AsyncIterator[tuple[list[UUID], list[None]]]:
    """A dispatcher for these lanes, which are always idle; the deliveries so far, and its turns."""
    deliveries: list[UUID] = []
    turns: list[None] = []
    stopping, woken = asyncio.Event(), asyncio.Event()

    def deliver(begun: Begun, queue: str) -> None:
        del queue
        deliveries.append(begun.ref.job_id)

    dispatcher = Dispatcher(services.database, services.event_feed, deliver, 30, lambda: turns.append(None))
    running = asyncio.create_task(dispatcher.run(lambda: lanes, woken, stopping))
    try:
        yield deliveries, turns
    finally:
        stopping.set()
        woken.set()
        await running


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[UUID]]:
    """The lanes of each dispatch so far. There are no ticks meanwhile."""
    found: list[Sequence[UUID]] = []
    dispatched = attempts.dispatch

    async def noted(connection: Connection, lanes: Sequence[UUID], **how: Any) -> Dispatched:
        found.append(lanes)
        return await dispatched(connection, lanes, **how)

    monkeypatch.setattr(attempts, "dispatch", noted)
    monkeypatch.setattr(dispatch, "TICK_S", 600)
    return found


@pytest.mark.parametrize(
    ("closes", "opens"),
    [
        ("SELECT vidqueue.pause()::text AS done", "SELECT vidqueue.resume()"),
        (
            "SELECT vidqueue.pause_lane(id)::text AS done FROM vidqueue.lanes",
            "SELECT vidqueue.resume_lane(id) FROM vidqueue.lanes WHERE name = 'cpu1'",
        ),
    ],
    ids=["everything", "each lane"],
)
async def test_jobs_that_are_submitted_while_no_lane_takes_any_cost_no_dispatch(
    services: Services, queue: Queue, asked: list[Sequence[UUID]], closes: str, opens: str
) -> None:
    lanes = [await queue.lane(name) for name in ("cpu0", "cpu1")]
    await queue.sql(closes)
    async with dispatching(services, lanes) as (deliveries, turns):
        for _ in range(3):
            turn = len(turns)
            await queue.submit()
            await eventually(lambda turn=turn: happened(turns, turn))  # type: ignore[misc]
        assert asked == [lanes]
        await queue.sql(opens)
        await eventually(lambda: happened(deliveries, 0))


async def test_a_lane_that_comes_to_rest_is_asked_for_while_the_others_are_paused(
    services: Services, queue: Queue, asked: list[Sequence[UUID]]
) -> None:
    lanes = [await queue.lane()]
    await queue.sql("SELECT vidqueue.pause_lane(id)::text AS done FROM vidqueue.lanes")
    async with dispatching(services, lanes) as (deliveries, _):
        await eventually(lambda: happened(asked, 0))
        lanes.append(await queue.lane("cpu1"))
        await queue.submit()
        await eventually(lambda: happened(deliveries, 0))


async def happened(what: Sequence[Any], before: int) -> bool:
    """True once more has happened than before."""
    return len(what) > before
