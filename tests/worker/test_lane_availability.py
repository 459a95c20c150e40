"""Lanes yield to others who use the GPU, free what they hold, and keep their time windows."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from tests.daemon import promised
from tests.factory import Queue, eventually
from tests.worker.nvml import Nvml
from vidqueue.db.tables.jobs import JobRow
from vidqueue.job import FINAL, State
from vidqueue.jobs import control, pauses
from vidqueue.ops.windows import AtEnd, Windows
from vidqueue.services import Services
from vidqueue.settings.schema import Settings
from vidqueue.worker import lanes
from vidqueue.worker.guards import Drain

pytestmark = pytest.mark.usefixtures("no_orphans")
# No process of ours.
SOMEBODY = 1
PROGRAM = "vidqueue-game"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    values: dict[str, Any] = {
        "data_dir": tmp_path / "data",
        "inputs": {"roots": [tmp_path]},
        "running": {"lease_s": 3},
        "lanes": {"cpu": 0},
        "neighbours": {"programs": [PROGRAM], "unload_after_s": 2},
    }
    return Settings(**values)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    played = Nvml()
    played.install(monkeypatch)
    return played


@pytest_asyncio.fixture
async def zoo(queue: Queue, services: Services, nvml: Nvml) -> AsyncIterator[Queue]:
    """One GPU lane that takes jobs."""
    async with lanes.open_lanes(services, Drain()):
        yield queue


async def gpu_job(zoo: Queue, *, seconds: float = 0, **more: Any) -> UUID:
    return await zoo.submit(input={"act": "work", "seconds": seconds}, device="gpu", **more)


async def ended(zoo: Queue, job_id: UUID) -> JobRow:
    async def final() -> JobRow | None:
        job = await zoo.job(job_id)
        return job if job.state in FINAL else None

    return await eventually(final)  # type: ignore[no-any-return]


async def waits(zoo: Queue, job_id: UUID, reason: str) -> None:
    async def so() -> bool:
        return (await zoo.job(job_id)).wait_reason == reason

    await eventually(so)


async def lane(zoo: Queue) -> dict[str, Any]:
    (row,) = await zoo.sql("SELECT * FROM vidqueue.lanes")
    return dict(row)


async def executors(zoo: Queue) -> list[int]:
    listing = await asyncio.create_subprocess_exec(
        "pgrep", "-P", str(os.getpid()), "-f", "executor.child", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await listing.communicate()
    return [int(pid) for pid in output.split()]


async def test_a_job_waits_while_somebody_holds_the_memory_it_needs_and_smaller_ones_go_on(
    zoo: Queue, nvml: Nvml
) -> None:
    nvml.used = {SOMEBODY: (3000, 0), os.getpid(): (4000, 0)}

    async def seen() -> bool:
        return bool((await lane(zoo))["others_mb"] == 3000)

    await eventually(seen)
    large = await gpu_job(zoo, vram_mb=6000)
    await waits(zoo, large, "gpu_memory")
    assert (await ended(zoo, await gpu_job(zoo, vram_mb=5000))).state is State.SUCCEEDED
    assert (await zoo.job(large)).state is State.QUEUED
    nvml.used = {}
    assert (await ended(zoo, large)).state is State.SUCCEEDED
    assert await zoo.violations() == []


async def test_the_memory_that_an_attempt_held_of_the_gpu_is_kept(zoo: Queue, nvml: Nvml) -> None:
    first = await gpu_job(zoo, seconds=3)
    await eventually(lambda: _runs(zoo, first))
    (executor,) = await executors(zoo)
    nvml.used = {SOMEBODY: (1500, 0), os.getpid(): (700, 0), executor: (2500, 0)}
    assert (await ended(zoo, first)).state is State.SUCCEEDED
    nvml.used = {}
    assert (await ended(zoo, await gpu_job(zoo))).state is State.SUCCEEDED
    held = await zoo.sql("SELECT device_mb FROM vidqueue_report.attempts ORDER BY started_at")
    assert [one["device_mb"] for one in held] == [2500, None]


@pytest.mark.parametrize("names_processes", [True, False])
async def test_a_lane_waits_while_somebody_keeps_its_gpu_busy(zoo: Queue, nvml: Nvml, names_processes: bool) -> None:
    nvml.names_processes, nvml.used = names_processes, {SOMEBODY: (0, 90)}

    async def blocked() -> bool:
        return bool((await lane(zoo))["blocked_by"] == "gpu_busy")

    await eventually(blocked)
    job_id = await gpu_job(zoo)
    await waits(zoo, job_id, "gpu_busy")
    nvml.used = {SOMEBODY: (0, 20)}
    assert (await ended(zoo, job_id)).state is State.SUCCEEDED


async def test_a_lane_yields_to_a_program_within_two_seconds_and_goes_on_after_it(
    zoo: Queue, nvml: Nvml, tmp_path: Path
) -> None:
    await ended(zoo, await gpu_job(zoo))
    assert len(await executors(zoo)) == 1, "it keeps its models"
    game = tmp_path / PROGRAM
    shutil.copy(shutil.which("sleep") or "/bin/sleep", game)
    loop = asyncio.get_running_loop()
    process = await asyncio.create_subprocess_exec(game, "60")
    try:
        began_at = loop.time()
        await eventually(lambda: _none(zoo))
        assert loop.time() - began_at < promised(2)
        job_id = await gpu_job(zoo)
        await waits(zoo, job_id, "program_runs")
    finally:
        process.kill()
        await process.wait()
    assert (await ended(zoo, job_id)).state is State.SUCCEEDED


async def test_a_lane_frees_its_memory_when_asked_and_after_a_while_and_works_on(
    zoo: Queue, services: Services
) -> None:
    job_id = await gpu_job(zoo, seconds=1)
    await eventually(lambda: _runs(zoo, job_id))
    behind = await gpu_job(zoo)
    (before,) = await eventually(lambda: executors(zoo))
    await pauses.free_lane(services.database, "gpu0", None)
    assert [(await ended(zoo, one)).state for one in (job_id, behind)] == [State.SUCCEEDED] * 2
    assert before not in await executors(zoo), "it was freed between the two jobs"
    assert (await lane(zoo))["free_requested_at"] is None
    await eventually(lambda: _none(zoo))

    async def cold() -> bool:
        return bool((await lane(zoo))["warm"] == [])

    await eventually(cold)


def closed_now() -> tuple[str, ...]:
    """A window that is not open."""
    begins = datetime.now(UTC) + timedelta(hours=12)
    return (f"{begins:%H:%M}-{begins + timedelta(minutes=1):%H:%M}",)


async def set_windows(services: Services, *rules: str, at_end: AtEnd = "finish") -> None:
    await pauses.set_windows(services.database, "gpu0", None, Windows(rules, "UTC", at_end))


async def test_jobs_wait_for_the_window_of_their_lane_and_say_when_it_opens(zoo: Queue, services: Services) -> None:
    running = await gpu_job(zoo, seconds=1)
    await eventually(lambda: _runs(zoo, running))
    await set_windows(services, *closed_now())
    job_id = await gpu_job(zoo)
    await waits(zoo, job_id, "outside_window")
    opens_at = (await zoo.job(job_id)).opens_at
    assert opens_at is not None
    assert timedelta(hours=11) < opens_at - datetime.now(UTC) < timedelta(hours=13)
    assert (await ended(zoo, running)).state is State.SUCCEEDED, "it finishes"
    assert (await zoo.job(job_id)).state is State.QUEUED
    await set_windows(services)
    assert (await ended(zoo, job_id)).state is State.SUCCEEDED


async def test_a_job_is_suspended_at_the_end_of_a_window_and_goes_on_in_the_next(
    zoo: Queue, services: Services
) -> None:
    job_id = await gpu_job(zoo, seconds=2)
    await eventually(lambda: _runs(zoo, job_id))
    await set_windows(services, *closed_now(), at_end="suspend")

    async def suspended() -> bool:
        return (await zoo.job(job_id)).suspended_by == "window"

    await eventually(suspended)
    await set_windows(services, "00:00-24:00", at_end="suspend")
    job = await ended(zoo, job_id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 1)
    assert await zoo.violations() == []


async def test_a_job_that_a_person_resumes_goes_on_outside_the_window(zoo: Queue, services: Services) -> None:
    job_id = await gpu_job(zoo, seconds=3)
    await eventually(lambda: _runs(zoo, job_id))
    await control.suspend(services.database, job_id, owner=None)
    await set_windows(services, *closed_now(), at_end="suspend")
    waiting = await gpu_job(zoo)

    async def closed() -> bool:
        return (await zoo.job(waiting)).opens_at is not None

    await eventually(closed)
    await control.resume(services.database, job_id, owner=None)
    job = await ended(zoo, job_id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 1)


async def _none(zoo: Queue) -> bool:
    return not await executors(zoo)


async def _runs(zoo: Queue, job_id: UUID) -> bool:
    return (await zoo.job(job_id)).stage == "work"
