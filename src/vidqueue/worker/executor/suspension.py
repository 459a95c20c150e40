"""Suspension of an executor: SIGSTOP to it and to all processes that it has started, SIGCONT to resume them.

The managed peer that works for the same job is stopped with it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from functools import partial

from vidqueue.ops import processes
from vidqueue.ops.active_time import Stopwatch

# A process that is in a system call stops when the call returns, so the process tree is checked repeatedly.
FIRST_LOOK_S, LONGEST_LOOK_S = 0.005, 0.5


class Suspension:
    """Stops and continues the processes of one lane.

    Attributes:
        subreapers: the processes above the servers that work for the job. They are not stopped themselves, because they
            end the servers when the daemon dies.
        stopwatch: how long the present executor has been stopped; its own timers read it.
        may_work: cleared while work must not begin.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._pid: int | None = None
        self._since: float | None = None
        self._stood_still_s = 0.0
        self._stopped: set[int] = set()
        self.subreapers: Callable[[], Iterable[int]] = tuple
        self.stopwatch = Stopwatch()
        self.may_work = asyncio.Event()
        self.may_work.set()

    def now(self) -> float:
        """Return a monotonic time in seconds that stands still while work is suspended."""
        return (time.monotonic() if self._since is None else self._since) - self._stood_still_s

    def take(self, pid: int) -> None:
        """Include the executor with this process id in the suspension."""
        self._pid = pid

    def drop(self) -> None:
        """Exclude the executor from the suspension; it no longer works on the job."""
        self.resume()
        self._pid = None

    async def suspend(self) -> None:
        """Stop the processes, and return once every one of them has stopped. May be cancelled; then resume."""
        self.may_work.clear()
        self._since = time.monotonic() if self._since is None else self._since
        await self.heed()

    async def heed(self) -> None:
        """Stop the processes if work is suspended, including those that were started since."""
        look_s = FIRST_LOOK_S
        while not (self.may_work.is_set() or self._stop_all()):
            await asyncio.sleep(look_s)
            look_s = min(look_s * 2, LONGEST_LOOK_S)
        # A process that left the tree because its parent ended still has the mark.
        marked = partial(processes.marked, self._mark, whole=True, daemon=os.getpid())
        for stray in await asyncio.to_thread(lambda: list(marked())):
            if self._stopped and self._pid is not None and stray not in self._stopped:
                self._stop([stray])

    def _stop_all(self) -> bool:
        kept = [processes.children_of(subreaper) for subreaper in self.subreapers()]
        executor = set() if self._pid is None else {self._pid}
        # A subreaper that has nothing below it is about to start the server.
        return self._stop(executor.union(*kept)) and all(kept)

    def _stop(self, roots: Iterable[int]) -> bool:
        found = {pid: stopped for root in roots for pid, stopped in processes.stop_tree(root).items()}
        self._stopped |= found.keys()
        return all(found.values())

    def resume(self) -> None:
        """Continue the processes; nothing happens if they were not stopped."""
        if self._since is not None:
            stood_still_s, self._since = time.monotonic() - self._since, None
            self._stood_still_s += stood_still_s
            if self._pid in self._stopped:
                self.stopwatch.add(stood_still_s)
        processes.resume(self._stopped)
        self._stopped = set()
        self.may_work.set()
