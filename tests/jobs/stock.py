"""Finished jobs with stored bytes, uploads, and time made to pass: what tests of retention and the sweep need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from tests.factory import Queue
from vidqueue.db.tables import attempts, files
from vidqueue.db.tables.files import NewFile
from vidqueue.job import OutputDraft, State, Succeeded
from vidqueue.jobs.finish import Finished, finish
from vidqueue.progress import LogLine
from vidqueue.storage.local import Storage


@dataclass
class Stock:
    """A queue and a data folder."""

    queue: Queue
    storage: Storage
    scratch: Path

    async def finished(self, *, days: float = 0, size: int = 10, **more: Any) -> UUID:
        """A job that succeeded so many days ago, with one output of `size` bytes, a log and its events."""
        job_id = await self.queue.submit(priority=1000, **more)
        ref = await self.queue.dispatch(await self.queue.lane(uuid4().hex[:8], node=self.storage.node))
        assert ref is not None
        assert ref.job_id == job_id
        async with self.queue.database.transaction() as connection:
            await attempts.report(connection, ref, lines=[LogLine("one"), LogLine("two")])
        path = self.scratch / "output.bin"
        path.write_bytes(b"x" * size)
        outcome = Succeeded((OutputDraft("video", path, "video/mp4"),))
        ended = await finish(self.queue.database, self.storage, ref, outcome, workspace=self.scratch)
        assert ended == Finished(State.SUCCEEDED)
        await self.age(job_id, days)
        return job_id

    async def age(self, job_id: UUID, days: float) -> None:
        """Let a finished job have ended so many days ago."""
        await self.queue.sql(
            "UPDATE vidqueue.jobs SET finished_at = now() - make_interval(secs => %s) WHERE id = %s",
            days * 86400,
            job_id,
        )

    async def uploaded(self, *, days: float = 0, size: int = 10) -> UUID:
        """A file that was uploaded so many days ago."""
        stored = await self.storage.receive(_once(b"u" * size), limit=size)
        new = NewFile(
            id=stored.id, owner="local", name="a.mp4", media_type="video/mp4", size=size, sha256=stored.sha256,
            node=self.storage.node,
        )  # fmt: skip
        async with self.queue.database.transaction() as connection:
            await files.add(connection, new)
        self.storage.release(stored.id)
        await self.queue.sql(
            "UPDATE vidqueue.files SET created_at = now() - make_interval(secs => %s) WHERE id = %s",
            days * 86400,
            stored.id,
        )
        return stored.id

    async def output_of(self, job_id: UUID) -> UUID:
        """Id of the file that a job published."""
        (found,) = await self.queue.sql(
            "SELECT file_id FROM vidqueue.outputs WHERE job_id = %s AND name = 'video'", job_id
        )
        file_id: UUID = found["file_id"]
        return file_id

    async def jobs(self) -> set[UUID]:
        """Every job there is."""
        return {found["id"] for found in await self.queue.sql("SELECT id FROM vidqueue.jobs")}

    async def files(self) -> set[UUID]:
        """Every file that has a row; its bytes have to be there, and no others."""
        rows = {found["id"] for found in await self.queue.sql("SELECT id FROM vidqueue.files")}
        assert rows == set(self.storage.stored_ids())
        return rows

    async def count(self, table: str, job_id: UUID) -> int:
        """Rows of a job in `events` or `attempt_logs`."""
        (found,) = await self.queue.sql(f"SELECT count(*) AS rows FROM vidqueue.{table} WHERE job_id = %s", job_id)
        return int(found["rows"])


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
