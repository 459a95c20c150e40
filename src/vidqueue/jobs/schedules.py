"""Schedules: jobs at the times of a cron expression in a time zone. People make them, or the configuration has them.

`scheduler` submits the jobs when their time has come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Self
from uuid import UUID

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import schedules
from vidqueue.db.tables.schedules import NewSchedule, RunRow, ScheduleRow
from vidqueue.errors import VidqueueError
from vidqueue.jobs.submit import JobRequest
from vidqueue.ops import cron
from vidqueue.processors import registry
from vidqueue.processors.media import file_of, json_pointer, output_of
from vidqueue.settings.entries import CONFIGURED_OWNER, NAME, CronExpression, ScheduleSettings, TimeZone

MOST = 1000
RUNS_SHOWN = 1000

log = structlog.get_logger(__name__)


class ScheduleRequest(BaseModel):
    """What is submitted when."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME, description="A name of your choice.")
    cron: CronExpression = Field(
        description="Minute, hour, day, month and weekday, such as `0 3 * * 1-5`; or @hourly, @daily, @weekly, "
        "@monthly.",
    )
    timezone: TimeZone = Field("UTC", description="The zone of the times, such as Europe/Berlin.")
    job: JobRequest = Field(description="The job, as POST /v1/jobs takes it, without `run_at` and `expires_at`.")
    missed: Literal["skip", "once", "all"] = Field(
        "once", description="Times at which no daemon ran: skip them, submit one job for all, or one for each."
    )
    one_at_a_time: bool = Field(False, description="Leave a time out while a job of an earlier one has not ended.")
    paused: bool = Field(False, description="Submit nothing until it is resumed.")

    @model_validator(mode="after")
    def _without_times(self) -> Self:
        if self.job.run_at is not None or self.job.expires_at is not None:
            raise ValueError("the job of a schedule has no run_at and no expires_at; its times are those of cron")
        return self


async def add(database: Database, request: ScheduleRequest, *, owner: str, now: datetime) -> ScheduleRow:
    """Make a schedule; its first time is the next one after now.

    Raises:
        VidqueueError: `unknown_processor`, `invalid_params`; `conflict` if the name is taken, or there are too many.
    """
    async with database.statement() as connection:
        added = await schedules.add(connection, _new(request, owner, _next(request, now)))
    if added is None:
        reason = f"There is a schedule {request.name!r} already, or there are {MOST} of them."
        raise VidqueueError("conflict", reason, hint="Change or delete one.")
    return added


async def declare(
    database: Database, configured: Sequence[ScheduleSettings], node: UUID, now: datetime | None = None
) -> None:
    """Write the schedules of a configuration, and delete those that it had before and has no more.

    Raises:
        VidqueueError: `invalid_request`, `unknown_processor` or `invalid_params`, with the name of the schedule.
    """
    now = now or system_clock()
    requests = [request for one in configured if (request := from_settings(one))]
    async with database.transaction() as connection:
        # In order, so that two daemons with the same schedules do not wait for each other.
        for request in sorted(requests, key=lambda request: request.name):
            await schedules.declare(connection, _new(request, CONFIGURED_OWNER, _next(request, now)), node)
        gone = await schedules.undeclare(connection, node, keep=[one.name for one in configured])
    if gone:
        log.info("schedules_removed", names=gone, reason="the configuration does not have them any more")


def from_settings(one: ScheduleSettings) -> ScheduleRequest | None:
    """Return the request of a configured schedule; None if its processor may be one that could not be imported.

    Raises:
        VidqueueError: `invalid_request`, `unknown_processor` or `invalid_params`, with the name of the schedule.
    """
    try:
        request = ScheduleRequest.model_validate(one.model_dump())
        _check(request)
    except ValidationError as error:
        raise VidqueueError("invalid_request", f"schedules: {one.name}: {_fault(error)}") from None
    except VidqueueError as error:
        if error.code == "unknown_processor" and registry.unloaded():
            log.error("schedule_not_declared", name=one.name, error=error.message)
            return None
        raise VidqueueError(error.code, f"schedules: {one.name}: {error.message}", errors=error.errors) from None
    return request


