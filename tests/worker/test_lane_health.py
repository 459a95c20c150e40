"""What keeps free lanes from work: a disk without room, a GPU that is gone. Nothing is burned by either."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.daemon import Daemon, until
from tests.factory import Queue, eventually
from tests.volume import Volume, mounted
from vidqueue.db.tables import attempts
from vidqueue.db.tables.jobs import JobRow
from vidqueue.job import FINAL, State
from vidqueue.services import Services
from vidqueue.settings.schema import Settings
from vidqueue.storage import disk_space
from vidqueue.worker import gpus, lane_health, lanes
from vidqueue.worker.gpus import Gpu
from vidqueue.worker.guards import Drain

pytestmark = pytest.mark.usefixtures("no_orphans")
LOW_WATER_MIB = 100


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    """A small file system for the data folder."""
    yield from mounted(tmp_path / "small")


@pytest.fixture
def daemon(volume: Volume, database_url: str) -> Iterator[Daemon]:
    """A daemon whose files lie on the small volume, and its database elsewhere."""
    started = Daemon(
        volume.folder,
        VIDQUEUE_DATABASE__URL=database_url,
        VIDQUEUE_DISK__LOW_WATER_MIB=str(LOW_WATER_MIB),
        VIDQUEUE_RUNNING__LEASE_S="3",
    ).start()
    yield started
    started.stop()


def test_without_room_jobs_wait_and_say_so_and_uploads_are_refused(daemon: Daemon, volume: Volume) -> None:
    volume.fill(leaving=LOW_WATER_MIB * disk_space.MEBIBYTE // 2)
    until(lambda: all(lane["blocked_by"] == "no_space" for lane in daemon.http.get("/v1/lanes").json()["lanes"]))
    job_id = daemon.submit(act="work")
    assert daemon.job(job_id)["wait_reason"] == "no_space"
    refused = daemon.http.post("/v1/files?name=x", content=b"x" * 1000)
    assert (refused.status_code, refused.json()["code"]) == (507, "no_space")
    volume.make_room()
    assert (daemon.ended(job_id)["state"], daemon.job(job_id)["attempt"]) == ("succeeded", 1)
    assert daemon.violations() == []


def test_a_job_that_runs_out_of_room_fails_cleanly_and_is_tried_again_when_there_is_some(
    daemon: Daemon, volume: Volume
) -> None:
    job_id = daemon.submit(act="fill_disk", max_attempts=2)
    until(lambda: daemon.sql(f"SELECT 1 FROM vidqueue.attempts WHERE job_id = '{job_id}' AND outcome = 'failed'"))
    waiting = daemon.job(job_id)
    assert (waiting["state"], waiting["wait_reason"]) == ("queued", "backoff")
    assert daemon.sql("SELECT error_code FROM vidqueue.attempts") == [{"error_code": "no_space"}]
    until(lambda: list((daemon.data_dir / "work").iterdir()) == [], what="the workspace is gone")
    assert [path for path in (daemon.data_dir / "files").rglob("*") if path.is_file()] == []
    until(lambda: volume.free() > LOW_WATER_MIB * disk_space.MEBIBYTE, what="the room is back with the workspace")
    daemon.sql(f"UPDATE vidqueue.jobs SET run_at = now(), input = '{{\"act\": \"work\"}}' WHERE id = '{job_id}'")
    assert daemon.ended(job_id)["state"] == "succeeded"
    assert daemon.violations() == []


GPU = Gpu("GPU-of-a-test", "Imaginary", 8000)


class Driver:
    """NVML of a machine with one GPU, which is lost while `lost` exists: no other way loses one without breaking it."""

    def __init__(self, lost: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lost = lost
        monkeypatch.setattr(gpus, "discover", lambda: [GPU])
        monkeypatch.setattr(gpus, "answers", lambda uuid: not lost.exists())


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(tmp_path / "lost", monkeypatch)


@asynccontextmanager
async def working(services: Services) -> AsyncIterator[None]:
    async with lanes.open_lanes(services, Drain()):
        yield


async def gpu_job(queue: Queue, act: str, *, marker: str = "", **more: Any) -> UUID:
    return await queue.submit(input={"act": act, "marker": marker}, device="gpu", **more)


async def ended(queue: Queue, job_id: UUID) -> JobRow:
    async def final() -> JobRow | None:
        job = await queue.job(job_id)
        return job if job.state in FINAL else None

    return await eventually(final)  # type: ignore[no-any-return]


async def test_a_lost_gpu_burns_no_attempt_and_its_lane_waits_until_the_driver_has_it_again(
    queue: Queue, services: Services, driver: Driver
) -> None:
    async with working(services):
        job_id = await gpu_job(queue, "cuda_error", marker=str(driver.lost))
        await eventually(lambda: _waits_for(queue, job_id, "gpu_lost"))
        await queue.sql('UPDATE vidqueue.jobs SET input = \'{"act": "work"}\' WHERE id = %s', job_id)
        driver.lost.unlink()
        job = await ended(queue, job_id)
    assert (job.state, job.attempt, job.failures) == (State.SUCCEEDED, 2, 0)
    async with queue.database.transaction() as connection:
        tries = await attempts.of_job(connection, job_id, owner=None)
    assert [one.reason for one in tries] == ["the GPU was lost", None]
    assert await queue.violations() == []


@pytest.mark.parametrize(("act", "code"), [("cuda_error", "gpu_error"), ("gpu_out_of_memory", "gpu_out_of_memory")])
async def test_a_fault_of_cuda_on_a_gpu_that_is_well_is_the_jobs_own_and_gets_a_new_executor(
    queue: Queue, services: Services, driver: Driver, act: str, code: str
) -> None:
    async with working(services):
        before = await ended(queue, await gpu_job(queue, "work"))
        await eventually(lambda: _is_warm(queue, ["zoo"]))
        job = await ended(queue, await gpu_job(queue, act, max_attempts=1))
        await eventually(lambda: _is_warm(queue, []))
    assert before.state is State.SUCCEEDED
    assert (job.state, job.error_code) == (State.FAILED, code)


async def test_a_need_beyond_every_gpu_fails_for_good_and_one_that_a_larger_lane_has_is_tried_again(
    queue: Queue, services: Services, driver: Driver
) -> None:
    async with working(services):
        job = await ended(queue, await gpu_job(queue, "gpu_too_small"))
        assert (job.state, job.error_code, job.failures) == (State.FAILED, "gpu_too_small", 1)
        larger = await queue.lane("larger", "gpu", vram_mb=256 * 1024)
        await queue.sql("UPDATE vidqueue.lanes SET state = 'offline' WHERE id = %s", larger)
        job = await ended(queue, await gpu_job(queue, "gpu_too_small", max_attempts=1))
        assert (job.state, job.error_code) == (State.FAILED, "gpu_out_of_memory")


async def test_a_gpu_that_is_lost_while_idle_is_noticed(queue: Queue, services: Services, driver: Driver) -> None:
    async with working(services):
        driver.lost.touch()
        await eventually(lambda: _is_held(queue))
        driver.lost.unlink()
        assert (await ended(queue, await gpu_job(queue, "work"))).state is State.SUCCEEDED


class Hung:
    """A driver that does not come back from a question until it is let go."""

    def __init__(self) -> None:
        self.hangs, self.let_go, self.asked = False, threading.Event(), 0

    def answers(self, uuid: str) -> bool:
        if self.hangs:
            self.asked += 1
            self.let_go.wait()
        return True


@pytest.fixture
def hung(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hung]:
    made = Hung()
    monkeypatch.setattr(gpus, "answers", made.answers)
    monkeypatch.setattr(gpus, "PATIENCE_S", 0.3)
    yield made
    made.let_go.set()


async def test_a_driver_that_hangs_is_a_lost_gpu_and_is_asked_once_until_it_is_back(
    queue: Queue, services: Services, hung: Hung
) -> None:
    async with working(services):
        await eventually(lambda: _is_online(queue))
        hung.hangs = True
        job_id = await gpu_job(queue, "cuda_error", max_attempts=1)
        await eventually(lambda: _waits_for(queue, job_id, "gpu_lost"))
        heartbeat = services.watchdog._last_heartbeats["lane_health"]
        await eventually(lambda: _is_later(services, heartbeat))
        await queue.sql('UPDATE vidqueue.jobs SET input = \'{"act": "work"}\' WHERE id = %s', job_id)
        assert hung.asked == 1
        hung.hangs = False
        hung.let_go.set()
        job = await ended(queue, job_id)
    assert (job.state, job.attempt, job.failures) == (State.SUCCEEDED, 2, 0)


async def test_a_driver_that_hangs_costs_an_idle_lane_no_thread_and_no_round(
    queue: Queue, services: Services, hung: Hung
) -> None:
    async with working(services):
        hung.hangs = True
        await eventually(lambda: _is_held(queue))
        heartbeat = services.watchdog._last_heartbeats["lane_health"]
        await eventually(lambda: _is_later(services, heartbeat))
        assert hung.asked == len([one for one in threading.enumerate() if one.name.startswith("nvml-")]) == 1


async def test_a_lane_writes_how_busy_its_gpu_is_and_how_often_its_executor_was_started(
    queue: Queue, services: Services, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    del driver
    monkeypatch.setattr(gpus, "read", lambda uuid: gpus.Readings(4000, 75, 61, 250.5))
    monkeypatch.setattr(lane_health, "LOOK_EVERY_S", 0.1)
    async with working(services):
        assert (await ended(queue, await gpu_job(queue, "work"))).state == State.SUCCEEDED
        query = """SELECT g.* FROM vidqueue.lane_gauges g JOIN vidqueue.lanes l ON l.id = g.lane_id
            WHERE l.device = 'gpu' AND g.executor_starts = 1"""
        (gauges,) = await eventually(lambda: queue.sql(query))
        names = ("gpu_memory_used_mb", "gpu_utilization", "gpu_temperature_c", "gpu_power_w")
        assert [gauges[name] for name in names] == [4000, 75, 61, 250.5]


async def _is_later(services: Services, heartbeat: float) -> bool:
    await asyncio.sleep(0)
    return services.watchdog._last_heartbeats["lane_health"] > heartbeat


async def _is_online(queue: Queue) -> bool:
    return bool(await queue.sql("SELECT 1 FROM vidqueue.lanes WHERE device = 'gpu' AND state <> 'offline'"))


def test_lanes_do_not_flutter_around_the_mark(tmp_path: Path) -> None:
    free_mib = shutil.disk_usage(tmp_path).free // disk_space.MEBIBYTE
    mark = int(free_mib / 1.05)
    assert not disk_space.is_short_of_space(tmp_path, mark)
    assert disk_space.is_short_of_space(tmp_path, mark, was_short=True)
    assert disk_space.is_short_of_space(tmp_path, free_mib * 2)
    assert not disk_space.is_short_of_space(tmp_path, 0)


async def _lane(queue: Queue) -> dict[str, Any]:
    (lane,) = await queue.sql("SELECT blocked_by, warm FROM vidqueue.lanes WHERE device = 'gpu'")
    return lane


async def _is_held(queue: Queue) -> bool:
    return bool((await _lane(queue))["blocked_by"] == "gpu_lost")


async def _is_warm(queue: Queue, processors: list[str]) -> bool:
    return bool((await _lane(queue))["warm"] == processors)


async def _waits_for(queue: Queue, job_id: UUID, reason: str) -> bool:
    await asyncio.sleep(0)
    return (await queue.job(job_id)).wait_reason == reason


def test_gpu_lanes_take_cpu_work_only_where_the_operator_lets_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "discover", lambda: [GPU])
    for allowed, takes in ((False, ("gpu",)), (True, ("gpu", "cpu"))):
        own = settings.lanes.model_copy(update={"gpu": "auto", "cpu_work_on_gpu": allowed})
        chosen = settings.model_copy(update={"lanes": own})
        (lane,) = [one for one in lanes._offered(chosen, uuid4()) if one.device == "gpu"]
        assert lane.takes == takes
