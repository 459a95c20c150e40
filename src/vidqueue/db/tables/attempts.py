"""Attempts: opened by dispatch, kept by leases, ended once. Every late write carries the fence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from vidqueue.db.pool import Connection, execute, row, rows
from vidqueue.job import (
    AttemptRef,
    Backoff,
    Canceled,
    Failed,
    Failure,
    Interrupted,
    Outcome,
    State,
    Succeeded,
    Tries,
    Verdict,
)
from vidqueue.progress import LogLine, Progress
from vidqueue.sanitize import sanitize_text


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt taken in hand: what to do and within which bounds (seconds)."""

    id: UUID
    processor: str
    input: dict[str, Any]
    owner: str
    device: str
    timeout_s: float
    stall_timeout_s: float
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class Held:
    """A running job locked for its end."""

    tries: Tries
    processor: str
    owner: str
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One try of a job, for people. `metrics` are the executor's timings in seconds."""

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


@dataclass(frozen=True, slots=True)
class LogRow:
    """One line of an attempt's log."""

    attempt: int
    number: int
    at: datetime
    level: str
    text: str


async def dispatch(connection: Connection, lane_id: UUID, *, lease_s: float) -> tuple[AttemptRef, str] | None:
    """Give the best waiting job to a free lane; its ticket and the lane's queue, or None."""
    found = await row(connection, "attempts", "dispatch", lane_id=lane_id, lease_s=lease_s)
    return (AttemptRef(found["job_id"], found["attempt"], found["fence"]), found["queue"]) if found else None


async def begin(connection: Connection, ref: AttemptRef, *, lease_s: float) -> Begun | None:
    """Take the attempt in hand; None if it was given away meanwhile."""
    found = await row(connection, "attempts", "begin", **_ids(ref), lease_s=lease_s)
    return Begun(**found) if found else None


async def renew(connection: Connection, ref: AttemptRef, *, lease_s: float) -> bool | None:
    """Renew the lease. Whether someone asked to cancel, or None if the attempt is not ours any more."""
    found = await row(connection, "attempts", "renew", job_id=ref.job_id, fence=ref.fence, lease_s=lease_s)
    return found["cancel_requested"] if found else None


async def note_progress(connection: Connection, ref: AttemptRef, progress: Progress) -> None:
    """Write the row and its event; nothing happens for a fence that is not ours. Does not wait for the disk."""
    await connection.execute("SET LOCAL synchronous_commit = off")
    await row(
        connection,
        "attempts",
        "progress",
        job_id=ref.job_id,
        fence=ref.fence,
        fraction=min(1.0, max(0.0, progress.fraction)),
        stage=progress.stage or None,
        message=progress.message or None,
        fps=progress.fps,
        speed=progress.speed,
        eta_s=progress.eta_s,
    )


async def hold(connection: Connection, ref: AttemptRef) -> Held | None:
    """Lock the job for its end; None if the fence is not ours any more."""
    found = await row(connection, "attempts", "hold", **_ids(ref))
    if found is None:
        return None
    backoff = Backoff(found["backoff_base_s"], found["backoff_cap_s"])
    tries = Tries(found["failures"], found["crashes"], found["max_attempts"], found["losses"], backoff)
    return Held(tries, found["processor"], found["owner"], found["cancel_requested"])


async def end(connection: Connection, ref: AttemptRef, outcome: Outcome) -> None:
    """Close the attempt with its outcome."""
    failure: Failure | None = None
    reason: str | None = None
    metrics: dict[str, Any] = {}
    match outcome:
        case Succeeded(metrics=figures):
            name, metrics = "succeeded", figures
        case Failed(failure=failure):
            name = "failed"
        case Canceled():
            name = "canceled"
        case Interrupted(reason=reason):
            name = "interrupted"
    await execute(
        connection,
        "attempts",
        "end",
        **_ids(ref),
        outcome=name,
        reason=sanitize_text(reason) if reason else None,
        **_error(failure),
        error_detail=sanitize_text(failure.detail[:8000]) if failure else None,
        metrics=Jsonb(metrics),
    )


async def settle(connection: Connection, ref: AttemptRef, verdict: Verdict, *, message: str | None) -> None:
    """Move the job to where its verdict sends it."""
    failure = verdict.failure if verdict.state is State.FAILED else None
    await execute(
        connection,
        "attempts",
        "settle",
        job_id=ref.job_id,
        fence=ref.fence,
        state=verdict.state.value,
        burned=int(verdict.burned),
        crashed=int(verdict.crashed),
        lost=verdict.lost,
        delay_s=verdict.delay_s,
        message=sanitize_text(message) if message else None,
        **_error(failure),
    )


async def of_job(connection: Connection, job_id: UUID, *, owner: str | None) -> list[AttemptRow]:
    """Every attempt of a job, first to last."""
    return [AttemptRow(**found) for found in await rows(connection, "attempts", "of_job", job_id=job_id, owner=owner)]


async def open_of_node(connection: Connection, node: UUID) -> list[AttemptRef]:
    """Attempts that the last daemon on this data folder left open."""
    return [AttemptRef(**found) for found in await rows(connection, "attempts", "open_of_node", node=node)]


async def expired(connection: Connection, *, lease_s: float) -> list[AttemptRef]:
    """Open attempts whose lease has run out, on any host."""
    return [AttemptRef(**found) for found in await rows(connection, "attempts", "expired", lease_s=lease_s)]


async def open_on_machine(connection: Connection, machine: str, *, but_of: UUID) -> list[tuple[AttemptRef, str]]:
    """Open attempts of other data folders whose daemon runs, or ran, on this machine; each with its daemon's name."""
    found = await rows(connection, "attempts", "open_on_machine", machine=machine, node=but_of)
    return [(AttemptRef(one["job_id"], one["attempt"], one["fence"]), one["process"]) for one in found]


async def append_log(connection: Connection, ref: AttemptRef, lines: Sequence[LogLine]) -> None:
    """Add lines to the attempt's log."""
    levels, texts = [line.level for line in lines], [sanitize_text(line.text) for line in lines]
    await execute(
        connection, "attempts", "append_log", job_id=ref.job_id, attempt=ref.attempt, levels=levels, texts=texts
    )


async def read_log(connection: Connection, job_id: UUID, attempt: int, *, after: int, limit: int) -> list[LogRow]:
    """Lines of an attempt's log with a number above `after`."""
    found = await rows(connection, "attempts", "read_log", job_id=job_id, attempt=attempt, after=after, limit=limit)
    return [LogRow(**one) for one in found]


def _ids(ref: AttemptRef) -> dict[str, Any]:
    return {"job_id": ref.job_id, "attempt": ref.attempt, "fence": ref.fence}


def _error(failure: Failure | None) -> dict[str, str | None]:
    if failure is None:
        return {"error_code": None, "error_message": None, "error_hint": None}
    message, hint = sanitize_text(failure.message[:2000]), sanitize_text(failure.hint[:1000])
    return {"error_code": failure.code, "error_message": message, "error_hint": hint}
