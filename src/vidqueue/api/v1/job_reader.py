"""Reads single jobs for HTTP clients. Those who ask at one moment share a statement, and one job's answer."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from uuid import UUID

from vidqueue.api.v1.job_json import job_json
from vidqueue.db.gathered import Gathered
from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import jobs
from vidqueue.db.tables.jobs import JobRow
from vidqueue.errors import VidqueueError


class ShownJob:
    """A job as it was read, with its JSON and ETag, which are made once for all who read it together."""

    __slots__ = ("_encoded", "row")

    def __init__(self, row: JobRow) -> None:
        self.row = row
        self._encoded: tuple[float | None, bytes, str] | None = None

    def encoded(self, eta_s: float | None) -> tuple[bytes, str]:
        """Return JSON and ETag of the job with this estimate."""
        if self._encoded is None or self._encoded[0] != eta_s:
            job = self.row if eta_s == self.row.eta_s else self.row._replace(eta_s=eta_s)
            body = job_json(job)
            self._encoded = eta_s, body, tag_of(job, body)
        return self._encoded[1:]


class JobReader:
    """Jobs by id."""

    def __init__(self, database: Database) -> None:
        self._questions: Gathered[UUID, ShownJob | None] = Gathered(database, _shown)

    async def read(self, job_id: UUID, *, owner: str | None) -> ShownJob:
        """Return a job.

        Raises:
            VidqueueError: `not_found`, also for another owner's job.
        """
        found = await self._questions.answer(job_id)
        if found is None or owner not in (None, found.row.owner):
            raise VidqueueError("not_found", f"There is no job {job_id}.")
        return found


def tag_of(job: JobRow, body: bytes) -> str:
    """ETag of a job: changes whenever its JSON does; begins with the row's version, which `If-Match` compares."""
    return f'"{job.version}.{zlib.crc32(body):08x}"'


async def _shown(connection: Connection, ids: Sequence[UUID]) -> list[ShownJob | None]:
    found = {job_id: ShownJob(row) for job_id, row in (await jobs.get_many(connection, ids)).items()}
    return [found.get(job_id) for job_id in ids]
