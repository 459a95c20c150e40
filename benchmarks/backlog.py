"""What a long line costs: choosing a job, submitting one, and a page of the list, with 10,000 waiting against 10.

`python benchmarks/backlog.py` starts a PostgreSQL on a folder of its own with two databases, and asks them by turns.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from uuid import UUID, uuid4

import psycopg

from vidqueue.db import migrate
from vidqueue.db.embedded import server as embedded
from vidqueue.db.pool import Database
from vidqueue.db.tables import attempts, jobs, lanes
from vidqueue.db.tables.jobs import JobFilter, NewJob
from vidqueue.db.tables.lanes import NewLane, NewProcessor
from vidqueue.ops import logs

ROUNDS = 60
LINES = {"short": 10, "long": 10_000}

Act = Callable[[Database, UUID], Awaitable[object]]


class _TakenBackError(Exception):
    """Rolls a transaction back, so that each round finds the line as the one before."""


async def choose(database: Database, lane_id: UUID) -> None:
    """Give the best job to a lane."""
    async with database.transaction() as connection:
        assert await attempts.dispatch(connection, [lane_id], lease_s=30)
        raise _TakenBackError


async def submit(database: Database, lane_id: UUID) -> None:
    """Queue one more."""
    del lane_id
    async with database.transaction() as connection:
        await jobs.enqueue(connection, NewJob(processor="bench", input={}, owner="local", device="cpu"))
        raise _TakenBackError


async def page(database: Database, lane_id: UUID) -> None:
    """The first page of the list."""
    del lane_id
    async with database.transaction() as connection:
        await jobs.page(connection, JobFilter(limit=50))


ACTS: dict[str, Act] = {"dispatch": choose, "submit": submit, "list": page}


async def prepared(url: str, name: str, waiting: int, stack: AsyncExitStack) -> tuple[Database, UUID]:
    """A database of its own with so many jobs in the line, and a free lane."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(f'CREATE DATABASE "{name}"')
    own = url.replace("@/postgres?", f"@/{name}?")
    await migrate.migrate(own)
    database = await stack.enter_async_context(Database(own))
    async with database.transaction() as connection:
        await lanes.register_processor(connection, NewProcessor(name="bench", device="cpu", description="Nothing."))
        new = NewLane(
            node=uuid4(),
            host="bench",
            name="cpu0",
            device="cpu",
            takes=("cpu",),
            queue="lane:bench",
            processors={"bench": "1"},
        )
        lane_id = await lanes.register(connection, new)
        await connection.execute(
            "INSERT INTO vidqueue.jobs (owner, processor, input, device, queued_at) "
            "SELECT 'local', 'bench', '{}', 'cpu', now() - make_interval(secs => n) FROM generate_series(1, %s) n",
            [waiting],
        )
    async with await psycopg.AsyncConnection.connect(own, autocommit=True) as connection:
        await connection.execute("VACUUM ANALYZE")
    return database, lane_id


async def took_ms(act: Act, database: Database, lane_id: UUID) -> float:
    """Milliseconds of one act."""
    begun = time.perf_counter_ns()
    with suppress(_TakenBackError):
        await act(database, lane_id)
    return (time.perf_counter_ns() - begun) / 1e6


async def main() -> None:
    """Ask by turns and print medians and their ratio."""
    logs.configure("error")
    with tempfile.TemporaryDirectory(prefix="vidqueue-bench-") as folder:
        async with embedded.running(Path(folder)) as url, AsyncExitStack() as stack:
            lines = {name: await prepared(url, name, waiting, stack) for name, waiting in LINES.items()}
            for name, act in ACTS.items():
                rounds = [[await took_ms(act, *line) for line in lines.values()] for _ in range(ROUNDS)]
                short, long = (statistics.median(column) for column in zip(*rounds, strict=True))
                print(
                    f"{name:<9} {short:7.2f} ms with 10 waiting, {long:7.2f} ms with 10,000: {long / short:6.1f} times"
                )


if __name__ == "__main__":
    asyncio.run(main())
