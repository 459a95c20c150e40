"""Finds what to remove for a limit on bytes: jobs and uploads of one data folder, least recently used first.

A job's outputs were of use when the job ended; an upload, when the last job that read it ended, or else when it came.
Both are read in batches by index, so that a round gets on however large the folder is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from uuid import UUID

from vidqueue.db.pool import Connection
from vidqueue.db.tables import retention
from vidqueue.db.tables.retention import BEGINNING, Place, Used


@dataclass(slots=True)
class SizeWalk:
    """A walk through the jobs and the uploads of a folder, merged by time. `over` once nothing is left to look at."""

    node: UUID
    over: bool = False
    _jobs_after: Place = BEGINNING
    _uploads_after: Place = BEGINNING

    async def next(self, connection: Connection, *, limit: int) -> list[Used]:
        """The next jobs and uploads."""
        jobs = await retention.oldest_jobs(connection, self.node, self._jobs_after, limit=limit)
        uploads, read = await retention.oldest_uploads(connection, self.node, self._uploads_after, limit=limit)
        # Behind a full batch there may be more, so what the other list has beyond its end is for later.
        ends = [batch[-1].last.at for batch in (jobs, uploads) if len(batch) == limit]
        if ends:
            jobs = [job for job in jobs if job.last.at <= min(ends)]
            uploads = [upload for upload in uploads if upload.last.at <= min(ends)]
        self.over = not ends
        self._jobs_after = jobs[-1].last if jobs else self._jobs_after
        self._uploads_after = uploads[-1].last if uploads else self._uploads_after
        read_last = await retention.last_read_by(connection, self.node, [job.last.id for job in jobs])
        unread = [upload for upload in uploads if upload.last.id not in read]
        found = [job for job in jobs if job.size] + unread + read_last
        return sorted(found, key=lambda used: (used.last.at, used.last.id))


def enough(candidates: list[Used], excess: int) -> list[Used]:
    """The first candidates that together have `excess` bytes, or all."""
    before = [0, *accumulate(used.size for used in candidates)]
    return [used for used, freed in zip(candidates, before, strict=False) if freed < excess]
