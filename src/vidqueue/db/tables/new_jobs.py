"""Puts jobs into the queue: rows of vidqueue.jobs that are not there yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from pydantic_core import to_json

from vidqueue.db.pool import Connection, is_of_one_statement, row, rows_as
from vidqueue.db.tables.jobs import JobRow, NewJob, job_row

_TOGETHER = (
    "processor", "input", "title", "tags", "priority", "device", "vram_mb", "lane", "run_at", "expires_at",
    "max_attempts", "timeout_s", "stall_timeout_s", "webhook",
)  # fmt: skip


async def enqueue(connection: Connection, job: NewJob) -> tuple[UUID, bool]:
    """Queue a job, or find the one its idempotency key made; the flag says whether it is new.

    Raises:
        VidqueueError: `unknown_processor`, `idempotency_mismatch`, `input_not_found`, `dependency_failed`
            (from `Database.transaction`).
    """
    values = {field.name: getattr(job, field.name) for field in fields(job)}
    values |= {name: list(values[name]) for name in ("tags", "after", "labels")} | {"input": Jsonb(job.input)}
    values["webhook"] = Jsonb(job.webhook) if job.webhook is not None else None
    found = await row(connection, "jobs", "enqueue" if _is_plain(job) else "enqueue_with", **values)
    assert found is not None
    return found["job_id"], found["created"]


def may_share_statement(job: NewJob) -> bool:
    """True if `enqueue_together` takes a job: no other transaction has to be waited for on its behalf."""
    return _is_plain(job) and job.idempotency_key is None


async def enqueue_together(connection: Connection, together: Sequence[NewJob]) -> list[JobRow | None]:
    """Queue jobs of one owner in one statement, and return their rows. None stands for those that must be queued alone.

    Those are all of them if the database refuses one of several: it harms no other, and each is then told for itself.
    """
    encoded = Jsonb([{name: getattr(job, name) for name in _TOGETHER} for job in together], dumps=to_json)
    try:
        found = await rows_as(_placed, connection, "jobs", "enqueue_together", owner=together[0].owner, jobs=encoded)
    except psycopg.DatabaseError as error:
        if len(together) == 1 or not is_of_one_statement(error):
            raise
        found = []
    queued = dict(found)
    return [queued.get(place) for place in range(1, len(together) + 1)]


def _placed(*columns: Any) -> tuple[int, JobRow]:
    return columns[-1], job_row(*columns[:-1])


def _is_plain(job: NewJob) -> bool:
    return job.cache and not (job.after or job.labels or job.forget_uploads) and job.keep_s is None
