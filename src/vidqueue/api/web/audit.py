"""The page of the audit: who did what."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import services_of
from vidqueue.api.v1 import audit
from vidqueue.api.v1.audit import AuditQuery
from vidqueue.api.web import render
from vidqueue.db.tables.audit import LAST


async def show(request: Request, query: AuditQuery) -> Response:
    """Show a page of the audit, newest first."""
    found, following = await audit.page(services_of(request).database, query)
    return render.page(
        request,
        "audit.html",
        entries=found,
        next=f"/audit?before={following}" if following else None,
        first="/audit" if query.before != LAST else None,
    )
