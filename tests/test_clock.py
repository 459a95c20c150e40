"""A daemon whose wall clock jumps while jobs run: time that matters is the database's, or does not jump."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.daemon import Daemon, until
from vidqueue import embedded

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
JUMP = timedelta(hours=2)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not installed"),
]


class Clock:
    """The wall clock of one daemon, set by a file. Its monotonic clock and the database's clock stay true."""

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
        # In one write: the daemon reads it at any moment.
        self._file.write_text(f"{ahead.total_seconds():+.0f}\n")


async def test_a_wall_clock_that_jumps_two_hours_either_way_ends_no_job_and_doubles_none(tmp_path: Path) -> None:
    server = embedded.Server(tmp_path / "theirs")
    await server.start()
    clock = Clock(tmp_path)
    daemon = Daemon(
        tmp_path / "data", VIDQUEUE_DATABASE__URL=server.url, VIDQUEUE_RUNNING__LEASE_S="3", **clock.variables
    )
    try:
        await asyncio.to_thread(daemon.start)
        await asyncio.to_thread(jump_under_load, daemon, server.url, clock)
    finally:
        await asyncio.to_thread(daemon.stop)
        await server.stop()


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
