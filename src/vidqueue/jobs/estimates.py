"""Estimates: how long a job will take, learned from those of its processor and size, and when a waiting one is done.

What they cost is bounded: the newest attempts are read once a minute, and the first jobs of each line at most every few
seconds, only while somebody asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from vidqueue.db.pool import Database
from vidqueue.db.tables import estimates, lanes
from vidqueue.db.tables.estimates import InLine, Sample
from vidqueue.db.tables.lanes import LaneRow
from vidqueue.errors import VidqueueError

SAMPLES = 1000
IN_LINE = 1000
# How long what was learned, and what was foretold, stays good.
LEARNED_S = 60.0
FORETOLD_S = 5.0
# Attempts of the nearest sizes that an estimate is made from.
NEAREST = 9
# Number of newest attempts from which the growth of time with size is learned, and the factor by which two sizes must
# differ to be compared.
OF_GROWTH, TELLING, LEAST_PAIRS = 60, 0.5, 5
# Newest attempts of all processors that show how fast the machine is now, how old they may be, how many are needed.
OF_PACE, PACE_S, LEAST_OF_PACE = 9, 3600.0, 5


class RunTimes:
    """What attempts took, by processor; the samples begin with the newest one."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._runs: dict[str, list[float]] = defaultdict(list)
        self._sized: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._growth: dict[str, float] = {}
        for sample in samples:
            self._runs[sample.processor].append(sample.run_s)
            if sample.input_bytes:
                self._sized[sample.processor].append((math.log(sample.input_bytes), sample.run_s))
        self.usual_s = (
            statistics.median(run_s for runs in self._runs.values() for run_s in runs) if self._runs else None
        )
        self.pace = self._pace_of([one for one in samples[:OF_PACE] if one.ago_s <= PACE_S])

    def expected_s(self, processor: str, input_bytes: int | None) -> float | None:
        """Return how long a job will take; None if none of its processor is known.

        That is what such jobs usually took, times the present pace of the machine.
        """
        usual_s = self._usually_s(processor, input_bytes)
        return None if usual_s is None else usual_s * self.pace

    def _usually_s(self, processor: str, input_bytes: int | None) -> float | None:
        """Return how long such jobs took.

        The attempts whose inputs were nearest in size count, each as if its time grew with the size as those of its
        processor did; none is faster than the fastest there was, because something always takes its time however small
        the input is.
        """
        runs = self._runs.get(processor)
        if not runs:
            return None
        sized = self._sized.get(processor, [])
        if not input_bytes or len(sized) < 3:
            return statistics.median(runs)
        size = math.log(input_bytes)
        nearest = sorted(sized, key=lambda one: abs(one[0] - size))[:NEAREST]
        growth = self._growth_of(processor)
        return max(min(runs), statistics.median(run_s * math.exp(growth * (size - known)) for known, run_s in nearest))

    def _pace_of(self, newest: Sequence[Sample]) -> float:
        """Return by what factor the newest attempts took longer than usual: 1 while that may be chance.

        When the machine gets more or less to do, all of them change together. The factor is their median, made smaller
        by what the median of so few would differ by if each of them only scattered as they do.
        """
        offs = [
            math.log(one.run_s / usual_s)
            for one in newest
            if one.run_s > 0 and (usual_s := self._usually_s(one.processor, one.input_bytes))
        ]
        if len(offs) < LEAST_OF_PACE:
            return 1.0
        middle = statistics.median(offs)
        scatter = statistics.median(abs(off - middle) for off in offs)
        return math.exp(math.copysign(max(0.0, abs(middle) - 1.5 * scatter / math.sqrt(len(offs))), middle))

    def _growth_of(self, processor: str) -> float:
        """Return how time grows with size: as its power of 0 (not at all) to 1, the median over pairs."""
        if processor not in self._growth:
            newest = [(size, math.log(run_s)) for size, run_s in self._sized[processor][:OF_GROWTH] if run_s > 0]
            slopes = [
                (one_s - other_s) / (one - other)
                for (one, one_s), (other, other_s) in itertools.combinations(newest, 2)
                if abs(one - other) > TELLING
            ]
            usual = statistics.median(slopes) if len(slopes) >= LEAST_PAIRS else 1.0
            self._growth[processor] = min(1.0, max(0.0, usual))
        return self._growth[processor]


