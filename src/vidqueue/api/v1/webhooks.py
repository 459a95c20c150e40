"""Webhooks over HTTP: receivers, their secret, and the deliveries that were sent to them."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlencode
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import owner_of, scope_of, services_of
from vidqueue.api.http.endpoint import JSON, Answer, Endpoint, json_answer
from vidqueue.db.tables.webhooks import DeliveryRow, WebhookRow
from vidqueue.jobs import control, webhooks
from vidqueue.jobs.webhook_secret import WebhookSecret
from vidqueue.jobs.webhooks import Receiver
from vidqueue.principal import Role


class WebhookView(BaseModel):
    """A receiver of the events of all jobs."""

    id: UUID
    url: str
    events: list[str] | None = Field(description="Only these events; null for all.")
    created_at: datetime
    disabled_at: datetime | None = Field(description="When it answered 410 (Gone); it is not told any more.")


class WebhookList(BaseModel):
    """The receivers of all jobs."""

    webhooks: list[WebhookView]


class DeliveryView(BaseModel):
    """One event that a receiver is told."""

    id: UUID = Field(description="Its `webhook-id` is `msg_` with the digits of this.")
    job_id: UUID
    webhook_id: UUID | None = Field(description="Null for the receiver that the job named.")
    url: str
    kind: str = Field(description="started, progress, output or completed.")
    attempt: int
    state: str = Field(description="pending, delivered or dead (given up).")
    tries: int
    status: int | None = Field(description="The HTTP status of the last try.")
    error: str | None = Field(description="Why the last try failed.")
    created_at: datetime
    next_at: datetime | None = Field(description="When it is tried next.")
    ended_at: datetime | None


class DeliveryList(BaseModel):
    """Deliveries, newest first. Progress is not listed once it was sent."""

    deliveries: list[DeliveryView]
    next: str | None = Field(None, description="Address of the next page; null on the last.")


class SecretView(BaseModel):
    """What the deliveries are signed with."""

    secret: str = Field(description="The newest secret, `whsec_` with base64.")
    previous: str | None = Field(description="The one before the last rotation; deliveries are signed with both.")


class DeliveryQuery(BaseModel):
    """Which deliveries."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["pending", "delivered", "dead"] = Field("dead", description="Only those in this state.")
    before: UUID | None = Field(None, description="Only those older than this one.")
    limit: Annotated[int, Field(ge=1, le=500)] = Field(50, description="Deliveries at once.")


async def add_webhook(request: Request, body: Receiver) -> Response:
    """Tell a receiver of all jobs from now on."""
    services = services_of(request)
    added = await webhooks.add(services.database, services.inputs.receivers, body, owner=owner_of(request))
    return json_answer(_webhook(added), 201, {"Location": f"/v1/webhooks/{added.id}"})


async def list_webhooks(request: Request) -> Response:
    """List the receivers of all jobs."""
    found = await webhooks.of_owner(services_of(request).database, owner=owner_of(request))
    return json_answer(WebhookList(webhooks=list(map(_webhook, found))))


async def get_webhook(request: Request, webhook_id: UUID) -> Response:
    """Read a receiver."""
    found = await webhooks.read(services_of(request).database, webhook_id, owner=owner_of(request))
    return json_answer(_webhook(found))


async def delete_webhook(request: Request, webhook_id: UUID) -> Response:
    """Delete a receiver, with its deliveries."""
    await webhooks.remove(services_of(request).database, webhook_id, owner=owner_of(request))
    return Response(status_code=204)


async def get_secret(request: Request) -> Response:
    """Read the secret that the deliveries of this daemon are signed with."""
    secret = WebhookSecret(services_of(request).settings.webhook_secret_file)
    return json_answer(_secret(await asyncio.to_thread(secret.read)))


async def rotate_secret(request: Request) -> Response:
    """Make a new secret. Deliveries are signed with it and with the one before it, until the next rotation."""
    secret = WebhookSecret(services_of(request).settings.webhook_secret_file)
    return json_answer(_secret(await asyncio.to_thread(secret.rotate)))


