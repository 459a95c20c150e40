"""The out-of-memory ladder: an attempt goes on with less, and says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from tests.factory import Queue, eventually
from vidqueue.db.tables import attempts, lanes
from vidqueue.db.tables.attempts import AttemptRow
from vidqueue.db.tables.jobs import JobRow
from vidqueue.db.tables.lanes import NewProcessor
from vidqueue.job import FINAL, State
from vidqueue.services import Services
from vidqueue.worker.guards import Drain
from vidqueue.worker.lanes import open_lanes

pytestmark = pytest.mark.usefixtures("no_orphans")


@pytest_asyncio.fixture
async def climbers(queue: Queue, services: Services) -> AsyncIterator[Queue]:
    """A queue with lanes at work, that knows the processor `climber`."""
    async with queue.database.transaction() as connection:
        await lanes.register_processor(
            connection, NewProcessor(name="climber", device="cpu", description="Climbs down.")
        )
    async with open_lanes(services, Drain()):
        yield queue


async def climbed(climbers: Queue, services: Services, **params: Any) -> tuple[JobRow, AttemptRow, str]:
    """The job at its end, its only attempt, and its text."""
    job_id = await climbers.submit(processor="climber", input=params, max_attempts=1)

    async def final() -> JobRow | None:
        job = await climbers.job(job_id)
        return job if job.state in FINAL else None

    job: JobRow = await eventually(final)
    async with climbers.database.statement() as connection:
        (attempt,) = await attempts.of_job(connection, job_id, owner=None)
    if not job.outputs:
        return job, attempt, ""
    return job, attempt, services.storage.path(UUID(job.outputs[0]["file_id"])).read_text()


@pytest.mark.parametrize(("machine", "code"), [(False, "gpu_out_of_memory"), (True, "out_of_memory")])
async def test_an_attempt_goes_on_with_less_on_a_clean_device_and_tells_each_rung(
    climbers: Queue, services: Services, machine: bool, code: str
) -> None:
    job, attempt, text = await climbed(climbers, services, size=1024, fits=256, of_the_machine=machine)
    assert job.state is State.SUCCEEDED
    rungs = [{"size": 1024, "code": code}, {"size": 512, "code": code}]
    assert attempt.metrics["degraded"] == rungs
    assert job.outputs[0]["facts"]["degraded"] == rungs
    size, loaded, _, left = text.split(" ", 3)
    # Neither the model nor a file of the rungs before.
    assert (size, loaded, left) == ("256", "256", "[]")
    async with climbers.database.statement() as connection:
        lines = await attempts.read_log(connection, job.id, 1, after=0, limit=100)
    assert [line.text for line in lines] == [
        "The memory is too small for size 1024; size 512 is tried.",
        "The memory is too small for size 512; size 256 is tried.",
    ]


async def test_a_ladder_that_ends_or_is_not_allowed_or_would_double_an_output_fails_with_its_reason(
    climbers: Queue, services: Services
) -> None:
    job, attempt, _ = await climbed(climbers, services, size=256)
    assert (job.state, job.error_code) == (State.FAILED, "gpu_out_of_memory")
    code = "gpu_out_of_memory"
    assert attempt.metrics["degraded"] == [{"size": 256, "code": code}, {"size": 128, "code": code}]
    job, attempt, _ = await climbed(climbers, services, size=256, fits=128, allow_degrade=False)
    assert (job.state, job.error_code) == (State.FAILED, "gpu_out_of_memory")
    assert "size 128" in (job.error_hint or "")
    assert "degraded" not in attempt.metrics
    job, *_ = await climbed(climbers, services, size=256, fits=128, publish=True)
    assert (job.state, job.error_code, job.outputs) == (State.FAILED, "gpu_out_of_memory", [])
    job, *_ = await climbed(climbers, services, endless=True)
    assert (job.state, job.error_code) == (State.FAILED, "gpu_out_of_memory")
    assert await climbers.violations() == []
