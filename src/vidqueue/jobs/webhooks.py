"""Webhooks: receivers of the events of one job or of all jobs of an owner, and what became of each delivery."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vidqueue.db.pool import Database
from vidqueue.db.tables import webhooks
from vidqueue.db.tables.webhooks import DeliveryRow, WebhookRow
from vidqueue.errors import VidqueueError
from vidqueue.ops.addresses import AddressGuard, parse_url
from vidqueue.settings.sections import WebhooksSettings

Kind = Literal["started", "progress", "output", "completed"]

MOST_OF_AN_OWNER = 100
LAST_ID = UUID(int=(1 << 128) - 1)


class Receiver(BaseModel):
    """Whom to tell of a job by HTTP. A plain URL is the same as an object with that `url`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(min_length=1, max_length=4096, description="An https:// or http:// URL that takes POST requests.")
    events: list[Kind] | None = Field(
        None,
        min_length=1,
        max_length=4,
        description="Only these: started, progress, output, completed. All by default.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_url(cls, given: object) -> object:
        return {"url": given} if isinstance(given, str) else given


class PredictionReceiver(Receiver):
    """A webhook whose payload is a prediction of Replicate. Only the compatible API of Replicate makes one.

    `prediction_base` is the scheme, host and port of the URLs in the payload.
    """

    prediction_base: str


def guard_of(settings: WebhooksSettings) -> AddressGuard:
    """Return the guard of the addresses that webhooks are sent to."""
    return AddressGuard(settings.allow, "webhooks.allow")


def check(receiver: Receiver, guard: AddressGuard) -> None:
    """Check the URL of a receiver, without resolving its host.

    Raises:
        VidqueueError: `invalid_url`, `address_forbidden`.
    """
    guard.check(parse_url(receiver.url))


async def add(database: Database, guard: AddressGuard, receiver: Receiver, *, owner: str) -> WebhookRow:
    """Tell a receiver of all jobs of an owner from now on.

    Raises:
        VidqueueError: `invalid_url`, `address_forbidden`; `conflict` if the owner has too many.
    """
    check(receiver, guard)
    async with database.transaction() as connection:
        if await webhooks.count(connection, owner) >= MOST_OF_AN_OWNER:
            raise VidqueueError("conflict", f"There are {MOST_OF_AN_OWNER} webhooks already.", hint="Delete one first.")
        events: list[str] | None = [*receiver.events] if receiver.events else None
        return await webhooks.add(connection, owner=owner, url=receiver.url, events=events)


async def of_owner(database: Database, *, owner: str) -> list[WebhookRow]:
    """Return the receivers of an owner."""
    async with database.statement() as connection:
        return await webhooks.of_owner(connection, owner)


async def read(database: Database, webhook_id: UUID, *, owner: str) -> WebhookRow:
    """Return one receiver.

    Raises:
        VidqueueError: `not_found`.
    """
    async with database.statement() as connection:
        found = await webhooks.get(connection, webhook_id, owner=owner)
    if found is None:
        raise _no_webhook(webhook_id)
    return found


async def remove(database: Database, webhook_id: UUID, *, owner: str) -> None:
    """Delete a receiver; what it was not told yet it is not told any more.

    Raises:
        VidqueueError: `not_found`.
    """
    async with database.statement() as connection:
        if not await webhooks.remove(connection, webhook_id, owner=owner):
            raise _no_webhook(webhook_id)


async def deliveries_of_job(database: Database, job_id: UUID) -> list[DeliveryRow]:
    """Return the deliveries of a job, newest first."""
    async with database.statement() as connection:
        return await webhooks.of_job(connection, job_id)


async def deliveries(
    database: Database, *, owner: str, state: str, before: UUID | None = None, limit: int
) -> list[DeliveryRow]:
    """Return the deliveries of an owner in a state, newest first."""
    async with database.statement() as connection:
        return await webhooks.page(connection, owner=owner, state=state, before=before or LAST_ID, limit=limit)


async def resend(database: Database, delivery_id: UUID, *, owner: str | None) -> DeliveryRow:
    """Send a delivery once more, for a day if it fails, whatever became of it.

    Raises:
        VidqueueError: `not_found`.
    """
    async with database.statement() as connection:
        found = await webhooks.resend(connection, delivery_id, owner=owner)
    if found is None:
        raise VidqueueError("not_found", f"There is no delivery {delivery_id}.")
    return found


def _no_webhook(webhook_id: UUID) -> VidqueueError:
    return VidqueueError("not_found", f"There is no webhook {webhook_id}.")
