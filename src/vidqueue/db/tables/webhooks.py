"""Rows of webhooks and of their deliveries, which triggers write (migrations/0024_webhooks.sql)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from vidqueue.db.pool import Connection, execute, row, rows


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """A receiver of the events of all jobs of an owner. `events` None means all."""

    id: UUID
    owner: str
    url: str
    events: list[str] | None
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this process shall send now. `receiver` is the scheme, host and port of its URL.

    With a `prediction_base` it tells of a prediction (see `jobs.webhooks.PredictionReceiver`).
    """

    id: UUID
    job_id: UUID
    webhook_id: UUID | None
    url: str
    receiver: str
    kind: str
    data: dict[str, Any]
    tries: int
    created_at: datetime
    prediction_base: str | None = None


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery for people. `status` is the last HTTP status, `error` why the last try failed."""

    id: UUID
    job_id: UUID
    webhook_id: UUID | None
    url: str
    kind: str
    attempt: int
    state: str
    tries: int
    status: int | None
    error: str | None
    created_at: datetime
    next_at: datetime | None
    ended_at: datetime | None


async def add(connection: Connection, *, owner: str, url: str, events: list[str] | None) -> WebhookRow:
    """Write a receiver."""
    found = await row(connection, "webhooks", "add", owner=owner, url=url, events=Jsonb(events) if events else None)
    assert found is not None
    return WebhookRow(**found)


async def of_owner(connection: Connection, owner: str) -> list[WebhookRow]:
    """Return the receivers of an owner."""
    return [WebhookRow(**found) for found in await rows(connection, "webhooks", "list", owner=owner)]


async def count(connection: Connection, owner: str) -> int:
    """Return how many receivers an owner has."""
    found = await row(connection, "webhooks", "count", owner=owner)
    assert found is not None
    return int(found["webhooks"])


async def get(connection: Connection, webhook_id: UUID, *, owner: str) -> WebhookRow | None:
    """Return one receiver."""
    found = await row(connection, "webhooks", "get", id=webhook_id, owner=owner)
    return WebhookRow(**found) if found else None


async def remove(connection: Connection, webhook_id: UUID, *, owner: str) -> bool:
    """Delete a receiver with its deliveries; False if there is none of this id."""
    return await execute(connection, "webhooks", "remove", id=webhook_id, owner=owner) > 0


async def disable(connection: Connection, webhook_id: UUID) -> None:
    """Write that the receiver does not want to be told any more."""
    await execute(connection, "webhooks", "disable", id=webhook_id)


async def claim(connection: Connection, *, limit: int, each: int, busy: Iterable[str], lease_s: float) -> list[Claimed]:
    """Take deliveries that are due, at most `each` of a receiver and none of those that are `busy`."""
    found = await rows(connection, "webhooks", "claim", limit=limit, each=each, busy=list(busy), lease_s=lease_s)
    return [Claimed(**one) for one in found]


async def delivered(connection: Connection, delivery_id: UUID, *, status: int) -> None:
    """Write that the receiver has taken a delivery."""
    await execute(connection, "webhooks", "delivered", id=delivery_id, status=status)


async def failed(
    connection: Connection, delivery_id: UUID, *, status: int | None, error: str, final: bool, delay_s: float
) -> str | None:
    """Write that a try failed, and return the state of the delivery."""
    found = await row(
        connection, "webhooks", "failed", id=delivery_id, status=status, error=error, final=final, delay_s=delay_s
    )
    return str(found["state"]) if found else None


async def drop(connection: Connection, delivery_id: UUID) -> None:
    """Delete a delivery."""
    await execute(connection, "webhooks", "drop", id=delivery_id)


async def of_job(connection: Connection, job_id: UUID) -> list[DeliveryRow]:
    """Return the deliveries of a job, newest first."""
    return [DeliveryRow(**found) for found in await rows(connection, "webhooks", "of_job", job_id=job_id)]


async def page(connection: Connection, *, owner: str, state: str, before: UUID, limit: int) -> list[DeliveryRow]:
    """Return a page of the deliveries in a state, newest first."""
    found = await rows(connection, "webhooks", "page", owner=owner, state=state, before=before, limit=limit)
    return [DeliveryRow(**one) for one in found]


async def resend(connection: Connection, delivery_id: UUID, *, owner: str | None) -> DeliveryRow | None:
    """Make a delivery due now, whatever became of it."""
    found = await row(connection, "webhooks", "resend", id=delivery_id, owner=owner)
    return DeliveryRow(**found) if found else None
