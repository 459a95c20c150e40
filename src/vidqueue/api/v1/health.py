"""Probes for whoever supervises the daemon: is the process alive, can it take and run jobs."""

from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import services_of
from vidqueue.api.http.endpoint import json_answer
from vidqueue.db import migrate
from vidqueue.db.pool import row
from vidqueue.db.tables import lanes
from vidqueue.errors import VidqueueError
from vidqueue.services import Services

PATIENCE_S = 5.0


class Alive(BaseModel):
    """The process is well."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """Jobs are taken and run."""

    status: Literal["ready"] = "ready"
    lanes_online: int = Field(description="On all hosts.")


async def healthz(request: Request) -> Response:
    """Tell that the process is well: it answers, and all that it lives by goes round. The database is not asked."""
    _require_pulse(services_of(request))
    return json_answer(Alive())


async def readyz(request: Request) -> Response:
    """Tell whether jobs are taken and run: the database answers, its schema is ours, a lane is online."""
    services = services_of(request)
    _require_pulse(services)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await _require_database(services)
            await _require_schema(services)
            return json_answer(Ready(lanes_online=await _require_lane(services)))
    except TimeoutError:
        raise _not_ready("database", f"The database did not answer within {PATIENCE_S:g} s.") from None


def _require_pulse(services: Services) -> None:
    if stuck := services.watchdog.stuck():
        raise _not_ready("watchdog", f"Stuck in the daemon: {', '.join(stuck)}. Restart it.")


async def _require_database(services: Services) -> None:
    try:
        async with services.database.transaction() as connection:
            await row(connection, "system", "ping")
    except VidqueueError as error:
        raise _not_ready("database", error.message) from error


async def _require_schema(services: Services) -> None:
    try:
        missing = await migrate.pending(services.database.url)
    except migrate.MigrationError as error:
        raise _not_ready("migrations", str(error)) from error
    if missing:
        raise _not_ready("migrations", f"The database lacks {', '.join(missing)}.")


async def _require_lane(services: Services) -> int:
    async with services.database.transaction() as connection:
        online = await lanes.page(connection)
    if not online:
        raise _not_ready("lanes", "No lane is online, so jobs wait.")
    return len(online)


def _not_ready(check: str, detail: str) -> VidqueueError:
    return VidqueueError("not_ready", f"Not ready: {detail}", errors=[{"pointer": check, "detail": detail}])
