"""What happened, as the storm itself saw it: acts of clients and people per job, faults with their time, counters.

It is the storm's own truth, kept apart from the database, and the source of every trace.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

# How long after a fault what it caused may still be seen: an answer under way, an attempt that was being ended.
AFTERMATH_S = 3.0
# How long after the storm every job has to have ended: backoffs, leases and a line to work off.
FINAL_PATIENCE_S = 180


@dataclass
class Act:
    """Something that a client or a person did to a job, and what came of it."""

    at: float
    who: str
    what: str


@dataclass
class Struck:
    """A fault, from its beginning until everything it stopped runs again; `end` is None while it lasts."""

    name: str
    begin: float
    end: float | None = None
    detail: str = ""

    def touches(self, begin: float, end: float) -> bool:
        """Whether it may have had to do with something that lasted from `begin` to `end`."""
        return self.begin - 1 <= end and (self.end is None or self.end + AFTERMATH_S >= begin)


@dataclass
class Order:
    """A job that a client was promised: its kind, its key, what was asked for, and what people did to it since."""

    job_id: str
    kind: str
    key: str
    body: dict[str, Any]
    acknowledged_at: float
    cancel_sent: bool = False
    cancel_accepted: bool = False
    retry_sent: bool = False
    deleted: bool = False
    acts: list[Act] = field(default_factory=list)


class BrokenError(Exception):
    """A promise was broken: what, and on which job if it was one."""

    def __init__(self, text: str, job_id: str | None = None) -> None:
        super().__init__(text)
        self.job_id = job_id


class History:
    """Shared by all threads of the storm."""

    def __init__(self) -> None:
        self.began = time.time()
        self.orders: dict[str, Order] = {}
        self.ids_of_key: dict[str, list[str]] = defaultdict(list)
        self.faults: list[Struck] = []
        self.counts: Counter[str] = Counter()
        self.problems: list[BrokenError] = []
        # Set with the first problem: what happens after it only buries the evidence.
        self.broken = threading.Event()
        self.slowest_poll_s = 0.0
        self.longest_line = 0
        self._lock = threading.Lock()

    def acknowledged(self, order: Order) -> None:
        """A client was told 202 (or saw its SQL commit)."""
        with self._lock:
            self.orders.setdefault(order.job_id, order)
            if order.job_id not in self.ids_of_key[order.key]:
                self.ids_of_key[order.key].append(order.job_id)

    def act(self, order: Order, who: str, what: str) -> None:
        """Someone did something to a job."""
        order.acts.append(Act(time.time(), who, what))

    def count(self, what: str) -> None:
        """One more of these."""
        with self._lock:
            self.counts[what] += 1

    @contextmanager
    def watched(self, name: str) -> Iterator[None]:
        """Note what a thread of that name raises, a broken promise or a fault of its own."""
        try:
            yield
        except BrokenError as problem:
            self.fail(problem)
        except Exception as error:  # a thread that dies silently would make a storm that proves nothing
            self.fail(BrokenError(f"{name} failed: {error!r}"))
            raise

    def fail(self, problem: BrokenError) -> None:
        """Note a broken promise."""
        with self._lock:
            self.problems.append(problem)
        self.broken.set()

    @contextmanager
    def striking(self, name: str) -> Iterator[Struck]:
        """A fault for the time of the block."""
        struck = Struck(name, time.time())
        with self._lock:
            self.faults.append(struck)
        try:
            yield struck
        finally:
            struck.end = time.time()

    def calm_for_s(self) -> float:
        """Seconds since the last fault ended; 0 while one lasts."""
        with self._lock:
            ends = [struck.end for struck in self.faults]
        if None in ends:
            return 0.0
        return time.time() - max([self.began, *(end for end in ends if end is not None)])

    def faults_during(self, begin: float, end: float) -> list[Struck]:
        """Faults that may have had to do with something that lasted from `begin` to `end`."""
        with self._lock:
            return [struck for struck in self.faults if struck.touches(begin, end)]
