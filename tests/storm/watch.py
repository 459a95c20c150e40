"""Looks at the promises each second while the storm rages: invariants, daemons that have to run, length of the line."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import psycopg

from tests.storm.history import BrokenError, History
from tests.storm.world import World

EVERY_S = 1.0
# A promise about time may be late while a fault lasts; it has to be kept once it is calm. Everything else holds always.
ABOUT_TIME = re.compile(r"rescued|within")
GRACE_S = 3.0


class Watch(threading.Thread):
    """Polls until told to stop."""

    def __init__(self, world: World, history: History, stop: threading.Event) -> None:
        super().__init__(name="watch")
        self.world, self.history, self.stop = world, history, stop
        self._late_since: dict[tuple[Any, ...], float] = {}

    def run(self) -> None:
        """Look, note what is broken, sleep."""
        while not self.stop.wait(EVERY_S):
            self._look_at_daemons()
            try:
                self._look_at_rows()
            except psycopg.OperationalError:
                self.history.count("poll: away")
            except psycopg.Error as error:
                self.history.fail(BrokenError(f"the invariants cannot be read: {error!r}"))

    def _look_at_daemons(self) -> None:
        for host in self.world.hosts.values():
            if host.ended_by_itself():
                code = host.daemon.process.returncode
                self.history.fail(BrokenError(f"daemon {host.name} ended by itself with {code}; see {host.daemon.log}"))

    def _look_at_rows(self) -> None:
        calm_s, began = self.history.calm_for_s(), time.monotonic()
        found = self.world.postgres.sql("SELECT * FROM vidqueue_report.invariant_violations")
        states = self.world.postgres.sql(
            "SELECT count(*) FILTER (WHERE state IN ('queued', 'running')) AS line, count(*) AS jobs FROM vidqueue.jobs"
        )
        self.history.slowest_poll_s = max(self.history.slowest_poll_s, time.monotonic() - began)
        self.history.counts["line"] = states[0]["line"]
        self.history.longest_line = max(self.history.longest_line, states[0]["line"])
        self.history.counts["jobs"] = states[0]["jobs"]
        self._judge(found, calm_s)

    def _judge(self, found: list[dict[str, Any]], calm_s: float) -> None:
        now = time.monotonic()
        late = {tuple(row.values()): row for row in found if ABOUT_TIME.search(row["invariant"])}
        for row in found:
            if tuple(row.values()) not in late:
                self._broken(row)
        self._late_since = {key: self._late_since.get(key, now) for key in late} if calm_s > 0 else {}
        for key, since in self._late_since.items():
            if now - since >= GRACE_S:
                self._broken(late[key])

    def _broken(self, row: dict[str, Any]) -> None:
        job_id = str(row["job_id"]) if row["job_id"] else None
        self.history.fail(BrokenError(f"invariant broken: {row['invariant']}: {row['detail']}", job_id))