def foretell(line: Sequence[InLine], online: Sequence[LaneRow], times: RunTimes, now: datetime) -> dict[UUID, float]:
    """Return in how many seconds each job of the line will be done, if the lanes take them in this order.

    A job that no lane can take at present, or whose processor has never run, has no time.
    """
    # A suspended job occupies its lane for an unknown time.
    working = [lane for lane in online if not lane.paused and lane.blocked_by is None and lane.suspended_at is None]
    free_s = {lane.id: _left_s(lane, times, now) for lane in working}
    done: dict[UUID, float] = {}
    for job in line:
        fitting = [lane.id for lane in working if _fits(lane, job)]
        expected_s = times.expected_s(job.processor, job.input_bytes)
        if not fitting or (expected_s is None and times.usual_s is None):
            continue
        lane_id = min(fitting, key=free_s.__getitem__)
        free_s[lane_id] += expected_s if expected_s is not None else times.usual_s or 0.0
        if expected_s is not None:
            done[job.id] = round(free_s[lane_id], 1)
    return done


def _fits(lane: LaneRow, job: InLine) -> bool:
    return (
        job.device in lane.takes
        and job.wanted_lane in (None, lane.name)
        and (not job.labels or set(job.labels) <= set(lane.labels))
    )


def _left_s(lane: LaneRow, times: RunTimes, now: datetime) -> float:
    """How long the lane's present job will still take."""
    if lane.job_id is None or lane.processor is None:
        return 0.0
    if lane.eta_s is not None:
        return max(0.0, lane.eta_s)
    expected_s = times.expected_s(lane.processor, None) or times.usual_s or 0.0
    since = lane.started_at or now
    return max(0.0, expected_s - (now - since).total_seconds())


class Estimates:
    """Estimates of one process, shared by all who ask within a few seconds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = asyncio.Lock()
        self._times = RunTimes(())
        self._done: dict[UUID, float] = {}
        self._learned_at = self._foretold_at = float("-inf")

    def expected_s(self, processor: str, input_bytes: int | None) -> float | None:
        """Return how long a job would have taken, by what was learned last; None if nothing is known."""
        return self._times.expected_s(processor, input_bytes)

    async def keep_learning(self) -> None:
        """Learn once a minute, until cancelled."""
        while True:
            with contextlib.suppress(VidqueueError):
                async with self._lock:
                    await self._learn()
            await asyncio.sleep(LEARNED_S)

    async def waiting(self) -> dict[UUID, float]:
        """Return in how many seconds the first jobs in line will be done; nothing while the database is busy."""
        async with self._lock:
            if time.monotonic() - self._foretold_at >= FORETOLD_S:
                try:
                    await self._foretell()
                except VidqueueError:
                    return {}
        return self._done

    async def of_new(self, job: InLine) -> tuple[float | None, float | None]:
        """Return how long a job that is not submitted would run, and when it would be done behind those that wait."""
        async with self._lock:
            try:
                await self._foretell(job)
            except VidqueueError:
                return None, None
            return self._times.expected_s(job.processor, job.input_bytes), self._done.get(job.id)

    async def _learn(self) -> None:
        if time.monotonic() - self._learned_at < LEARNED_S:
            return
        async with self._database.statement() as connection:
            samples = await estimates.learned(connection, limit=SAMPLES)
        self._times = await asyncio.to_thread(RunTimes, samples)
        self._learned_at = time.monotonic()

    async def _foretell(self, *more: InLine) -> None:
        await self._learn()
        async with self._database.statement() as connection:
            line = [*await estimates.line(connection, limit=IN_LINE), *more]
            online = await lanes.page(connection) if line else []
        # In a thread: a long line and many lanes take a while.
        self._done = await asyncio.to_thread(foretell, line, online, self._times, datetime.now(UTC))
        self._foretold_at = time.monotonic()
