"""Rows of the audit log: who changed what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from vidqueue.db.pool import Connection, execute, rows
from vidqueue.principal import Principal

LAST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """A change that was accepted, and who asked for it."""

    number: int
    at: datetime
    owner: str
    role: str
    key_prefix: str | None
    key_name: str | None
    act: str
    target: str | None
    detail: dict[str, Any]


async def add(connection: Connection, who: Principal, *, act: str, target: str | None, detail: dict[str, Any]) -> None:
    """Record a change."""
    values = {"owner": who.owner, "role": who.role.value, "key_id": who.key_id, "act": act, "target": target}
    await execute(connection, "audit", "add", **values, detail=Jsonb(detail))


async def page(connection: Connection, *, before: int, limit: int) -> list[AuditRow]:
    """Return a page of changes, newest first."""
    return [AuditRow(**one) for one in await rows(connection, "audit", "page", number=before, limit=limit)]
