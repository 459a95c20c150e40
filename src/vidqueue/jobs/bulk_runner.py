"""Runs bulk actions: counts the jobs that match, then changes them in short transactions, newest first.

A step and the note how far it got are one transaction, which locks the action: a daemon that dies in between has done
nothing, and any number of daemons may run the same actions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID

import structlog

from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import bulk_actions, jobs
from vidqueue.db.tables.bulk_actions import Work
from vidqueue.db.tables.jobs import JobFilter
from vidqueue.errors import DATABASE_BUSY, VidqueueError
from vidqueue.job import State
from vidqueue.jobs import removal
from vidqueue.jobs.bulk import VERBS, Done
from vidqueue.jobs.selection import Selection
from vidqueue.ops.supervise import supervise
from vidqueue.ops.watchdog import Heartbeat, Watchdog
from vidqueue.storage.local import Storage

# Jobs per transaction, and the pause between transactions: dispatch and finish need the database too.
STEP, PAUSE_S = 200, 0.02
# How many ids one query counts, and for how many seconds jobs are counted.
COUNTED, COUNTING_S = 5000, 5.0
# A search for a text looks at this many jobs in one query.
SEARCHED = 1000
TICK_S = 1.0
ERROR_KEPT = 2000

log = structlog.get_logger(__name__)


class BulkRunner:
    """Runs the bulk actions of a database."""

    def __init__(self, database: Database, storage: Storage, heartbeat: Heartbeat) -> None:
        self._database = database
        self._storage = storage
        self._heartbeat = heartbeat

    async def run(self) -> None:
        """Run bulk actions until cancelled; wait while the database is unavailable."""
        while True:
            self._heartbeat()
            wait_s = TICK_S
            try:
                if await self.run_due():
                    wait_s = PAUSE_S
            except VidqueueError as error:
                log.warning("bulk_actions_wait_for_database", error=error.message)
            await asyncio.sleep(wait_s)

    async def run_due(self) -> bool:
        """Count what is new, and do one step of every action that has begun; True if there may be more to do."""
        async with self._database.statement() as connection:
            found = await bulk_actions.unfinished(connection)
        for one in found:
            if one.uncounted:
                await self._count(one.id)
        goes_on = False
        for one in found:
            self._heartbeat()
            if one.begins_in_s <= 0:
                goes_on |= await self._step_or_fail(one.id)
        return goes_on

    async def _step_or_fail(self, action_id: UUID) -> bool:
        try:
            return await self.step(action_id)
        except VidqueueError as error:
            if error.code in DATABASE_BUSY:
                raise
            log.error("bulk_action_failed", action=str(action_id), error=error.message)
            async with self._database.statement() as connection:
                await bulk_actions.fail(connection, action_id, f"{error.code}: {error.message}"[:ERROR_KEPT])
            return False

    async def step(self, action_id: UUID) -> bool:
        """Change the next few hundred jobs; False if nothing is left or another daemon is at it."""
        async with self._database.transaction() as connection:
            work = await bulk_actions.lock(connection, action_id)
            if work is None:
                return False
            found, reached = await _next(connection, work, STEP)
            verb = VERBS[work.verb]
            states = [State(state) for state in work.states]
            locked = await bulk_actions.lock_jobs(connection, found, states, owner=work.scope)
            done = await verb.act(connection, work, locked) if locked else Done(0, {})
            looked = len(found) if done.whole else 0
            await bulk_actions.advance(
                connection,
                action_id,
                looked=looked,
                changed=done.changed,
                reached=reached if done.whole else None,
                ends=done.whole and reached is None,
            )
        await removal.remove_bytes(self._storage, [file_id for ids in done.files.values() for file_id in ids])
        return reached is not None or not done.whole

    async def _count(self, action_id: UUID) -> None:
        """Count the jobs that match, if that takes a few seconds at most."""
        async with self._database.statement() as connection:
            work = await bulk_actions.work_of(connection, action_id)
        ends_at, count = time.monotonic() + COUNTING_S, 0
        while work is not None and time.monotonic() < ends_at:
            self._heartbeat()
            async with self._database.statement() as connection:
                found, reached = await _next(connection, work, COUNTED)
            count += len(found)
            if reached is None:
                async with self._database.statement() as connection:
                    await bulk_actions.counted(connection, action_id, count)
                return
            work = replace(work, reached=reached)


async def _next(connection: Connection, work: Work, limit: int) -> tuple[list[UUID], UUID | None]:
    """Return the next jobs that match, and the last job that was looked at; None if there is none after it."""
    wanted = _filter(work, SEARCHED if work.selection.get("text") else limit)
    if wanted is None:
        return [], None
    found = await bulk_actions.ids(connection, wanted)
    if wanted.text is not None:
        # All of the jobs that it has looked at are in `found`, so a step of a search may change up to a thousand.
        return found, await jobs.search_end(connection, wanted)
    return found, found[-1] if len(found) == limit else None


def _filter(work: Work, limit: int) -> JobFilter | None:
    selection = Selection.model_validate(work.selection)
    return selection.within(work.scope, limit=limit, states=work.states, before=work.created_at, after=work.reached)


@contextmanager
def acting_in_bulk(database: Database, storage: Storage, watchdog: Watchdog) -> Iterator[None]:
    """Run the bulk actions of a database for the block."""
    task = supervise(BulkRunner(database, storage, watchdog.register("bulk_actions")).run, "bulk_actions")
    try:
        yield
    finally:
        task.cancel()
