"""How soon the jobs of a killed daemon wait again: at once by proof of its death, else when the lease is over."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from uuid import uuid4

import pytest

from tests.daemon import Daemon, promised, until
from tests.faults.conftest import Start
from tests.postgres import Postgres

pytestmark = pytest.mark.slow

LEASE_S = 9.0
# Its processes have ids of their own there, so that nobody out here can judge them, as on another host.
ELSEWHERE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
Figure = Callable[[str, float], None]


@pytest.fixture
def daemons(postgres: Postgres, start: Start) -> Callable[..., Daemon]:
    """Daemons on one database."""
    shared = {"VIDQUEUE_DATABASE__URL": postgres.url, "VIDQUEUE_RUNNING__LEASE_S": str(LEASE_S)}
    return lambda name, under=(): start(name, under, **shared)


def _at_work(daemon: Daemon) -> list[str]:
    """Two jobs that take long, but only once."""
    marker = daemon.data_dir.parent / str(uuid4())
    jobs = [daemon.submit(act="linger_once", seconds=60, marker=f"{marker}-{number}") for number in (1, 2)]
    until(lambda: all(daemon.job(job_id)["stage"] == "work" for job_id in jobs), what="at work")
    return jobs


def test_the_next_daemon_on_the_folder_gives_its_jobs_back_at_its_start(
    daemons: Callable[..., Daemon], figure: Figure
) -> None:
    daemon = daemons("killed")
    rounds = []
    for _ in range(3):
        jobs = _at_work(daemon)
        daemon.kill()
        daemon.start()
        waited_s = max(_given_back_at(daemon, job_id) for job_id in jobs) - daemon.spawned_at
        figure("from the start of the process, in s", waited_s)
        rounds.append(waited_s)
        _ran_again(daemon, jobs)
    assert statistics.median(rounds) < promised(2)


def test_another_daemon_of_the_machine_sees_the_process_gone(daemons: Callable[..., Daemon], figure: Figure) -> None:
    first = daemons("first")
    jobs = _at_work(first)
    second = daemons("second")
    killed_at = time.time()
    first.kill()
    until(lambda: all(second.job(job_id)["attempt"] == 2 for job_id in jobs), what="both are taken over")
    waited_s = max(_given_back_at(second, job_id) for job_id in jobs) - killed_at
    figure("from the kill, in s", waited_s)
    # Two rounds of the watch, on a busy machine; far from the end of the lease, which was renewed before the kill.
    assert waited_s < LEASE_S / 2
    _ran_again(second, jobs)


def test_a_daemon_that_cannot_judge_the_process_waits_for_the_lease_and_no_longer(
    daemons: Callable[..., Daemon], figure: Figure
) -> None:
    if subprocess.run([*ELSEWHERE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a namespace of process ids")
    first = daemons("first")
    jobs = _at_work(first)
    second = daemons("elsewhere", ELSEWHERE)
    killed_at = time.time()
    first.kill()
    (lease,) = second.sql("SELECT max(lease_expires_at) AS last FROM vidqueue.attempts WHERE ended_at IS NULL")
    until(lambda: all(second.job(job_id)["attempt"] == 2 for job_id in jobs), what="both are taken over")
    given_back_at = max(_given_back_at(second, job_id) for job_id in jobs)
    figure("from the kill, in s", given_back_at - killed_at)
    figure("beyond the lease, in s", given_back_at - lease["last"].timestamp())
    assert given_back_at > lease["last"].timestamp()
    # A round of the watch comes on top of the lease.
    assert given_back_at < killed_at + LEASE_S + 2
    _ran_again(second, jobs)


def _given_back_at(daemon: Daemon, job_id: str) -> float:
    (row,) = daemon.sql(f"SELECT at FROM vidqueue.events WHERE job_id = '{job_id}' AND kind = 'interrupted'")
    at: datetime = row["at"]
    return at.timestamp()


def _ran_again(daemon: Daemon, jobs: list[str]) -> None:
    for job_id in jobs:
        job = daemon.ended(job_id)
        assert (job["state"], job["attempt"], len(job["outputs"])) == ("succeeded", 2, 1)
    assert daemon.sql("SELECT DISTINCT failures FROM vidqueue.jobs") == [{"failures": 0}]
    assert daemon.violations() == []
