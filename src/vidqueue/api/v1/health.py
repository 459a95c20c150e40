"""Probes for whoever supervises the daemon: is the process alive, can it take and run jobs."""

from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.context import rooms_of
from vidqueue.api.http.endpoint import json_answer
from vidqueue.db import migrate
from vidqueue.db.pool import row
from vidqueue.db.tables import lanes
from vidqueue.errors import VidqueueError
from vidqueue.services import Rooms

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
    _require_pulse(rooms_of(request))
    return json_answer(Alive())


async def readyz(request: Request) -> Response:
    """Tell whether jobs are taken and run: the database answers, its schema is ours, a lane is online."""
    rooms = rooms_of(request)
    _require_pulse(rooms)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await _require_database(rooms)
            await _require_schema(rooms)
            return json_answer(Ready(lanes_online=await _require_lane(rooms)))
    except TimeoutError:
        raise _not_ready("database", f"The database did not answer within {PATIENCE_S:g} s.") from None


def _require_pulse(rooms: Rooms) -> None:
    if stuck := rooms.pulse.stuck():
        raise _not_ready("pulse", f"Stuck in the daemon: {', '.join(stuck)}. Restart it.")


async def _require_database(rooms: Rooms) -> None:
    try:
        async with rooms.database.transaction() as connection:
            await row(connection, "system", "ping")
    except VidqueueError as error:
        raise _not_ready("database", error.message) from error


async def _require_schema(rooms: Rooms) -> None:
    try:
        missing = await migrate.pending(rooms.database.url)
    except migrate.MigrationError as error:
        raise _not_ready("migrations", str(error)) from error
    if missing:
        raise _not_ready("migrations", f"The database lacks {', '.join(missing)}.")


async def _require_lane(rooms: Rooms) -> int:
    async with rooms.database.transaction() as connection:
        online = await lanes.page(connection)
    if not online:
        raise _not_ready("lanes", "No lane is online, so jobs wait.")
    return len(online)


def _not_ready(check: str, detail: str) -> VidqueueError:
    return VidqueueError("not_ready", f"Not ready: {detail}", errors=[{"pointer": check, "detail": detail}])