async def list_deliveries(request: Request, query: DeliveryQuery) -> Response:
    """List deliveries by state, newest first; by default those that were given up."""
    found = await webhooks.deliveries(
        services_of(request).database, owner=owner_of(request), state=query.state, before=query.before,
        limit=query.limit,
    )  # fmt: skip
    following = None
    if len(found) == query.limit:
        page = {"state": query.state, "before": str(found[-1].id), "limit": query.limit}
        following = f"{request.url.path}?{urlencode(page)}"
    link = {"Link": f'<{following}>; rel="next"'} if following else {}
    return json_answer(DeliveryList(deliveries=list(map(_delivery, found)), next=following), headers=link)


async def list_job_deliveries(request: Request, job_id: UUID) -> Response:
    """List the webhook deliveries of a job, newest first."""
    database = services_of(request).database
    await control.read(database, job_id, owner=scope_of(request))
    found = await webhooks.deliveries_of_job(database, job_id)
    return json_answer(DeliveryList(deliveries=list(map(_delivery, found))))


async def resend_delivery(request: Request, delivery_id: UUID) -> Response:
    """Send a delivery once more, under the same `webhook-id`."""
    found = await webhooks.resend(services_of(request).database, delivery_id, owner=scope_of(request))
    return json_answer(_delivery(found), 202)


def _webhook(row: WebhookRow) -> WebhookView:
    return WebhookView(**{name: getattr(row, name) for name in WebhookView.model_fields})


def _delivery(row: DeliveryRow) -> DeliveryView:
    return DeliveryView(**{name: getattr(row, name) for name in DeliveryView.model_fields})


def _secret(secrets: list[str]) -> SecretView:
    return SecretView(secret=secrets[0], previous=secrets[1] if len(secrets) > 1 else None)


_NEXT = {"Link": 'Address of what follows, with rel="next"; absent at the end.'}

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/webhooks",
        handler=add_webhook,
        tag="webhooks",
        answers={201: Answer("The receiver is told from now on.", {JSON: WebhookView}, {"Location": "Its address."})},
        errors=("invalid_url", "address_forbidden", "conflict"),
    ),
    Endpoint(
        method="GET",
        path="/v1/webhooks",
        handler=list_webhooks,
        tag="webhooks",
        answers={200: Answer("The receivers.", {JSON: WebhookList})},
    ),
    Endpoint(
        method="GET",
        path="/v1/webhooks/{webhook_id:uuid}",
        handler=get_webhook,
        tag="webhooks",
        answers={200: Answer("The receiver.", {JSON: WebhookView})},
    ),
    Endpoint(
        method="DELETE",
        path="/v1/webhooks/{webhook_id:uuid}",
        handler=delete_webhook,
        tag="webhooks",
        answers={204: Answer("The receiver is gone.")},
    ),
    Endpoint(
        method="GET",
        path="/v1/webhooks/secret",
        handler=get_secret,
        tag="webhooks",
        role=Role.ADMIN,
        answers={200: Answer("The secret.", {JSON: SecretView})},
    ),
    Endpoint(
        method="POST",
        path="/v1/webhooks/secret",
        handler=rotate_secret,
        tag="webhooks",
        role=Role.ADMIN,
        answers={200: Answer("The new secret.", {JSON: SecretView})},
    ),
    Endpoint(
        method="GET",
        path="/v1/webhooks/deliveries",
        handler=list_deliveries,
        tag="webhooks",
        answers={200: Answer("A page of deliveries.", {JSON: DeliveryList}, _NEXT)},
    ),
    Endpoint(
        method="POST",
        path="/v1/webhooks/deliveries/{delivery_id:uuid}/resend",
        handler=resend_delivery,
        tag="webhooks",
        answers={202: Answer("It is sent once more.", {JSON: DeliveryView})},
    ),
    Endpoint(
        method="GET",
        path="/v1/jobs/{job_id:uuid}/deliveries",
        handler=list_job_deliveries,
        tag="webhooks",
        answers={200: Answer("The deliveries.", {JSON: DeliveryList})},
    ),
)
