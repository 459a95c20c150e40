"""Schedules in a storm: each minute has its job, once, whichever daemon is killed, frozen or without its database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import httpx2

from tests.daemon import until
from tests.storm.history import BrokenError, History
from tests.storm.world import World

# A minute is the shortest time between two jobs of one; several make it a crowd.
NAMES = ("first", "second", "third", "fourth")
# Both daemons may have started anew a moment ago.
PATIENCE_S = 60.0


class Timetable:
    """Some schedules for every minute, in which no time may be left out."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._addresses = dict[str, str]()

    def register(self) -> None:
        """Add the schedules while nothing strikes yet."""
        job = {"processor": "zoo", "input": {"act": "work"}, "max_attempts": 10}
        for name in NAMES:
            schedule = {"name": name, "cron": "* * * * *", "missed": "all", "job": job}
            added = httpx2.post(f"{self._url}/v1/schedules", json=schedule, timeout=20)
            assert added.status_code == 201, added.text
            self._addresses[name] = f"/v1/schedules/{added.json()['id']}"

    def stop(self) -> None:
        """Let every time come that is due, and have no further ones: the storm is over, and jobs have to end."""
        due = "SELECT name FROM vidqueue.schedules WHERE NOT paused AND next_at < clock_timestamp()"
        until(lambda: not self.world.postgres.sql(due), within_s=PATIENCE_S, what="no time is due")
        for address in self._addresses.values():
            until(lambda address=address: self._paused(address), within_s=PATIENCE_S, what="a schedule is paused")  # type: ignore[misc]

    def jobs(self) -> set[str]:
        """Return the jobs that no client was told of, because a schedule has submitted them."""
        return {str(row["job_id"]) for row in self._runs() if row["job_id"] is not None}

    def every_time_came(self, history: History) -> Iterator[BrokenError]:
        """Check that each minute of each schedule has one run, and each run a job of its own."""
        runs = self._runs()
        for name in NAMES:
            mine = [row for row in runs if row["name"] == name]
            for row in mine:
                history.count("submitted by a schedule")
                if row["outcome"] != "submitted" or row["job_id"] is None:
                    yield BrokenError(f"schedule {name} at {row['due_at']}: {row['outcome']} {row['error']}")
            for before, after in pairwise(mine):
                if after["due_at"] - before["due_at"] != timedelta(minutes=1):
                    yield BrokenError(
                        f"schedule {name} left out what is between {before['due_at']} and {after['due_at']}"
                    )
        ids = [row["job_id"] for row in runs]
        if len(ids) != len(set(ids)):
            yield BrokenError("two times of schedules have one job")

    @property
    def _url(self) -> str:
        return self.world.hosts["A"].url

    def _paused(self, address: str) -> bool:
        try:
            answer = httpx2.patch(f"{self._url}{address}", json={"paused": True}, timeout=20)
        except httpx2.TransportError:
            time.sleep(0.2)
            return False
        return answer.status_code == 200

    def _runs(self) -> list[dict[str, Any]]:
        return self.world.postgres.sql(
            "SELECT s.name, r.due_at, r.outcome, r.error, r.job_id FROM vidqueue.schedule_runs r"
            " JOIN vidqueue.schedules s ON s.id = r.schedule_id ORDER BY s.name, r.due_at"
        )
