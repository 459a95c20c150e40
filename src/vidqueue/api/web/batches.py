"""The list of batches, and the forms that cancel or retry one; its jobs are shown by the list of jobs."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.v1.batches import batch_view
from vidqueue.api.web import forms, render
from vidqueue.api.web.forms import Notice
from vidqueue.db.tables import batches as rows
from vidqueue.db.tables.jobs import LAST_ID
from vidqueue.errors import VidqueueError
from vidqueue.jobs import batches

# The counts of a batch read its jobs, at most a thousand.
ON_A_PAGE = 20


class BatchesQuery(BaseModel):
    """Where the list begins."""

    model_config = ConfigDict(extra="forbid")

    before: UUID | None = None


async def show(request: Request, query: BatchesQuery) -> Response:
    """Show a page of batches, newest first."""
    async with services_of(request).database.statement() as connection:
        found = await rows.page(
            connection, owner=scope_of(request), before=query.before or LAST_ID, limit=ON_A_PAGE + 1
        )
    shown = found[:ON_A_PAGE]
    return render.page(
        request,
        "batches.html",
        batches=[batch_view(one) for one in shown],
        next=f"/batches?before={shown[-1].id}" if len(found) > len(shown) else None,
        first="/batches" if query.before else None,
    )


async def act(request: Request, batch_id: UUID, verb: str) -> Response:
    """Cancel a batch, or retry what failed of it."""
    form = await forms.read(request)
    verbs = {
        "cancel": (batches.cancel, "The batch was canceled."),
        "retry": (batches.retry, "What failed waits again."),
    }
    if verb not in verbs:
        raise VidqueueError("not_found", f"There is no verb {verb[:40]!r}.", hint="Use cancel or retry.")
    do, done = verbs[verb]
    try:
        await do(services_of(request).database, batch_id, owner=scope_of(request))
    except VidqueueError as error:
        return forms.answer(request, form, Notice("failed", f"{error.message} {error.hint}"))
    return forms.answer(request, form, Notice("done", done))
