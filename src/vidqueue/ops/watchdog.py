"""Watchdog: reports background tasks without a heartbeat for too long, and calls that hang in threads.

A responsive event loop does not prove that its tasks work. `supervise` restarts a task that raises; a task that hangs,
or that has ended, can only be helped by a restart of the daemon.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from vidqueue.ops.threads import ThreadPool

# An iteration may wait for the database as long as database.query_timeout_s allows, or for the embedded one to start.
HEARTBEAT_TIMEOUT_S = 90

# Called once in each iteration of a task.
Heartbeat: TypeAlias = Callable[[], None]


class Watchdog:
    """Records the last heartbeat of each task. An unavailable database stops none: all waits of a task are bounded."""

    def __init__(self) -> None:
        self._last_heartbeats: dict[str, float] = {}
        self._pools: list[ThreadPool] = []

    def register(self, name: str) -> Heartbeat:
        """Return the function that the task calls once in each iteration; it is watched from now on."""
        heartbeat = partial(self._record, name)
        heartbeat()
        return heartbeat

    def unregister(self, name: str) -> None:
        """Stop watching a task that has ended as intended."""
        del self._last_heartbeats[name]

    def stuck(self) -> list[str]:
        """Return the names of tasks whose last heartbeat is too old."""
        now = time.monotonic()
        return sorted(name for name, at in self._last_heartbeats.items() if now - at > HEARTBEAT_TIMEOUT_S)

    def watch(self, *pools: ThreadPool) -> None:
        """Watch thread pools too. A call that hangs needs the operator, and is no reason to restart the daemon."""
        self._pools.extend(pools)

    def hanging(self) -> dict[str, int]:
        """Return how many calls hang, by the name of their pools, without those that are well."""
        found: Counter[str] = Counter()
        for pool in self._pools:
            found[pool.name] += pool.hanging()
        return dict(+found)

    def _record(self, name: str) -> None:
        self._last_heartbeats[name] = time.monotonic()
