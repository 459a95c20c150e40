"""Who is rescued and who is not: proof of death, leases that could not be renewed, deadlines, daemons that vanish."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest

from tests.factory import Queue, eventually
from vidqueue.db.tables import lanes
from vidqueue.job import AttemptRef, Interrupted, State
from vidqueue.jobs import control, reaper
from vidqueue.jobs.reaper import Reaper
from vidqueue.ops import processes
from vidqueue.services import Services


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Another process of this machine."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def name_of(pid: int) -> str:
    return f"{processes.machine()}/{pid}/{processes._started(pid)}"


def test_a_process_is_gone_only_when_it_is(sleeper: subprocess.Popen[bytes]) -> None:
    name = name_of(sleeper.pid)
    assert not processes.is_gone(processes.own_name())
    assert not processes.is_gone(name)
    sleeper.kill()
    sleeper.wait()
    assert processes.is_gone(name)


def test_a_number_that_is_used_again_is_another_process() -> None:
    assert processes.is_gone(f"{processes.machine()}/{os.getpid()}/1")


def test_a_dead_process_that_nobody_has_buried_is_gone(sleeper: subprocess.Popen[bytes]) -> None:
    name = name_of(sleeper.pid)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert processes.is_gone(name)


def test_what_cannot_be_read_is_not_called_dead(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor is free, or /proc hides what other users run."""
    name = name_of(sleeper.pid)

    def refuse(pid: int) -> str:
        raise PermissionError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(processes, "_started", refuse)
    assert not processes.is_gone(name)
    sleeper.kill()
    sleeper.wait()
    assert processes.is_gone(name)


@pytest.mark.parametrize("elsewhere", ["boot/pid:[1]/1/1", "", "nonsense", "a/b"])
def test_nothing_of_another_machine_is_ever_judged(elsewhere: str) -> None:
    assert not processes.is_gone(elsewhere)


def reaper_of(services: Services, *, lease_s: float = 3) -> Reaper:
    return Reaper(services.database, services.storage, uuid4(), lease_s, services.watchdog.register("reaper"))


async def held_by(queue: Queue, process: str | None, *, lease_s: float = 3600) -> AttemptRef:
    await queue.submit()
    ref = await queue.dispatch(await queue.lane(process=process), lease_s=lease_s)
    assert ref is not None
    return ref


async def test_a_neighbours_job_is_given_back_as_soon_as_its_process_is_gone(
    queue: Queue, services: Services, sleeper: subprocess.Popen[bytes]
) -> None:
    ref = await held_by(queue, name_of(sleeper.pid))
    watch = reaper_of(services)
    await watch._give_back_lost(leases=True)
    assert (await queue.job(ref.job_id)).state is State.RUNNING
    sleeper.kill()
    sleeper.wait()
    await watch._give_back_lost(leases=True)
    job = await queue.job(ref.job_id)
    assert (job.state, job.failures, job.message) == (State.QUEUED, 0, "Interrupted: its daemon's process is gone")
    assert await queue.sql("SELECT state FROM vidqueue.lanes") == [{"state": "offline"}]


