"""Scheduler: submits the jobs of schedules when they are due, each time once, however many daemons run or restart.

A job, the note that it was submitted, and the schedule's next time are one transaction, which locks the schedule.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from pydantic import ValidationError

from vidqueue.db.pool import Database
from vidqueue.db.tables import new_jobs, schedules
from vidqueue.db.tables.jobs import NewJob
from vidqueue.db.tables.schedules import NewRun, ScheduleRow
from vidqueue.errors import DATABASE_BUSY, VidqueueError
from vidqueue.jobs.inputs import Inputs
from vidqueue.jobs.schedules import system_clock
from vidqueue.jobs.submit import JobRequest, checked
from vidqueue.ops import cron, failpoints
from vidqueue.ops.supervise import supervise
from vidqueue.ops.watchdog import Heartbeat, Watchdog

# A time is missed if no daemon has looked for this long.
MISSED_AFTER = timedelta(seconds=60)
# How long to sleep at most: a schedule may be added meanwhile.
TICK_S = 5.0
LEAST_S = 0.2
# How many missed times of a schedule get a job each; a schedule for every minute misses 10,080 in a week.
MOST_CAUGHT_UP = 100
ERROR_KEPT = 2000

Clock = Callable[[], datetime]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Turn:
    """What is to be written of a due time: a job or an outcome without one, and the time that follows."""

    run: NewRun
    job: NewJob | None
    next_at: datetime
    pause: bool = False


class Scheduler:
    """Runs the schedules of a database; any number of daemons may do so."""

    def __init__(self, database: Database, inputs: Inputs, heartbeat: Heartbeat, now: Clock = system_clock) -> None:
        self._database = database
        self._inputs = inputs
        self._heartbeat = heartbeat
        self._now = now

    async def run(self) -> None:
        """Submit due jobs until cancelled. While the database is unavailable, wait."""
        while True:
            self._heartbeat()
            wait_s = TICK_S
            try:
                upcoming = await self.run_due()
                if upcoming is not None:
                    wait_s = (upcoming - self._now()).total_seconds()
            except VidqueueError as error:
                log.warning("schedules_wait_for_database", error=error.message)
            await asyncio.sleep(min(max(wait_s, LEAST_S), TICK_S))

    async def run_due(self) -> datetime | None:
        """Run every schedule whose time has come, and return the next time of any."""
        async with self._database.statement() as connection:
            found = await schedules.due(connection, self._now())
        for schedule in found:
            self._heartbeat()
            await self._run_one(schedule)
        async with self._database.statement() as connection:
            return await schedules.next_time(connection)

    async def _run_one(self, schedule: ScheduleRow) -> None:
        turn = await self._turn(schedule)
        try:
            await self._write(schedule, turn)
        except VidqueueError as refusal:
            if refusal.code in DATABASE_BUSY:
                raise
            # The queue has refused the job: another one that it depends on is gone, or has failed.
            await self._write(schedule, _Turn(_refused(refusal), None, turn.next_at))

    async def _turn(self, schedule: ScheduleRow) -> _Turn:
        now, due_at = self._now(), schedule.next_at
        late = now - due_at > MISSED_AFTER
        try:
            if late and schedule.missed == "all":
                kept = cron.among_last(schedule.cron, schedule.timezone, now, MOST_CAUGHT_UP, since=due_at)
                if kept > due_at:
                    return _Turn(NewRun(outcome="missed", error=_left_out(due_at, kept)), None, kept)
            after = now if late and schedule.missed != "all" else due_at
            following = cron.next_after(schedule.cron, schedule.timezone, after)
        except ValueError as error:
            # Somebody has written the row by hand, or the system has lost the time zone.
            return _Turn(NewRun(outcome="refused", error=str(error)[:ERROR_KEPT]), None, due_at, pause=True)
        if late and schedule.missed == "skip":
            return _Turn(NewRun(outcome="missed"), None, following)
        try:
            return _Turn(NewRun(outcome="submitted"), await self._checked(schedule), following)
        except VidqueueError as refusal:
            if refusal.code in DATABASE_BUSY:
                raise
            return _Turn(_refused(refusal), None, following)

    async def _checked(self, schedule: ScheduleRow) -> NewJob:
        try:
            request = JobRequest.model_validate(schedule.job)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]["msg"]
            raise VidqueueError("invalid_request", f"The job is not valid any more: {fault}") from None
        return await checked(request, inputs=self._inputs, owner=schedule.owner)

    async def _write(self, schedule: ScheduleRow, turn: _Turn) -> None:
        run = turn.run
        async with self._database.transaction() as connection:
            # Another daemon was first, or somebody has changed the schedule: the next round sees what is due then.
            if await schedules.lock(connection, schedule.id) != schedule:
                return
            overlaps = schedule.one_at_a_time and await schedules.is_unfinished(connection, schedule.id)
            if turn.job is not None and overlaps:
                run = NewRun(outcome="overlapped")
            elif turn.job is not None:
                job_id, _ = await new_jobs.enqueue(connection, turn.job)
                run = NewRun(outcome="submitted", job_id=job_id)
            await schedules.ran(connection, schedule, run, next_at=turn.next_at, paused=turn.pause)
            await failpoints.reach("submit.before_commit")
        await failpoints.reach("submit.committed")
        told = {"schedule": schedule.name, "due_at": schedule.next_at.isoformat(), "outcome": run.outcome}
        log.info("schedule_ran", **told, job_id=str(run.job_id) if run.job_id else None, error=run.error)


def _left_out(due_at: datetime, kept: datetime) -> str:
    times = f"from {due_at.isoformat()} until before {kept.isoformat()}"
    return f"The times {times} are left out: at most the last {MOST_CAUGHT_UP} missed times get a job each."


def _refused(refusal: VidqueueError) -> NewRun:
    return NewRun(outcome="refused", error=f"{refusal.code}: {refusal.message}"[:ERROR_KEPT])


@contextmanager
def scheduling(database: Database, inputs: Inputs, watchdog: Watchdog) -> Iterator[None]:
    """Run the schedules of a database for the block."""
    task = supervise(Scheduler(database, inputs, watchdog.register("schedules")).run, "schedules")
    try:
        yield
    finally:
        task.cancel()
