"""Bulk actions over HTTP: change all jobs that match a filter, read the progress, undo."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import principal_of, services_of
from vidqueue.api.http.endpoint import JSON, Answer, Endpoint, json_answer
from vidqueue.api.v1.jobs import run_job_next
from vidqueue.api.v1.views import JobView
from vidqueue.db.tables.bulk_actions import BulkActionRow
from vidqueue.jobs import bulk
from vidqueue.jobs.bulk import BulkRequest
from vidqueue.principal import Principal, Role

NEWEST = 100


class BulkActionView(BaseModel):
    """A bulk action."""

    id: UUID
    owner: str = Field(description="The owner who requested it.")
    verb: str = Field(description="cancel, retry, priority or delete.")
    priority: int | None
    jobs: dict[str, Any] = Field(description="The filters that select the jobs.")
    states: list[str] = Field(description="States of the jobs that it changes.")
    state: str = Field(
        description="pending (it can be undone), running, done, undone (nothing was changed), stopped (part of the "
        "jobs was changed) or failed."
    )
    matched: int | None = Field(description="How many jobs matched; null until they are counted.")
    looked: int = Field(description="How many of them have been processed.")
    changed: int = Field(description="How many of them have been changed.")
    begins_at: datetime
    created_at: datetime
    ended_at: datetime | None
    error: str | None


class BulkActionList(BaseModel):
    """The newest bulk actions, newest first."""

    bulk_actions: list[BulkActionView]


async def create_bulk_action(request: Request, body: BulkRequest) -> Response:
    """Create a bulk action: cancel, retry, delete or reprioritize all jobs that match.

    It begins after `delay_s` and can be undone before. Jobs that are submitted later are not changed, nor those
    whose state does not allow it.
    """
    action = await bulk.create(services_of(request).database, body, principal_of(request))
    return json_answer(view(action), 202, {"Location": f"/v1/bulk-actions/{action.id}"})


async def list_bulk_actions(request: Request) -> Response:
    """List the newest bulk actions."""
    found = await bulk.newest(services_of(request).database, owner=readers_of(request), limit=NEWEST)
    return json_answer(BulkActionList(bulk_actions=list(map(view, found))))


async def get_bulk_action(request: Request, action_id: UUID) -> Response:
    """Read a bulk action and its progress."""
    return json_answer(view(await bulk.read(services_of(request).database, action_id, owner=readers_of(request))))


async def undo_bulk_action(request: Request, action_id: UUID) -> Response:
    """Undo a bulk action that has not begun, or stop a running one.

    Changes of a running one are not reverted.
    """
    return json_answer(view(await bulk.undo(services_of(request).database, action_id, owner=readers_of(request))), 202)


def readers_of(request: Request) -> str | None:
    """Return the owner whose bulk actions the request may see; None for those of everybody."""
    principal: Principal = principal_of(request)
    return None if principal.role.includes(Role.OPERATE) else principal.owner


def view(row: BulkActionRow) -> BulkActionView:
    """Return a bulk action as a response model."""
    shown = {name: getattr(row, name) for name in BulkActionView.model_fields if name in BulkActionRow.__slots__}
    return BulkActionView(**shown, jobs=row.selection)


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/jobs/{job_id:uuid}/run-next",
        handler=run_job_next,
        tag="jobs",
        answers={202: Answer("The job is at the front of the queue.", {JSON: JobView})},
        errors=("conflict",),
    ),
    Endpoint(
        method="POST",
        path="/v1/bulk-actions",
        handler=create_bulk_action,
        tag="bulk actions",
        answers={
            202: Answer("It begins after its delay, durably.", {JSON: BulkActionView}, {"Location": "Its address."})
        },
        errors=("limit_reached",),
    ),
    Endpoint(
        method="GET",
        path="/v1/bulk-actions",
        handler=list_bulk_actions,
        tag="bulk actions",
        answers={200: Answer("The bulk actions.", {JSON: BulkActionList})},
    ),
    Endpoint(
        method="GET",
        path="/v1/bulk-actions/{action_id:uuid}",
        handler=get_bulk_action,
        tag="bulk actions",
        answers={200: Answer("The bulk action.", {JSON: BulkActionView})},
    ),
    Endpoint(
        method="POST",
        path="/v1/bulk-actions/{action_id:uuid}/undo",
        handler=undo_bulk_action,
        tag="bulk actions",
        answers={202: Answer("It has ended.", {JSON: BulkActionView})},
        errors=("conflict",),
    ),
)
