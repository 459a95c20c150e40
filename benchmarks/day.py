"""A simulated day: jobs of five owners with weights on four unequal lanes, through the real dispatch and finish.

The clock of the lanes is simulated: each attempt ends when its lane's clock says so, and its row is told that it began
as long before as it took. Everything else is what the daemon does. `python -m benchmarks.day [JOBS]` prints the table
of docs/shares.md.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

from vidqueue.db import migrate
from vidqueue.db.embedded import server as embedded
from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import attempts, lanes, limits
from vidqueue.db.tables.attempts import Begun
from vidqueue.db.tables.jobs import NewJob
from vidqueue.db.tables.lanes import NewLane, NewProcessor
from vidqueue.db.tables.limits import OwnerLimits
from vidqueue.db.tables.new_jobs import enqueue
from vidqueue.job import AttemptRef, Device

WEIGHTS = {"ann": 5.0, "ben": 4.0, "cem": 3.0, "dee": 2.0, "eve": 1.0}
# Kind of lane and memory; the second GPU is too small for big jobs.
LANES: tuple[tuple[str, Device, int], ...] = (
    ("gpu0", "gpu", 24_000), ("gpu1", "gpu", 8000), ("cpu0", "cpu", 0), ("cpu1", "cpu", 0)
)  # fmt: skip
SMALL_MB, BIG_MB, BIG_S = 4000, 20_000, 300.0
# Of the jobs of a GPU.
BIG_SHARE = 0.01
LEASE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A job and how long it will take; all of them wait from the beginning."""

    owner: str
    device: Device
    vram_mb: int
    takes_s: float
    place: int


@dataclass(slots=True)
class Day:
    """What came of it. Times are seconds of the simulated clock."""

    jobs: int
    hours: float
    # Up to the time at which the first owner had nothing to wait for any more.
    shares: dict[str, float] = field(default_factory=dict)
    # How long jobs waited, as a share of their bound; the largest.
    worst: float = 0.0
    worst_big: float = 0.0
    bigs: int = 0


def plan(jobs: int, seed: int) -> list[Planned]:
    """Return the jobs of a day, in the order in which they were submitted. Every owner has work as its weight is."""
    dice = random.Random(seed)
    planned: list[Planned] = []
    total = sum(WEIGHTS.values())
    for owner, weight in WEIGHTS.items():
        for _ in range(round(jobs * weight / total)):
            device: Device = "gpu" if dice.random() < 0.5 else "cpu"
            big = device == "gpu" and dice.random() < BIG_SHARE
            takes_s = BIG_S if big else dice.uniform(5, 60)
            vram_mb = (BIG_MB if big else SMALL_MB) if device == "gpu" else 0
            planned.append(Planned(owner, device, vram_mb, takes_s, 0))
    dice.shuffle(planned)
    return [Planned(p.owner, p.device, p.vram_mb, p.takes_s, place) for place, p in enumerate(planned)]


def bounds(planned: list[Planned]) -> dict[int, float]:
    """Return by when each job must have begun: when its owner's share has done the owner's work before it.

    Two of the longest jobs on each lane may be in between, and the owners' work is uneven by as much.
    """
    total, before = sum(WEIGHTS.values()), defaultdict[tuple[str, Device], float](float)
    slack_s = 2 * max(one.takes_s for one in planned) * len(LANES)
    found: dict[int, float] = {}
    for one in planned:
        of_kind = sum(device == one.device for _, device, _ in LANES)
        share = WEIGHTS[one.owner] / total * of_kind
        found[one.place] = before[one.owner, one.device] / share * 1.1 + slack_s
        before[one.owner, one.device] += one.takes_s
    return found


