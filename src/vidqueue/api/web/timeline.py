"""The timeline of a job: what happened from its submission to its end, with the time that each part took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from vidqueue.db.tables.attempts import AttemptRow
from vidqueue.db.tables.jobs import JobRow
from vidqueue.job import FINAL

Kind = Literal["wait", "prepare", "run", "end"]
# A bar of a moment can still be seen.
LEAST = 0.4


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a job's life. `began` and `width` place its bar, in percent of the whole."""

    label: str
    kind: Kind
    at: datetime
    seconds: float
    attempt: int | None
    outcome: str | None
    open: bool
    began: float
    width: float


@dataclass(frozen=True, slots=True)
class _Part:
    label: str
    kind: Kind
    at: datetime
    until: datetime | None
    attempt: int | None = None
    outcome: str | None = None


def of(job: JobRow, attempts: list[AttemptRow]) -> list[Step]:
    """Return the steps of a job, first to last; the last one is open until the job has ended."""
    now = datetime.now(UTC)
    parts = list(_parts(job, attempts))
    end = max((part.until or now for part in parts), default=now)
    whole = max((end - job.created_at).total_seconds(), 0.001)
    return [_step(part, job.created_at, whole, now) for part in parts]


def _parts(job: JobRow, attempts: list[AttemptRow]) -> Iterator[_Part]:
    free_at: datetime = job.created_at
    for attempt in attempts:
        label = "Waited" if attempt.number == 1 else "Waited again"
        yield _Part(label, "wait", free_at, attempt.dispatched_at)
        began = attempt.started_at
        yield _Part("Taken by the lane", "prepare", attempt.dispatched_at, began or attempt.ended_at, attempt.number)
        if began is not None:
            label = f"Attempt {attempt.number} on {attempt.lane}"
            yield _Part(label, "run", began, attempt.ended_at, attempt.number, attempt.outcome)
        free_at = attempt.ended_at or free_at
    if job.state in FINAL:
        assert job.finished_at is not None
        if job.finished_at > free_at and (not attempts or attempts[-1].ended_at != job.finished_at):
            yield _Part("Waited", "wait", free_at, job.finished_at)
        yield _Part(job.state.capitalize(), "end", job.finished_at, job.finished_at, None, job.state)
    elif not attempts or attempts[-1].ended_at is not None:
        yield _Part("Waits", "wait", free_at, None)


def _step(part: _Part, start: datetime, whole: float, now: datetime) -> Step:
    seconds = max(0.0, ((part.until or now) - part.at).total_seconds())
    return Step(
        label=part.label,
        kind=part.kind,
        at=part.at,
        seconds=seconds,
        attempt=part.attempt,
        outcome=part.outcome,
        open=part.until is None,
        began=round(min(99.5, max(0.0, (part.at - start).total_seconds() / whole * 100)), 2),
        width=round(max(LEAST, seconds / whole * 100), 2),
    )
