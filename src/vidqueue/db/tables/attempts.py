"""Rows of attempts: opened by dispatch, kept by leases, ended once. Every late write carries the fence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from vidqueue.db.pool import Connection, is_of_one_statement, row, rows
from vidqueue.job import AttemptRef, Backoff, RetryState, State
from vidqueue.progress import LogLine, Progress
from vidqueue.sanitize import sanitize_text


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt that its lane takes in hand: what to do and within which bounds (seconds)."""

    ref: AttemptRef
    processor: str
    input: dict[str, Any]
    owner: str
    device: str
    timeout_s: float
    stall_timeout_s: float
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Requests for a running attempt: to be canceled, or to be suspended."""

    cancel: bool
    suspended: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ends (`facts`: see vidqueue.finish), and the lane that gets its next one, if one does."""

    ref: AttemptRef
    facts: dict[str, Any]
    lane: UUID | None = None
    lease_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    """The state that the job came to (None: the fence was outdated), and the lane's next attempt."""

    state: State | None
    next: Begun | None


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One try of a job, for people. `metrics` are timings in seconds, `device_mb` its GPU memory in MiB."""

    number: int
    lane: str
    host: str
    outcome: str | None
    reason: str | None
    error_code: str | None
    error_message: str | None
    error_hint: str | None
    error_detail: str | None
    dispatched_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    metrics: dict[str, Any]
    device_mb: int | None


@dataclass(frozen=True, slots=True)
class LogRow:
    """One line of an attempt's log."""

    attempt: int
    number: int
    at: datetime
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Dispatched:
    """The attempts that lanes were given, with their queues; and whether one of the lanes takes jobs at all now."""

    given: list[tuple[Begun, str]]
    is_open: bool


async def dispatch(connection: Connection, lanes: Sequence[UUID], *, lease_s: float) -> Dispatched:
    """Give each of these lanes that is free its next job, and deliver it."""
    found = await rows(connection, "attempts", "dispatch", lanes=list(lanes), lease_s=lease_s)
    given = [(_begun(one), one["queue"]) for one in found if one["job_id"] is not None]
    return Dispatched(given, is_open=any(one["is_open"] for one in found))


async def begin(connection: Connection, ref: AttemptRef, *, lease_s: float) -> Begun | None:
    """Begin the attempt; None if it was given to another lane meanwhile."""
    found = await row(connection, "attempts", "begin", **_ids(ref), lease_s=lease_s)
    return _begun(found) if found else None


async def resume(connection: Connection, lane: UUID, *, lease_s: float) -> Begun | None:
    """Begin the attempt that is open on a lane, if there is one."""
    found = await row(connection, "attempts", "resume", lane=lane, lease_s=lease_s)
    return _begun(found) if found else None


async def renew(connection: Connection, refs: Sequence[AttemptRef], *, lease_s: float) -> dict[int, Wanted]:
    """Renew leases, and return the requests for each attempt by fence; outdated fences are missing."""
    job_ids, fences = [ref.job_id for ref in refs], [ref.fence for ref in refs]
    found = await rows(connection, "attempts", "renew", job_ids=job_ids, fences=fences, lease_s=lease_s)
    return {one["fence"]: Wanted(one["cancel_requested"], one["suspended"]) for one in found}


async def report(
    connection: Connection,
    ref: AttemptRef,
    *,
    lines: Sequence[LogLine] = (),
    progress: Progress | None = None,
    written: int = 0,
    in_doubt: bool = False,
) -> None:
    """Add lines to the attempt's log, and write its progress with its event. Does not wait for the disk.

    The job's row stays as it is if the fence is not ours any more. `in_doubt` says that an earlier call may have
    written the first of these lines, behind the `written` lines that are certainly there; they are not written twice.
    """
    seen = progress or Progress(0.0)
    await row(
        connection,
        "attempts",
        "report",
        **_ids(ref),
        levels=[line.level for line in lines],
        texts=[sanitize_text(line.text) for line in lines],
        written=written,
        in_doubt=in_doubt,
        fraction=None if progress is None else min(1.0, max(0.0, progress.fraction)),
        stage=sanitize_text(seen.stage) or None,
        message=sanitize_text(seen.message) or None,
        fps=seen.fps,
        speed=seen.speed,
        eta_s=seen.eta_s,
    )


async def move(connection: Connection, ref: AttemptRef) -> bool:
    """Reserve the job for a data folder that has not tried it yet; False if no such folder is online."""
    return await row(connection, "attempts", "move", job_id=ref.job_id, fence=ref.fence) is not None


