"""A series begins with its dispatch, or with its delivery where the daemon does not hear of the dispatch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from tests.factory import Queue, eventually
from vidqueue.db import transport
from vidqueue.db.transport import Transport
from vidqueue.job import Outcome, State
from vidqueue.services import Services
from vidqueue.worker.executor.messages import RunJob
from vidqueue.worker.executor.parent import Executor
from vidqueue.worker.guards import Drain
from vidqueue.worker.lanes import open_lanes
from vidqueue.worker.series import Series

pytestmark = pytest.mark.usefixtures("no_orphans")


@pytest_asyncio.fixture
async def drained(queue: Queue) -> AsyncIterator[None]:
    """Nothing is left of a delivery in the end, and nothing is broken."""
    yield
    assert await queue.sql("SELECT 1 FROM procrastinate.procrastinate_jobs") == []
    assert await queue.violations() == []


async def done(queue: Queue, job_id: UUID) -> None:
    async def succeeded() -> bool:
        return (await queue.job(job_id)).state is State.SUCCEEDED

    await eventually(succeeded, within_s=60)


@pytest.mark.usefixtures("drained")
async def test_a_series_does_not_wait_for_its_delivery(
    queue: Queue, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No worker hears of these deliveries before the next day."""
    monkeypatch.setattr(transport, "POLL_S", 86_400.0)
    monkeypatch.setattr(Transport, "wake", lambda self, queue: None)
    async with open_lanes(services, Drain()):
        for _ in range(3):
            await done(queue, await queue.submit())


@pytest.mark.usefixtures("drained")
async def test_a_delivery_begins_the_series_whose_dispatch_had_no_answer(
    queue: Queue, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Series, "begin", lambda self, first: None)
    async with open_lanes(services, Drain()):
        await done(queue, await queue.submit())
        await eventually(lambda: no_deliveries(queue))


@pytest.mark.usefixtures("drained")
async def test_a_drain_waits_for_a_series_whose_delivery_has_not_come(
    queue: Queue, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "POLL_S", 86_400.0)
    monkeypatch.setattr(Transport, "wake", lambda self, queue: None)
    async with open_lanes(services, Drain()):
        job_id = await queue.submit(input={"act": "work", "seconds": 1})

        async def at_work() -> bool:
            return (await queue.job(job_id)).stage == "work"

        await eventually(at_work, within_s=60)
    assert (await queue.job(job_id)).state is State.SUCCEEDED


@pytest.mark.usefixtures("drained")
async def test_processors_are_told_the_name_of_each_attempt_of_a_series(
    queue: Queue, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They ask servers by it for the work of earlier attempts of the job, and draw the job's seed from it."""
    names, real = list[str](), Executor.run

    async def run(self: Executor, order: RunJob, *given: Any, **more: Any) -> Outcome:
        names.append(order.attempt)
        return await real(self, order, *given, **more)

    monkeypatch.setattr(Executor, "run", run)
    jobs = [await queue.submit(lane="cpu0") for _ in range(3)]
    async with open_lanes(services, Drain()):
        for job_id in jobs:
            await done(queue, job_id)
    assert names == [f"{job_id}-1" for job_id in jobs]


async def no_deliveries(queue: Queue) -> bool:
    return await queue.sql("SELECT 1 FROM procrastinate.procrastinate_jobs") == []
