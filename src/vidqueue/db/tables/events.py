"""The numbered event log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from vidqueue.db.pool import Connection, row, rows


@dataclass(frozen=True)
class Event:
    """One numbered fact about a job, or about the machine: then `job_id` is None and `owner` empty.

    Numbers rise in commit order.
    """

    number: int
    job_id: UUID | None
    owner: str
    kind: str
    at: datetime
    data: dict[str, Any]

    @cached_property
    def encoded(self) -> bytes:
        """JSON of the event, made once however many listeners there are."""
        return to_json({"number": self.number, **self._job, "kind": self.kind, "at": self.at, **self.data})

    @property
    def _job(self) -> dict[str, UUID]:
        return {} if self.job_id is None else {"job_id": self.job_id}


@dataclass(frozen=True, slots=True)
class Summary:
    """Some events together: the newest number, how many they are, and of which kinds."""

    latest: int
    count: int
    kinds: list[str]


async def kinds_after(connection: Connection, number: int, *, limit: int) -> Summary:
    """The events above `number` together, at most `limit` of them."""
    found = await row(connection, "events", "kinds_after", number=number, limit=limit)
    assert found is not None
    return Summary(**found)


async def latest(connection: Connection) -> int:
    """Number of the newest event, 0 when there is none."""
    found = await row(connection, "events", "latest")
    assert found is not None
    return int(found["number"])


async def after(
    connection: Connection, number: int, *, job_id: UUID | None = None, owner: str | None = None, limit: int = 500
) -> list[Event]:
    """Events above `number`, oldest first."""
    values: dict[str, Any] = {"number": number, "limit": limit}
    # Each has its own index. One text for all would be planned once for all.
    if job_id is not None:
        query, values = "of_job_after", {**values, "job_id": job_id, "owner": owner}
    elif owner is not None:
        query, values = "of_owner_after", {**values, "owner": owner}
    else:
        query = "after"
    return [Event(**one) for one in await rows(connection, "events", query, **values)]