async def lock(connection: Connection, ref: AttemptRef) -> RetryState | None:
    """Lock the job for its end, and return what it has used up; None if the fence is outdated."""
    found = await row(connection, "attempts", "lock", **_ids(ref))
    if found is None:
        return None
    backoff = Backoff(found["backoff_base_s"], found["backoff_cap_s"])
    used_up = (found["failures"], found["crashes"], found["max_attempts"], found["losses"])
    return RetryState(*used_up, backoff=backoff, waited_s=found["waited_s"])


async def finish(connection: Connection, ending: Ending) -> Ended:
    """End an attempt, and open the next one of its lane, if that is given."""
    values = {"ending": Jsonb(ending.facts), "lane": ending.lane, "lease_s": ending.lease_s}
    found = await row(connection, "attempts", "finish", **_ids(ending.ref), **values)
    assert found is not None
    return _ended(found)


async def finish_together(connection: Connection, endings: Sequence[Ending]) -> list[Ended | None]:
    """End these attempts in one transaction. None, and nothing was written, for each that must be ended alone."""
    # One value, because psycopg writes an array of JSON with a regular expression for each quote.
    listed = [
        {
            "job_id": str(one.ref.job_id),
            "attempt": one.ref.attempt,
            "fence": one.ref.fence,
            "ending": one.facts,
            "lane": str(one.lane) if one.lane else None,
        }
        for one in endings
    ]
    values = {"endings": Jsonb(listed), "lease_s": max(one.lease_s for one in endings)}
    ended: list[Ended | None] = [None] * len(endings)
    try:
        found = await rows(connection, "attempts", "finish_together", **values)
    except psycopg.DatabaseError as error:
        if not is_of_one_statement(error):
            raise
        return ended  # one of them is refused, and alone each learns whether it is
    for one in found:
        place = one.pop("place")
        ended[place - 1] = _ended(one)
    return ended


async def of_job(connection: Connection, job_id: UUID, *, owner: str | None) -> list[AttemptRow]:
    """Return every attempt of a job, first to last."""
    return [AttemptRow(**found) for found in await rows(connection, "attempts", "of_job", job_id=job_id, owner=owner)]


async def open_of_node(connection: Connection, node: UUID) -> list[AttemptRef]:
    """Return the attempts that the last daemon on this data folder left open."""
    return [AttemptRef(**found) for found in await rows(connection, "attempts", "open_of_node", node=node)]


async def expired(connection: Connection, *, lease_s: float) -> list[AttemptRef]:
    """Return open attempts whose lease has expired, on any host."""
    return [AttemptRef(**found) for found in await rows(connection, "attempts", "expired", lease_s=lease_s)]


async def open_on_machine(connection: Connection, machine: str, *, but_of: UUID) -> list[tuple[AttemptRef, str]]:
    """Return open attempts of other daemons that run, or ran, on this machine; each with its daemon's process name."""
    found = await rows(connection, "attempts", "open_on_machine", machine=machine, node=but_of)
    return [(AttemptRef(one["job_id"], one["attempt"], one["fence"]), one["process"]) for one in found]


async def read_log(connection: Connection, job_id: UUID, attempt: int, *, after: int, limit: int) -> list[LogRow]:
    """Return the lines of an attempt's log with a number above `after`."""
    found = await rows(connection, "attempts", "read_log", job_id=job_id, attempt=attempt, after=after, limit=limit)
    return [LogRow(**one) for one in found]


async def search_log(connection: Connection, job_id: UUID, attempt: int, text: str, *, limit: int) -> list[LogRow]:
    """Return the lines of an attempt that contain a text, in any case."""
    found = await rows(connection, "attempts", "search_log", job_id=job_id, attempt=attempt, text=text, limit=limit)
    return [LogRow(**one) for one in found]


async def read_log_end(connection: Connection, job_id: UUID, attempt: int, *, limit: int) -> list[LogRow]:
    """Return the last lines of an attempt's log, oldest first."""
    found = await rows(connection, "attempts", "read_log_end", job_id=job_id, attempt=attempt, limit=limit)
    return [LogRow(**one) for one in found]


def _ids(ref: AttemptRef) -> dict[str, Any]:
    return {"job_id": ref.job_id, "attempt": ref.attempt, "fence": ref.fence}


def _ref(found: dict[str, Any]) -> AttemptRef:
    return AttemptRef(found["job_id"], found["attempt"], found["fence"])


def _ended(found: dict[str, Any]) -> Ended:
    state = State(found.pop("state")) if found["state"] else None
    return Ended(state, _begun(found) if found["job_id"] else None)


def _begun(found: dict[str, Any]) -> Begun:
    ids = {"job_id", "attempt", "fence", "state", "queue", "delivered", "is_open"}
    return Begun(_ref(found), **{name: value for name, value in found.items() if name not in ids})
