"""Rows of downloads: which file a job has fetched from which URL, and since when a URL fails."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from vidqueue.db.pool import Connection, execute, row
from vidqueue.db.tables.files import FileRow


@dataclass(frozen=True, slots=True)
class Failing:
    """How often a download has failed in a row, and for how many seconds."""

    tries: int
    failing_s: float


async def get(connection: Connection, job_id: UUID, url_sha256: str) -> FileRow | None:
    """Return the file that a job has downloaded from a URL."""
    found = await row(connection, "fetches", "get", job_id=job_id, url_sha256=url_sha256)
    return FileRow(**found) if found else None


async def done(connection: Connection, job_id: UUID, url_sha256: str, file_id: UUID) -> None:
    """Write that the job has downloaded this file and reads it."""
    await execute(connection, "fetches", "done", job_id=job_id, url_sha256=url_sha256, file_id=file_id)


async def failed(connection: Connection, job_id: UUID, url_sha256: str, *, advanced: bool) -> Failing:
    """Count a failed try; `advanced` says that it brought new bytes."""
    found = await row(connection, "fetches", "failed", job_id=job_id, url_sha256=url_sha256, advanced=advanced)
    assert found is not None
    return Failing(**found)


async def forget(connection: Connection, job_id: UUID, url_sha256: str) -> None:
    """Forget the failed tries."""
    await execute(connection, "fetches", "forget", job_id=job_id, url_sha256=url_sha256)