async def change(
    database: Database, schedule_id: UUID, changes: dict[str, Any], *, owner: str, now: datetime
) -> ScheduleRow:
    """Change a schedule. Its next time is counted from now if its times change or it is resumed, and stays otherwise.

    Raises:
        VidqueueError: `not_found`, `invalid_request`, `unknown_processor`, `invalid_params`; `conflict` if the
            configuration has it and more than its pause is to change.
    """
    async with database.transaction() as connection:
        known = await _locked(connection, schedule_id, owner)
        if known.declared_by is not None and set(changes) - {"paused"}:
            raise _declared(known)
        before = {name: getattr(known, name) for name in ScheduleRequest.model_fields}
        try:
            request = ScheduleRequest.model_validate(before | changes)
        except ValidationError as error:
            raise VidqueueError("invalid_request", _fault(error)) from None
        same = (request.cron, request.timezone, request.paused) == (known.cron, known.timezone, known.paused)
        next_at = known.next_at if same else _next(request, now)
        changed = await schedules.change(connection, schedule_id, _new(request, owner, next_at))
    assert changed is not None
    return changed


async def of_owner(database: Database, *, owner: str) -> list[ScheduleRow]:
    """Return the schedules of an owner."""
    async with database.statement() as connection:
        return await schedules.of_owner(connection, owner)


async def read(database: Database, schedule_id: UUID, *, owner: str) -> ScheduleRow:
    """Return one schedule.

    Raises:
        VidqueueError: `not_found`.
    """
    async with database.statement() as connection:
        found = await schedules.get(connection, schedule_id, owner=owner)
    if found is None:
        raise _none(schedule_id)
    return found


async def remove(database: Database, schedule_id: UUID, *, owner: str) -> None:
    """Delete a schedule with its history; its jobs stay.

    Raises:
        VidqueueError: `not_found`; `conflict` if the configuration has it.
    """
    async with database.transaction() as connection:
        known = await _locked(connection, schedule_id, owner)
        if known.declared_by is not None:
            raise _declared(known)
        await schedules.remove(connection, schedule_id, owner=owner)


async def runs(database: Database, schedule_id: UUID, *, owner: str) -> list[RunRow]:
    """Return the history of a schedule, newest first.

    Raises:
        VidqueueError: `not_found`.
    """
    await read(database, schedule_id, owner=owner)
    async with database.statement() as connection:
        return await schedules.runs(connection, schedule_id, limit=RUNS_SHOWN)


def system_clock() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


async def _locked(connection: Connection, schedule_id: UUID, owner: str) -> ScheduleRow:
    known = await schedules.lock(connection, schedule_id)
    if known is None or known.owner != owner:
        raise _none(schedule_id)
    return known


def _new(request: ScheduleRequest, owner: str, next_at: datetime) -> NewSchedule:
    _check(request)
    job = request.job.model_dump(mode="json", exclude_unset=True)
    texts = list(_texts(job["input"])) if "input" in job else []
    return NewSchedule(
        **request.model_dump(exclude={"job"}),
        owner=owner,
        job=job,
        files=[file_id for text in texts if (file_id := file_of(text))],
        jobs=[output[0] for text in texts if (output := output_of(text))],
        next_at=next_at,
    )


def _check(request: ScheduleRequest) -> None:
    registry.parse(registry.find(request.job.processor), request.job.input)


def _next(request: ScheduleRequest, now: datetime) -> datetime:
    return cron.next_after(request.cron, request.timezone, now)


def _texts(value: Any) -> Iterator[str]:
    """Every string in a JSON value; the JSON parser bounds its depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    return f"{json_pointer(fault['loc'])}: {fault['msg']}"


def _none(schedule_id: UUID) -> VidqueueError:
    return VidqueueError("not_found", f"There is no schedule {schedule_id}.")


def _declared(known: ScheduleRow) -> VidqueueError:
    message = f"The schedule {known.name!r} is in the configuration of a daemon."
    return VidqueueError("conflict", message, hint="Change it there and restart that daemon; a pause is possible here.")
