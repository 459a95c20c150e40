"""Executors that cannot be started, and executors that do not end: neither takes the lane or the job with it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from tests.daemon import promised
from tests.factory import Queue, eventually
from vidqueue.db.tables import attempts
from vidqueue.db.tables.jobs import JobRow
from vidqueue.job import FINAL, Failed, Interrupted, State, Succeeded
from vidqueue.jobs import control
from vidqueue.services import Services
from vidqueue.worker import lanes
from vidqueue.worker.executor import parent
from vidqueue.worker.executor.messages import RunJob
from vidqueue.worker.executor.parent import Executor
from vidqueue.worker.guards import Drain

pytestmark = pytest.mark.usefixtures("no_orphans")


@pytest_asyncio.fixture
async def executor() -> AsyncIterator[Executor]:
    made = Executor("cpu0", threads=1, mark=f"test:{uuid4()}")
    yield made
    await made.stop()


def order(folder: Path, act: str) -> RunJob:
    return RunJob("zoo", {"act": act}, {}, str(folder), {})


async def submit(queue: Queue, **more: object) -> UUID:
    return await queue.submit(input={"act": "work"}, max_attempts=1, **more)


async def ended(queue: Queue, job_id: UUID) -> JobRow:
    async def final() -> JobRow | None:
        job = await queue.job(job_id)
        return job if job.state in FINAL else None

    return await eventually(final)  # type: ignore[no-any-return]


async def tries(queue: Queue, job_id: UUID) -> list[tuple[str | None, str | None]]:
    """Outcome and reason of each attempt."""
    async with queue.database.transaction() as connection:
        return [(one.outcome, one.reason) for one in await attempts.of_job(connection, job_id, owner=None)]


async def test_an_executor_that_cannot_be_started_burns_nothing_and_the_job_runs_once_it_can(
    queue: Queue, services: Services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def has_failed_often() -> bool:
        return len([one for one in await tries(queue, job_id) if one[0] == "interrupted"]) >= 4

    monkeypatch.setattr(parent, "FIRST_REST_S", 0.1)
    async with lanes.open_lanes(services, Drain()):
        with capture_logs() as logs, monkeypatch.context() as patched:
            patched.setattr(sys, "executable", str(tmp_path / "gone"))
            job_id = await submit(queue)
            await eventually(has_failed_often)
        job = await ended(queue, job_id)
    assert (job.state, job.failures) == (State.SUCCEEDED, 0)
    assert await queue.sql("SELECT crashes FROM vidqueue.jobs") == [{"crashes": 0}]
    *failed, last = await tries(queue, job_id)
    assert last[0] == "succeeded"
    assert all(str(reason).startswith("the executor could not be started: [Errno 2]") for _, reason in failed)
    told = [entry for entry in logs if entry["event"] == "executor_not_started"]
    assert {entry["log_level"] for entry in told} == {"error"}
    assert len(told) <= len(failed)
    assert await queue.violations() == []


async def test_a_lane_that_cannot_start_its_executor_leaves_the_job_to_another(
    queue: Queue, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Executor._spawn

    async def no_room(self: Executor, *args: object) -> asyncio.subprocess.Process:
        if self._lane == "cpu0":
            raise BlockingIOError("no more processes")
        return await real(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Executor, "_spawn", no_room)
    monkeypatch.setattr(parent, "FIRST_REST_S", 60)
    async with lanes.open_lanes(services, Drain()):
        jobs = [await ended(queue, await submit(queue)) for _ in range(3)]
    assert {(job.state, job.failures) for job in jobs} == {(State.SUCCEEDED, 0)}
    ran = await queue.sql("SELECT l.name, a.outcome FROM vidqueue.attempts a JOIN vidqueue.lanes l ON l.id = a.lane_id")
    assert sorted((one["name"], one["outcome"]) for one in ran if one["name"] == "cpu0") in (
        [], [("cpu0", "interrupted")],
    )  # fmt: skip


async def test_a_lane_that_rests_holds_up_neither_a_cancel_nor_a_drain(
    queue: Queue, services: Services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def waits_again() -> bool:
        return [outcome for outcome, _ in await tries(queue, job_id)] == ["interrupted"]

    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    monkeypatch.setattr(parent, "FIRST_REST_S", 60)
    async with lanes.open_lanes(services, Drain()):
        job_id = await submit(queue, lane="cpu0")
        await eventually(waits_again)
        assert (await control.cancel(services.database, job_id, owner=None)).state is State.CANCELED
        began = time.monotonic()
    assert time.monotonic() - began < promised(5)


async def test_the_rest_grows_with_each_failure_up_to_a_bound_and_begins_anew_after_a_start(
    executor: Executor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with capture_logs() as logs, monkeypatch.context() as patched:
        patched.setattr(sys, "executable", str(tmp_path / "gone"))
        for _ in range(8):
            assert isinstance(await executor.run(order(tmp_path, "work"), print), Interrupted)
            assert not executor.rested
    assert [entry["rest_s"] for entry in logs] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert isinstance(await executor.run(order(tmp_path, "work"), print), Succeeded)
    assert executor._failed_starts == 0


async def test_an_executor_that_ends_before_it_is_ready_says_why(
    executor: Executor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nprintf 'half an in\\000stallation\\n'\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    outcome = await executor.run(order(tmp_path, "work"), print)
    assert isinstance(outcome, Interrupted)
    assert outcome.reason.startswith("the executor could not be started: it ended before it was ready")
    assert "\0" not in outcome.reason


async def test_the_end_of_the_daemon_is_no_cancel(executor: Executor, tmp_path: Path) -> None:
    """The kernel closes the socket of a daemon that dies before it kills the executor."""
    assert isinstance(await executor.run(order(tmp_path, "work"), print), Succeeded)
    running = asyncio.create_task(executor.run(order(tmp_path, "hang"), print))
    await asyncio.sleep(0)
    executor._writer.close()
    outcome = await running
    assert isinstance(outcome, Failed)
    assert "SIGKILL" in outcome.failure.message


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_failed_starts_leave_no_descriptor_behind(
    executor: Executor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def as_before() -> bool:
        await asyncio.sleep(0)
        return descriptors() <= before

    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    await executor.run(order(tmp_path, "work"), print)
    before = descriptors()
    for _ in range(10):
        await executor.run(order(tmp_path, "work"), print)
    await eventually(as_before)


def never_ends(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child in the kernel's deepest sleep cannot be made; one that nobody hears the end of can."""

    async def never() -> int:
        await asyncio.sleep(3600)
        raise AssertionError

    monkeypatch.setattr(parent, "END_PATIENCE_S", 0.2)
    monkeypatch.setattr(executor._process, "wait", never)


async def test_an_executor_that_does_not_end_fails_its_job_and_the_next_one_gets_another(
    executor: Executor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await executor.start()
    never_ends(executor, monkeypatch)
    with capture_logs() as logs:
        outcome = await asyncio.wait_for(executor.run(order(tmp_path, "abort"), print), 20)
    assert isinstance(outcome, Failed)
    assert (outcome.failure.code, outcome.crashed) == ("executor_crashed", True)
    assert "could not be killed" in outcome.failure.message
    assert [entry["log_level"] for entry in logs if entry["event"] == "executor_hangs"] == ["error"]
    assert isinstance(await executor.run(order(tmp_path, "work"), print), Succeeded)


async def test_a_kill_does_not_wait_for_ever_for_an_executor_that_does_not_end(
    executor: Executor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await executor.start()
    never_ends(executor, monkeypatch)
    await asyncio.wait_for(executor.kill(), 20)
    assert not executor.alive
    assert isinstance(await executor.run(order(tmp_path, "work"), print), Succeeded)
