"""Rows of vidqueue.results, the result cache: jobs whose outputs a job with the same work may reuse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any
from uuid import UUID

from vidqueue.db.pool import Connection, rows

# The outputs of the newest may be gone from the disk, where those of an earlier one are not.
NEWEST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFile:
    """An output of an earlier job."""

    name: str
    file_id: UUID
    filename: str
    media_type: str
    size: int
    sha256: str
    facts: dict[str, Any] | None


async def known(
    connection: Connection, key: str, *, job_id: UUID, owner: str, node: UUID
) -> list[tuple[UUID, list[KnownFile]]]:
    """Return the outputs of the newest jobs with this key, by job, newest first."""
    found = await rows(connection, "results", "known", key=key, job_id=job_id, owner=owner, node=node, limit=NEWEST)
    return list(_by_job(found))


def _by_job(found: list[dict[str, Any]]) -> Iterator[tuple[UUID, list[KnownFile]]]:
    for job_id, outputs in groupby(found, itemgetter("job_id")):
        yield job_id, [KnownFile(**{key: value for key, value in one.items() if key != "job_id"}) for one in outputs]
