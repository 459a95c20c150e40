"""Outputs of running attempts: those that are published early, what is taken back of them, and preview pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from vidqueue.db.pool import Connection, execute, row, rows
from vidqueue.job import AttemptRef


async def publish(connection: Connection, ref: AttemptRef, output: dict[str, Any]) -> bool:
    """Publish one output of a running attempt; False if its fence is outdated, or a cancel was accepted.

    The same file is published once, however often this is called.
    """
    ids = {"job_id": ref.job_id, "attempt": ref.attempt, "fence": ref.fence}
    found = await row(connection, "outputs", "publish", **ids, output=Jsonb(output))
    return bool(found and found["published"])


async def discarded(connection: Connection, node: UUID, *, limit: int) -> list[UUID]:
    """Return files of a data folder whose rows are gone and whose bytes are still to be removed."""
    return [one["id"] for one in await rows(connection, "outputs", "discarded", node=node, limit=limit)]


async def forget_discarded(connection: Connection, ids: Sequence[UUID]) -> None:
    """Forget files whose bytes are removed."""
    await execute(connection, "outputs", "forget_discarded", ids=list(ids))


async def save_preview(connection: Connection, ref: AttemptRef, picture: bytes) -> None:
    """Replace the preview of a running attempt. Nothing happens if its fence is outdated."""
    await execute(connection, "outputs", "save_preview", job_id=ref.job_id, fence=ref.fence, picture=picture)


async def preview(connection: Connection, job_id: UUID, *, owner: str | None) -> bytes | None:
    """Return the newest preview of a job that runs."""
    found = await row(connection, "outputs", "preview", job_id=job_id, owner=owner)
    return bytes(found["picture"]) if found else None


async def forget_preview(connection: Connection, ref: AttemptRef) -> None:
    """Remove the preview of an attempt that has ended its work."""
    await execute(connection, "outputs", "forget_preview", job_id=ref.job_id, attempt=ref.attempt)
