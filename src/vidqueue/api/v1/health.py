"""Probes for whoever supervises the daemon: is the process alive, can it take and run jobs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import services_of
from vidqueue.api.http.endpoint import json_answer
from vidqueue.db import migrate
from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import lanes
from vidqueue.errors import VidqueueError
from vidqueue.services import Services

PATIENCE_S = 5.0
SHARED_S = 1.0
HANGING = "How many calls to a folder do not return, by folder; jobs with inputs there wait."


class Alive(BaseModel):
    """The process is well."""

    status: Literal["ok"] = "ok"
    hanging: dict[str, int] = Field(description=HANGING)


class Ready(BaseModel):
    """Jobs are taken and run."""

    status: Literal["ready"] = "ready"
    lanes_online: int = Field(description="On all hosts.")
    hanging: dict[str, int] = Field(default_factory=dict, description=HANGING)


@dataclass(frozen=True, slots=True)
class NotReady:
    """The check that failed, and how."""

    check: str
    detail: str


async def healthz(request: Request) -> Response:
    """Tell that the process is well: it answers, and all that it lives by goes round. The database is not asked."""
    _require_pulse(services_of(request))
    return json_answer(Alive(hanging=services_of(request).watchdog.hanging()))


async def readyz(request: Request) -> Response:
    """Tell whether jobs are taken and run: the database answers, its schema is ours, a lane is online, no drain."""
    _require_pulse(services_of(request))
    if services_of(request).stopping.is_set():
        raise _refusal(NotReady("draining", "The daemon is stopping; it takes no more jobs to its lanes."))
    readiness: Readiness = request.app.state.readiness
    found = await readiness.current()
    if isinstance(found, NotReady):
        raise _refusal(found)
    return json_answer(found.model_copy(update={"hanging": services_of(request).watchdog.hanging()}))


class Readiness:
    """The answer of `/readyz`, which all callers within SHARED_S share: many probes cost as much as one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._checking: asyncio.Task[Ready | NotReady] | None = None
        self._checked_at = float("-inf")

    async def current(self) -> Ready | NotReady:
        """Return the newest answer, which is at most SHARED_S old."""
        if self._checking is None or (self._checking.done() and time.monotonic() - self._checked_at >= SHARED_S):
            self._checking = asyncio.create_task(self._check(), name="readiness")
        # Shielded: a caller that goes away does not take the answer from the others.
        return await asyncio.shield(self._checking)

    def close(self) -> None:
        """Stop a check that is under way."""
        if self._checking is not None:
            self._checking.cancel()

    async def _check(self) -> Ready | NotReady:
        try:
            async with asyncio.timeout(PATIENCE_S), self._database.statement() as connection:
                return await _look(connection)
        except TimeoutError:
            return NotReady("database", f"The database did not answer within {PATIENCE_S:g} s.")
        except VidqueueError as error:
            return NotReady("database", error.message)
        finally:
            self._checked_at = time.monotonic()


async def _look(connection: Connection) -> Ready | NotReady:
    try:
        missing = await migrate.pending_on(connection)
    except migrate.MigrationError as error:
        return NotReady("migrations", str(error))
    if missing:
        return NotReady("migrations", f"The database lacks {', '.join(missing)}.")
    online = await lanes.page(connection)
    return Ready(lanes_online=len(online)) if online else NotReady("lanes", "No lane is online, so jobs wait.")


def _require_pulse(services: Services) -> None:
    if stuck := services.watchdog.stuck():
        raise _refusal(NotReady("watchdog", f"Stuck in the daemon: {', '.join(stuck)}. Restart it."))


def _refusal(found: NotReady) -> VidqueueError:
    errors = [{"pointer": found.check, "detail": found.detail}]
    return VidqueueError("not_ready", f"Not ready: {found.detail}", errors=errors)
