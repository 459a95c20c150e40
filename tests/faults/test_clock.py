"""Wall clocks that jump while jobs run: the daemon's, which nobody may notice, and the database's that costs a run."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.daemon import Daemon, until
from vidqueue.db.embedded import server as embedded
from vidqueue.db.embedded.programs import bundled_programs

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
JUMP = timedelta(hours=2)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not installed"),
]


class Clock:
    """The wall clock of one process and its children, set by a file. Their monotonic clock stays true."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(timedelta())
        self.variables = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, ahead: timedelta) -> None:
        # In one write: the process reads it at any moment.
        self._file.write_text(f"{ahead.total_seconds():+.0f}\n")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not under pytest's own: the server's user reads the clock in it."""
    with tempfile.TemporaryDirectory(prefix="vidqueue-tests-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@asynccontextmanager
async def daemon_on(server: embedded.Server, folder: Path, **variables: str) -> AsyncIterator[Daemon]:
    await server.start()
    daemon = Daemon(folder / "data", VIDQUEUE_DATABASE__URL=server.url, VIDQUEUE_RUNNING__LEASE_S="3", **variables)
    try:
        yield await asyncio.to_thread(daemon.start)
    finally:
        await asyncio.to_thread(daemon.stop)
        await server.stop()


async def test_a_daemon_whose_clock_jumps_two_hours_either_way_ends_no_job_and_doubles_none(folder: Path) -> None:
    clock, server = Clock(folder), embedded.Server(folder / "theirs")
    async with daemon_on(server, folder, **clock.variables) as daemon:
        await asyncio.to_thread(jump_under_load, daemon, server.url, clock)


async def test_a_database_whose_clock_jumps_costs_a_run_at_most_and_publishes_once(folder: Path) -> None:
    clock = Clock(folder)
    server = embedded.Server(folder / "theirs", programs=on_its_own_clock(folder, clock))
    async with daemon_on(server, folder) as daemon:
        await asyncio.to_thread(jump_under_the_leases, daemon, server.url, clock)


def on_its_own_clock(folder: Path, clock: Clock) -> Path:
    """Programs of a PostgreSQL whose server, and nothing else, lives by that clock."""
    real, programs = bundled_programs(), folder / "programs"
    programs.mkdir()
    if os.geteuid() == 0:
        embedded._allow_traversal(real)  # as it does by itself for the folder it is given
    (programs / "initdb").symlink_to(real / "initdb")
    setting = " ".join(f"{name}={value}" for name, value in clock.variables.items())
    (programs / "postgres").write_text(f'#!/bin/sh\nexport {setting}\nexec {real}/postgres "$@"\n')
    (programs / "postgres").chmod(0o755)
    return programs


def jump_under_the_leases(daemon: Daemon, database_url: str, clock: Clock) -> None:
    def at_work(*jobs: str) -> None:
        until(lambda: all(daemon.job(job_id)["stage"] == "work" for job_id in jobs), what="both lanes at work")

    running = [submit(daemon, act="work", seconds=8) for _ in range(2)]
    at_work(*running)
    clock.set(JUMP)
    # Every lease is over by the only clock that counts: rescued, or renewed a moment before that.
    assert {daemon.ended(job_id)["state"] for job_id in running} == {"succeeded"}
    tries = [daemon.job(job_id)["attempt"] for job_id in running]
    assert set(tries) <= {1, 2}
    later = [submit(daemon, act="work", seconds=8) for _ in range(2)]
    at_work(*later)
    clock.set(timedelta())
    new = submit(daemon, act="work")
    for job_id in [*later, new]:
        assert (daemon.ended(job_id)["state"], daemon.job(job_id)["attempt"]) == ("succeeded", 1)
    with psycopg.connect(database_url) as connection:
        ends = connection.execute("SELECT outcome, count(*)::integer FROM vidqueue.attempts GROUP BY 1").fetchall()
        assert {"interrupted": 0, **dict(ends)} == {"interrupted": tries.count(2), "succeeded": 5}
        assert connection.execute("SELECT count(*), count(DISTINCT job_id) FROM vidqueue.outputs").fetchone() == (5, 5)
        assert connection.execute("SELECT sum(failures) FROM vidqueue.jobs").fetchone() == (0,)
        assert connection.execute("SELECT * FROM vidqueue_report.invariant_violations").fetchall() == []


def jump_under_load(daemon: Daemon, database_url: str, clock: Clock) -> None:
    # A sign of life each 6 s, where silence may last 10.
    dozing = submit(daemon, act="doze", seconds=6)
    running = [dozing, submit(daemon, act="work", seconds=30)]
    waiting = [submit(daemon, act="work") for _ in range(4)]
    scheduled = submit(daemon, act="work", run_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    # Between a sign of life and the next look for one.
    until(lambda: daemon.job(dozing)["progress"] == 0.4, what="a second sign of life")
    with psycopg.connect(database_url, autocommit=True) as connection:
        for ahead in (JUMP, -JUMP):
            clock.set(ahead)
            until(lambda: is_near(wall_clock(daemon) - datetime.now(UTC), ahead), what="the clock jumps")  # noqa: B023
            assert {daemon.job(job_id)["state"] for job_id in running} == {"running"}
            # Longer than the 5 s between two looks for expired leases.
            goal = first_lease(connection) + timedelta(seconds=6)
            until(lambda: first_lease(connection) >= goal, what="leases are renewed")  # noqa: B023
        for job_id in [*running, *waiting]:
            job = daemon.ended(job_id)
            assert (job["state"], job["attempt"]) == ("succeeded", 1), job
        assert (daemon.job(scheduled)["state"], daemon.job(scheduled)["attempt"]) == ("queued", 0)
        assert connection.execute("SELECT count(*) FROM vidqueue.attempts").fetchone() == (6,)
        assert connection.execute("SELECT * FROM vidqueue_report.invariant_violations").fetchall() == []


def submit(daemon: Daemon, *, act: str, seconds: float = 0, **more: Any) -> str:
    work = {"processor": "zoo", "input": {"act": act, "seconds": seconds}}
    answer = daemon.http.post("/v1/jobs", json={**work, "timeout_s": 90, "stall_timeout_s": 10, **more})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def wall_clock(daemon: Daemon) -> datetime:
    """What the daemon takes the time for: it stands on its answers."""
    return parsedate_to_datetime(daemon.http.get("/healthz").headers["date"])


def is_near(one: timedelta, other: timedelta) -> bool:
    return abs(one - other) < timedelta(minutes=1)


def first_lease(connection: psycopg.Connection) -> datetime:
    """The end of the lease that runs out first."""
    row = connection.execute("SELECT min(lease_expires_at) FROM vidqueue.attempts WHERE ended_at IS NULL").fetchone()
    assert row is not None
    assert isinstance(row[0], datetime), "a long job ended before its time"
    return row[0]
