"""The audit log over HTTP: accepted changes, newest first."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import services_of
from vidqueue.api.http.endpoint import JSON, Answer, Endpoint, json_answer
from vidqueue.db.pool import Database
from vidqueue.db.tables import audit
from vidqueue.db.tables.audit import LAST, AuditRow
from vidqueue.principal import Role


class AuditQuery(BaseModel):
    """The query of a page of the audit log."""

    model_config = ConfigDict(extra="forbid")

    before: int = Field(LAST, ge=1, le=LAST, description="Only entries before this number; from `next`.")
    limit: int = Field(100, ge=1, le=500, description="Most entries.")


class AuditEntry(BaseModel):
    """An accepted change, with the owner and the key of the request."""

    number: int
    at: datetime
    owner: str
    role: str
    key_prefix: str | None = Field(description="The first characters of the key; null if none was needed.")
    key_name: str | None
    act: str = Field(description="The action, such as `cancel jobs`.")
    target: str | None = Field(description="The id or name of the changed object.")
    detail: dict[str, Any] = Field(description="Other fields of the request; never a secret.")


class AuditPage(BaseModel):
    """A page of the audit, newest first."""

    entries: list[AuditEntry]
    next: str | None


async def list_audit(request: Request, query: AuditQuery) -> Response:
    """List the audit log: every accepted change over HTTP, including the command line and the dashboard."""
    found, following = await page(services_of(request).database, query)
    shown = [AuditEntry(**{name: getattr(row, name) for name in AuditEntry.model_fields}) for row in found]
    address = f"/v1/audit?before={following}&limit={query.limit}" if following else None
    return json_answer(AuditPage(entries=shown, next=address))


async def page(database: Database, query: AuditQuery) -> tuple[list[AuditRow], int | None]:
    """Return a page, and the number before which the next one begins."""
    async with database.statement() as connection:
        found = await audit.page(connection, before=query.before, limit=query.limit + 1)
    shown = found[: query.limit]
    return shown, shown[-1].number if len(found) > len(shown) else None


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/audit",
        handler=list_audit,
        tag="machine",
        role=Role.OPERATE,
        answers={200: Answer("A page of the audit.", {JSON: AuditPage})},
    ),
)
