"""What a long queue and a long history cost: the same questions to a full database and to one that is almost empty.

`python -m benchmarks.backlog` starts a PostgreSQL on a folder of its own with two databases, and asks them by turns.
The full one has a million finished jobs and 100,000 waiting ones (`--finished`, `--waiting`), which takes some minutes;
the other one as many as fill a page of each list.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg

from vidqueue.db import migrate
from vidqueue.db.embedded import server as embedded
from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import attempts, events, jobs, lanes, new_jobs, retention
from vidqueue.db.tables.jobs import JobFilter, NewJob
from vidqueue.db.tables.lanes import NewLane, NewProcessor
from vidqueue.ops import logs

ROUNDS = 40
FINISHED, WAITING = 1_000_000, 100_000
FEW_FINISHED, FEW_WAITING = 5000, 100
FILL = Path(__file__).with_name("fill.sql")


@dataclass(frozen=True, slots=True)
class Queue:
    """A database with a free lane, and its waiting job that is last in the line."""

    database: Database
    lane_id: UUID
    last: UUID


Act = Callable[[Connection, Queue], Awaitable[object]]


async def _choose(connection: Connection, queue: Queue) -> None:
    assert (await attempts.dispatch(connection, [queue.lane_id], lease_s=30)).given


async def _submit(connection: Connection, queue: Queue) -> None:
    del queue
    await new_jobs.enqueue(connection, NewJob(processor="bench", input={}, owner="local", device="cpu"))


def _list(**wanted: Any) -> Act:
    async def act(connection: Connection, queue: Queue) -> None:
        del queue
        await jobs.page(connection, JobFilter(**{"owner": "local", **wanted}))

    return act


async def _statistics(connection: Connection, queue: Queue) -> None:
    del queue
    await jobs.counts(connection, owner="local")
    await jobs.recent(connection, owner="local")
    await jobs.waiting(connection)


async def _retention(connection: Connection, queue: Queue) -> None:
    del queue
    await retention.cutoffs(connection, jobs_days=90, logs_days=30, events_days=30, uploads_days=30)
    await retention.beyond_count(connection, 2_000_000)


WEEKS_AGO = datetime.now(UTC) - timedelta(days=14)
ACTS: dict[str, Act] = {
    "dispatch": _choose,
    "submit": _submit,
    "status of the last in line": lambda connection, queue: jobs.get(connection, queue.last),
    "list": _list(),
    "list by state": _list(states=["failed"]),
    "list by processor": _list(processor="second"),
    "list by rare tag": _list(tag="once"),
    "list by common tag": _list(tag="nightly"),
    "list before a time": _list(created_before=WEEKS_AGO),
    "list of another owner": _list(owner="team1"),
    "replay of an owner's events": lambda connection, _: events.after(connection, 0, owner="team1", limit=50),
    "stats": _statistics,
    "retention's questions": _retention,
}


async def prepared(url: str, name: str, finished: int, waiting: int, stack: AsyncExitStack) -> Queue:
    """A database of its own with so many jobs, and a free lane."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(f'CREATE DATABASE "{name}"')
    own = url.replace("@/postgres?", f"@/{name}?")
    await migrate.migrate(own)
    async with await psycopg.AsyncConnection.connect(own, autocommit=True) as connection:
        cursor = psycopg.AsyncClientCursor(connection)
        await cursor.execute(FILL.read_bytes(), {"finished": finished, "waiting": waiting})
        await connection.execute("VACUUM ANALYZE")
    database = await stack.enter_async_context(Database(own))
    async with database.transaction() as connection:
        await lanes.register_processor(connection, NewProcessor(name="bench", device="cpu", description="Nothing."))
        new = NewLane(
            node=uuid4(), host="bench", name="cpu0", device="cpu", takes=("cpu",), queue="lane:bench",
            processors={"bench": "1"},
        )  # fmt: skip
        lane_id = await lanes.register(connection, new)
        (last,) = await jobs.page(connection, JobFilter(owner="local", states=["queued"], limit=1))
    return Queue(database, lane_id, last.id)


class _TakenBackError(Exception):
    """Rolls a transaction back, so that each round finds the queue as the one before."""


async def took_ms(act: Act, queue: Queue) -> float:
    """Milliseconds of one act."""
    begun = time.perf_counter_ns()
    with suppress(_TakenBackError):
        async with queue.database.transaction() as connection:
            await act(connection, queue)
            raise _TakenBackError
    return (time.perf_counter_ns() - begun) / 1e6


async def compare(full: Queue, empty: Queue) -> None:
    """Ask by turns and print medians and their ratio."""
    print("| asked | almost empty, ms | full, ms | ratio |\n|---|---|---|---|")
    for name, act in ACTS.items():
        rounds = [[await took_ms(act, queue) for queue in (empty, full)] for _ in range(ROUNDS)]
        few, many = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"| {name} | {few:.2f} | {many:.2f} | {many / few:.2f} |")


async def main() -> None:
    """Fill both and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--finished", type=int, default=FINISHED)
    parser.add_argument("--waiting", type=int, default=WAITING)
    wanted = parser.parse_args()
    logs.configure("error")
    with tempfile.TemporaryDirectory(prefix="vidqueue-bench-") as folder:
        async with embedded.running(Path(folder)) as url, AsyncExitStack() as stack:
            empty = await prepared(url, "empty", FEW_FINISHED, FEW_WAITING, stack)
            full = await prepared(url, "full", wanted.finished, wanted.waiting, stack)
            await compare(full, empty)


if __name__ == "__main__":
    asyncio.run(main())
