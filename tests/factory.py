"""Short words for what tests do to the queue, all of them through the real queries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from vidqueue.db.pool import Database
from vidqueue.db.tables import attempts, jobs, lanes, new_jobs
from vidqueue.db.tables.jobs import JobRow, NewJob
from vidqueue.db.tables.lanes import NewLane, NewProcessor
from vidqueue.job import AttemptRef, Device


async def eventually(condition: Callable[[], Awaitable[Any]], *, within_s: float = 20) -> Any:
    """The first true answer of `condition`; fails loudly when there is none."""
    async with asyncio.timeout(within_s):
        while not (answer := await condition()):
            await asyncio.sleep(0.02)
    return answer


@dataclass
class Queue:
    """A queue with the processor `zoo` and whatever lanes a test opens."""

    database: Database

    @classmethod
    async def prepared(cls, database: Database) -> Queue:
        """Register the processors that tests use."""
        async with database.transaction() as connection:
            await lanes.register_processor(
                connection, NewProcessor(name="zoo", device="cpu", description="Behaves as told.")
            )
        return cls(database)

    async def lane(self, name: str = "cpu0", device: Device = "cpu", **more: Any) -> UUID:
        """Open a lane."""
        values: dict[str, Any] = {
            "node": uuid4(),
            "host": "testhost",
            "takes": (device,),
            "queue": f"lane:{uuid4().hex[:8]}",
            "processors": {"zoo": "1.0"},
        }
        async with self.database.transaction() as connection:
            return await lanes.register(connection, NewLane(name=name, device=device, **(values | more)))

    async def submit(self, **more: Any) -> UUID:
        """Queue a job."""
        values: dict[str, Any] = {"processor": "zoo", "input": {}, "owner": "local", "device": "cpu"}
        async with self.database.transaction() as connection:
            job_id, _ = await new_jobs.enqueue(connection, NewJob(**(values | more)))
        return job_id

    async def dispatch(self, lane_id: UUID, lease_s: float = 30) -> AttemptRef | None:
        """Give the lane its next job."""
        async with self.database.statement() as connection:
            given = (await attempts.dispatch(connection, [lane_id], lease_s=lease_s)).given
        return given[0][0].ref if given else None

    async def begin(self, ref: AttemptRef) -> attempts.Begun | None:
        """Take an attempt in hand."""
        async with self.database.transaction() as connection:
            return await attempts.begin(connection, ref, lease_s=30)

    async def job(self, job_id: UUID) -> JobRow:
        """Read a job."""
        async with self.database.transaction() as connection:
            found = await jobs.get(connection, job_id)
        assert found is not None
        return found

    async def sql(self, text: str, *values: Any) -> list[dict[str, Any]]:
        """Run any statement and return its rows."""
        async with self.database.transaction() as connection:
            cursor = await connection.execute(text, values or None)
            assert cursor.description or cursor.statusmessage != f"SELECT {cursor.rowcount}", "rows without a column"
            return await cursor.fetchall() if cursor.description else []

    async def violations(self) -> list[dict[str, Any]]:
        """Broken invariants."""
        return await self.sql("SELECT * FROM vidqueue_report.invariant_violations")
