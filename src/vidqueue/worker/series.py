"""Runs a series of attempts on a lane: from one that was dispatched to it on, until no job fits the lane.

The daemon that dispatches to a lane also runs it, so a series begins as soon as its dispatch is committed. The
delivery, which comes through procrastinate, then only waits for the end of the series. Where the answer to the COMMIT
was lost, the delivery is all that the daemon hears of the dispatch, and begins the series.
"""

from __future__ import annotations

import asyncio

import structlog

from vidqueue.db.tables import attempts
from vidqueue.db.tables.attempts import Begun
from vidqueue.errors import DATABASE_BUSY, VidqueueError
from vidqueue.job import AttemptRef
from vidqueue.services import Services
from vidqueue.storage.workspaces import Workspaces
from vidqueue.worker.attempt import run
from vidqueue.worker.lane import Lane

RETRY_S = 0.5

log = structlog.get_logger(__name__)


class Series:
    """The series of one lane, one at a time."""

    def __init__(self, lane: Lane, services: Services) -> None:
        self._lane = lane
        self._services = services
        # Those whose delivery has not come yet, by their first attempt.
        self._begun: dict[AttemptRef, asyncio.Task[None]] = {}

    def begin(self, first: Begun) -> None:
        """Begin with an attempt that was dispatched just now, unless the lane has to stop its executor first."""
        if not self._lane.turn.locked():
            name = f"{self._lane.name}-series"
            self._begun[first.ref] = asyncio.create_task(self._run(first), name=name)

    async def take(self, delivered: AttemptRef) -> None:
        """Wait for the end of the series of a delivered attempt, which begins now if it has not yet."""
        begun = self._begun.pop(delivered, None)
        await (begun or self._run(delivered))

    async def close(self) -> None:
        """Wait for series whose delivery has never come."""
        await asyncio.gather(*self._begun.values(), return_exceptions=True)

    async def _run(self, first: Begun | AttemptRef) -> None:
        lane, services = self._lane, self._services
        try:
            async with lane.turn, Workspaces(services.storage) as workspaces:
                begun = first if isinstance(first, Begun) else await self._begin(first)
                while begun is not None:
                    begun = await run(begun, lane, services, workspaces)
        finally:
            lane.rest()

    async def _begin(self, ref: AttemptRef) -> Begun | None:
        """Begin an attempt; retry while the database is away. None if it was given to another lane meanwhile."""
        database, lease_s = self._services.database, self._services.settings.running.lease_s
        while True:
            try:
                async with database.statement() as connection:
                    begun = await attempts.begin(connection, ref, lease_s=lease_s)
            except VidqueueError as error:
                if error.code not in DATABASE_BUSY or database.abandoned:
                    raise
                await asyncio.sleep(RETRY_S)
                continue
            if begun is None:
                log.info("attempt_was_given_away", job_id=str(ref.job_id), attempt=ref.attempt, lane=self._lane.name)
            return begun