async def test_a_daemon_that_stood_still_lets_the_lanes_speak_before_it_judges_their_leases(
    queue: Queue, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clock jumps, as after SIGSTOP; an expired lease is spared for a while, and judged when that is over."""
    ref = await expired(queue)
    now, rounds = 1000.0, 0

    async def sleep(seconds: float) -> None:
        nonlocal now, rounds
        rounds += 1
        now += 60 if rounds == 1 else seconds
        states.append((await queue.job(ref.job_id)).state)
        if rounds > 12:
            raise KeyboardInterrupt

    states: list[State] = []
    monkeypatch.setattr(reaper, "_clock", lambda: now)
    # In that module alone: others go on sleeping.
    monkeypatch.setattr("vidqueue.jobs.reaper.asyncio", SimpleNamespace(sleep=sleep, timeout=asyncio.timeout))
    with pytest.raises(KeyboardInterrupt):
        await reaper_of(services, lease_s=1).run()
    # A third of the lease and five seconds, in rounds of one.
    assert states[:6] == [State.RUNNING] * 6
    assert states[-1] is State.QUEUED


async def expired(queue: Queue) -> AttemptRef:
    """An attempt of a daemon that nobody knows, past its lease, on a server that has been up for longer than that."""
    ref = await held_by(queue, None, lease_s=0.01)
    await eventually(lambda: _is(queue, "now() - pg_postmaster_start_time() > interval '1 s'"))
    await eventually(lambda: _is(queue, "(SELECT lease_expires_at < now() FROM vidqueue.attempts)"))
    return ref


async def _is(queue: Queue, condition: str) -> bool:
    (row,) = await queue.sql(f"SELECT {condition} AS holds")
    return bool(row["holds"])


async def test_after_a_start_of_the_server_every_lease_holds_anew(queue: Queue, services: Services) -> None:
    ref = await expired(queue)
    await reaper_of(services, lease_s=1e6)._give_back_lost(leases=True)
    assert (await queue.job(ref.job_id)).state is State.RUNNING
    await reaper_of(services, lease_s=1)._give_back_lost(leases=True)
    assert (await queue.job(ref.job_id)).state is State.QUEUED


async def test_a_job_that_takes_ten_daemons_with_it_one_after_the_other_is_poison(
    queue: Queue, services: Services
) -> None:
    job_id = await queue.submit()
    node = uuid4()
    lane = await queue.lane(node=node)
    for loss in range(1, 11):
        await queue.sql("UPDATE vidqueue.lanes SET state = 'online'")
        assert await queue.dispatch(lane) is not None
        assert await reaper.recover(services.database, services.storage, node) == 1
        job = await queue.job(job_id)
        assert job.state is (State.QUEUED if loss < 10 else State.FAILED)
    assert job.error_code == "poison"
    assert "10 consecutive attempts" in (job.error_message or "")
    assert job.failures == 0
    assert await queue.violations() == []


async def test_a_proper_drain_in_between_ends_a_row_of_losses(queue: Queue, services: Services) -> None:
    await queue.submit()
    node = uuid4()
    lane = await queue.lane(node=node)
    losses = []
    for why in (None, None, Interrupted("the daemon shut down"), None):
        await queue.sql("UPDATE vidqueue.lanes SET state = 'online'")
        assert await queue.dispatch(lane) is not None
        if why is None:
            await reaper.recover(services.database, services.storage, node)
        else:
            await reaper.give_back(services.database, services.storage, node, why)
        losses += [row["losses"] for row in await queue.sql("SELECT losses FROM vidqueue.jobs")]
    assert losses == [1, 2, 0, 1]


async def test_lanes_of_a_silent_daemon_go_off_the_list_and_come_back_when_it_speaks(
    queue: Queue, services: Services
) -> None:
    watch = reaper_of(services, lease_s=0.1)
    await queue.lane(node=watch.node, process=processes.own_name())
    await queue.lane("cpu1", process="of/another/1/1")
    await queue.sql("UPDATE vidqueue.lanes SET seen_at = now() - interval '1 h'")
    async with services.database.transaction() as connection:
        # The patience counts from the start of the server too, and this one has just begun.
        await lanes.unseen_offline(connection, patience_s=0.01)
    assert await queue.sql("SELECT DISTINCT state FROM vidqueue.lanes") == [{"state": "offline"}]
    await watch._update_seen_at()
    assert await queue.sql("SELECT name FROM vidqueue.lanes WHERE state = 'online'") == [{"name": "cpu0"}]


async def test_a_job_that_still_waits_at_its_deadline_fails_and_a_retry_waits_without_one(
    queue: Queue, services: Services
) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    job_id, later = await queue.submit(expires_at=soon), await queue.submit(expires_at=soon + timedelta(days=1))
    follower = await queue.submit(input={"video": f"vq:jobs/{job_id}/text"})
    watch = reaper_of(services)

    async def has_expired() -> bool:
        await watch._expire()
        return (await queue.job(job_id)).state is State.FAILED

    await eventually(has_expired)
    assert (await queue.job(job_id)).error_code == "expired"
    assert (await queue.job(follower)).error_code == "dependency_failed"
    assert (await queue.job(later)).state is State.QUEUED
    await control.retry(services.database, job_id, owner=None)
    await watch._expire()
    job = await queue.job(job_id)
    assert (job.state, job.expires_at) == (State.QUEUED, None)
    assert await queue.violations() == []


async def test_a_job_that_began_in_time_runs_again_after_its_deadline(queue: Queue, services: Services) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    job_id, node = await queue.submit(expires_at=soon), uuid4()
    lane = await queue.lane(node=node)
    assert await queue.dispatch(lane) is not None
    await reaper.give_back(services.database, services.storage, node, Interrupted("the daemon shut down"))
    await eventually(lambda: _is(queue, "now() > (SELECT expires_at FROM vidqueue.jobs)"))
    await reaper_of(services)._expire()
    assert (await queue.job(job_id)).state is State.QUEUED
    await queue.sql("UPDATE vidqueue.lanes SET state = 'online'")
    assert await queue.dispatch(lane) is not None


async def test_a_job_past_its_deadline_is_not_dispatched_any_more(queue: Queue) -> None:
    await queue.submit(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert await queue.dispatch(await queue.lane()) is None