async def simulate(database: Database, jobs: int, seed: int = 1) -> Day:
    """Run a day through a migrated, empty database."""
    planned = plan(jobs, seed)
    known, queues = await _prepared(database, planned)
    clock: list[tuple[float, int, AttemptRef]] = []
    begun_at: dict[int, float] = {}
    served: list[tuple[float, str, float]] = []

    def take(begun: Begun, lane: int, now: float) -> None:
        one = planned[known[begun.ref.job_id]]
        begun_at[one.place] = now
        served.append((now, one.owner, one.takes_s))
        heapq.heappush(clock, (now + one.takes_s, lane, begun.ref))

    for lane, lane_id in enumerate(queues):
        async with database.transaction() as connection:
            ((begun, _),) = (await attempts.dispatch(connection, [lane_id], lease_s=LEASE_S)).given
        take(begun, lane, 0.0)
    while clock:
        now, lane, ref = heapq.heappop(clock)
        async with database.transaction() as connection:
            await _began_before(connection, ref, planned[known[ref.job_id]].takes_s)
            ending = {"outcome": "succeeded", "state": "succeeded", "outputs": [], "usage": {}}
            ended = await attempts.finish(connection, attempts.Ending(ref, ending, queues[lane], LEASE_S))
        if ended.next is not None:
            take(ended.next, lane, now)
    return _judged(planned, begun_at, served)


async def _prepared(database: Database, planned: list[Planned]) -> tuple[dict[UUID, int], list[UUID]]:
    """Write weights, lanes and jobs; return the place of each job, and the ids of the lanes."""
    node, known = uuid4(), dict[UUID, int]()
    async with database.transaction() as connection:
        await lanes.register_processor(connection, NewProcessor(name="work", device="cpu", description="Work."))
        for owner, weight in WEIGHTS.items():
            await limits.set_limits(connection, owner, OwnerLimits(weight=weight))
        offered = [
            NewLane(node=node, host="day", name=name, device=device, takes=(device,), queue=f"lane:day:{name}",
                    processors={"work": "1"}, vram_mb=vram_mb)
            for name, device, vram_mb in LANES
        ]  # fmt: skip
        ids = [await lanes.register(connection, one) for one in offered]
    for first in range(0, len(planned), 500):
        async with database.transaction() as connection:
            for one in planned[first : first + 500]:
                new = NewJob(processor="work", input={}, owner=one.owner, device=one.device, vram_mb=one.vram_mb)
                known[(await enqueue(connection, new))[0]] = one.place
    return known, ids


async def _began_before(connection: Connection, ref: AttemptRef, takes_s: float) -> None:
    await connection.execute(
        "UPDATE vidqueue.attempts SET started_at = clock_timestamp() - make_interval(secs => %s) "
        "WHERE job_id = %s AND number = %s",
        (takes_s, ref.job_id, ref.attempt),
    )


def _judged(planned: list[Planned], begun_at: Mapping[int, float], served: list[tuple[float, str, float]]) -> Day:
    last: dict[tuple[str, Device], float] = {}
    for one in planned:
        last[one.owner, one.device] = max(last.get((one.owner, one.device), 0.0), begun_at[one.place])
    saturated_until = min(last.values())
    had = defaultdict[str, float](float)
    for now, owner, takes_s in served:
        had[owner] += max(0.0, min(takes_s, saturated_until - now))
    due = bounds(planned)
    waited = {one.place: begun_at[one.place] / due[one.place] for one in planned}
    bigs = [waited[one.place] for one in planned if one.vram_mb == BIG_MB]
    total_s = max(now + takes_s for now, _, takes_s in served)
    shares = {owner: had[owner] / sum(had.values()) for owner in WEIGHTS}
    return Day(len(planned), total_s / 3600, shares, max(waited.values()), max(bigs, default=0.0), len(bigs))


def table(day: Day) -> str:
    """Return the result as Markdown."""
    total = sum(WEIGHTS.values())
    lines = ["| owner | weight | share due | share had | off by |", "|---|---|---|---|---|"]
    for owner, weight in WEIGHTS.items():
        due, had = weight / total, day.shares[owner]
        lines.append(f"| {owner} | {weight:g} | {due:.2%} | {had:.2%} | {had / due - 1:+.1%} |")
    lines.append("")
    lines.append(
        f"{day.jobs} jobs in {day.hours:.1f} simulated hours. The longest wait was {day.worst:.0%} of its bound; "
        f"of the {day.bigs} big jobs {day.worst_big:.0%}."
    )
    return "\n".join(lines)


async def _main(jobs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="vidqueue-day-") as folder:
        async with embedded.running(Path(folder) / "data") as url:
            await migrate.migrate(url)
            async with Database(url) as database:
                print(table(await simulate(database, jobs)))


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
