"""Has servers stop work whose job has ended without it, such as that of a job that was canceled after a crash.

Processors keep the ids of work that they have begun on a server from attempt to attempt (`kept_ids`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from vidqueue.db.event_feed import EventFeed
from vidqueue.db.pool import Database
from vidqueue.db.tables import jobs
from vidqueue.errors import VidqueueError
from vidqueue.job import FINAL
from vidqueue.ops.own_thread import begin
from vidqueue.processors import registry
from vidqueue.processors.remote.kept_ids import KeptId, kept_in

# How often a server that could not be told is told again, and for how long.
LOOK_EVERY_S = 60.0
GIVEN_UP_S = 3 * 86_400.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LeftWork:
    """Looks through what is kept on this machine whenever a job ends without a result."""

    database: Database
    event_feed: EventFeed
    folder: Path

    async def run(self) -> None:
        """Look until cancelled."""
        with self.event_feed.wakes_on(frozenset({"canceled", "failed"})) as wake:
            while True:
                wake.clear()
                try:
                    await self.look()
                except VidqueueError as error:
                    log.warning("left_work_waits_for_database", error=error.message)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await wake.wait()

    async def look(self) -> None:
        """Stop the work of jobs that have ended, or that are not there any more."""
        for kept in await begin(self._kept, "left-work"):
            if kept.job is None:
                continue
            async with self.database.statement() as connection:
                state = await jobs.state(connection, kept.job)
            if (state is None or state in FINAL) and await begin(partial(_end, kept), "left-work"):
                log.info("left_work_ended", job_id=str(kept.job), server=kept.server, work=kept.remote)

    def _kept(self) -> list[KeptId]:
        """Work that may go on."""
        kept = kept_in(self.folder, since=time.time() - GIVEN_UP_S)
        return [one for one in kept if one.remote and not one.over]


def _end(kept: KeptId) -> bool:
    processor = registry.catalogue().get(kept.kind)
    if processor is not None and not processor.end_left(kept):
        return False
    kept.ended()
    return True
