"""The domain model: states of a job, outcomes of an attempt, and the state that follows from an outcome. No IO.

A trigger of the database enforces the same transitions; a test compares the two.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from vidqueue.errors import KINDS, VidqueueError, is_retryable

Device = Literal["cpu", "gpu"]


class State(StrEnum):
    """State of a job. Every job ends in exactly one of the three final states."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELED})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.FAILED, State.CANCELED}),
    State.RUNNING: frozenset({State.QUEUED}) | FINAL,
    State.SUCCEEDED: frozenset(),
    # A user may retry a job that failed or was canceled.
    State.FAILED: frozenset({State.QUEUED}),
    State.CANCELED: frozenset({State.QUEUED}),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed: a stable code, what happened, what to do, and detail for the log."""

    code: str
    message: str
    hint: str
    detail: str = ""

    @classmethod
    def of(cls, code: str, message: str, *, hint: str | None = None, detail: str = "") -> Failure:
        """Return a failure whose hint defaults to that of its code."""
        known = KINDS.get(code)
        return cls(code, message, hint or (known.hint if known else ""), detail)

    @classmethod
    def from_error(cls, error: VidqueueError, *, detail: str = "") -> Failure:
        """Convert a raised error to a failure."""
        return cls(error.code, error.message, error.hint, detail)


@dataclass(frozen=True, slots=True)
class OutputDraft:
    """A file in the attempt's workspace that is not published yet. It implements `os.PathLike`."""

    name: str
    path: Path
    media_type: str
    facts: dict[str, Any] = field(default_factory=dict)

    def __fspath__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class KnownOutput(OutputDraft):
    """An output of an earlier job: a further name, in the workspace, of stored bytes whose sha256 is known."""

    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The processor returned, or its result was known; its outputs are in the workspace.

    `key` is the key of the result cache, if later jobs may reuse the outputs. `source` is the job that made
    them, if it is another one.
    """

    outputs: tuple[OutputDraft, ...]
    metrics: dict[str, Any] = field(default_factory=dict)
    key: str | None = None
    source: UUID | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed by itself.

    `crashed`: the executor ended during the attempt. After three crashes the job fails with the code `poison`.
    `metrics` has what the executor reported up to then.
    """

    failure: Failure
    crashed: bool = False
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Canceled:
    """The job was canceled on request."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The attempt was ended from outside (drain, restart, lost database). It does not count towards `max_attempts`.

    `lost`: the daemon disappeared, or the server that did the work (`by_peer`); after ten consecutive losses the job
    fails. `delay_s` is how long the job waits before its next attempt, in seconds, so that it is not dispatched at once
    to a lane that cannot run it.
    """

    reason: str
    lost: bool = False
    delay_s: float = 0.0
    by_peer: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """The work cannot start now: what it needs is busy, starting or down. It does not count as an attempt.

    `reason` is one word, which people see as the job's `wait_reason`; `message` says it in a sentence. The next attempt
    begins after `retry_after_s`. `waited_s` is what this attempt itself waited, and `limit_s` how long the job may wait
    in all, from one attempt to the next, before it fails with `peer_unavailable`; all in seconds. `limit_s` is None
    if the job waits for other jobs of this queue; that time is not counted.
    """

    reason: str
    message: str
    retry_after_s: float = 10.0
    waited_s: float = 0.0
    limit_s: float | None = 3600.0


Outcome = Succeeded | Failed | Canceled | Interrupted | Waiting


@dataclass(slots=True)
class Usage:
    """The resource usage of an attempt; None where it could not be measured.

    `cpu_s` is the time of its executor and of everything that this started, `input_bytes` the size of its inputs,
    `video_s` the length of those that were probed, `expected_s` how long it was expected to take, in seconds;
    `device_mb` is the most GPU memory that it held, in MiB.
    """

    cpu_s: float | None = None
    input_bytes: int | None = None
    video_s: float | None = None
    expected_s: float | None = None
    device_mb: int | None = None

    def row(self) -> dict[str, Any]:
        """Return the usage as vidqueue.finish() takes it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class AttemptRef:
    """Names an attempt to the lane that runs it: ids and the fence, never parameters."""

    job_id: UUID
    attempt: int
    fence: int


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a job waits before it is tried again, in seconds: doubling from `base_s` up to `cap_s`."""

    base_s: float = 1.0
    cap_s: float = 300.0


@dataclass(frozen=True, slots=True)
class RetryState:
    """The retries that a job has used up so far, and those that it may use.

    `losses` counts consecutive attempts whose daemon disappeared; `waited_s` is the total time in seconds by which
    consecutive attempts with the outcome `Waiting` have delayed the job.
    """

    failures: int
    crashes: int
    max_attempts: int
    losses: int = 0
    backoff: Backoff = Backoff()
    waited_s: float = 0.0


MAX_CRASHES = 3
MAX_LOSSES = 10
# The minimum delay between attempts, because each adds a row to the history.
SHORTEST_WAIT_S = 1.0
# Error codes with a longer backoff: a full disk is not freed within seconds.
BACKOFF_BY_CODE = {"no_space": Backoff(15, 600)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about a job after an attempt.

    `delay_s` is how long a requeued job waits before its next try; `failure` is the job's error when it failed;
    `waited_s` is the new total of `RetryState.waited_s`.
    """

    state: State
    burned: bool = False
    crashed: bool = False
    lost: bool = False
    delay_s: float = 0.0
    failure: Failure | None = None
    waited_s: float = 0.0


def verdict(outcome: Outcome, tries: RetryState) -> Verdict:
    """Return the next state of a job, given the outcome of its attempt; nothing else decides that."""
    match outcome:
        case Succeeded():
            return Verdict(State.SUCCEEDED)
        case Canceled():
            return Verdict(State.CANCELED)
        case Interrupted(lost=True):
            return _after_loss(outcome, tries)
        case Interrupted(delay_s=delay_s):
            return Verdict(State.QUEUED, delay_s=delay_s)
        case Failed(failure, crashed):
            return _after_failure(failure, crashed, tries)
        case Waiting():
            return _after_waiting(outcome, tries)


def _after_loss(outcome: Interrupted, tries: RetryState) -> Verdict:
    if tries.losses + 1 < MAX_LOSSES:
        return Verdict(State.QUEUED, lost=True, delay_s=outcome.delay_s)
    who = "daemon or server" if outcome.by_peer else "daemon"
    message = f"The {who} disappeared in {MAX_LOSSES} consecutive attempts of this job. Last reason: {outcome.reason}."
    poison = Failure.of("peer_lost" if outcome.by_peer else "poison", message)
    return Verdict(State.FAILED, lost=True, failure=poison)


def _after_waiting(outcome: Waiting, tries: RetryState) -> Verdict:
    """Requeue the job until its total waiting time reaches the limit; the last delay is shortened to end there."""
    if outcome.limit_s is None:
        return Verdict(State.QUEUED, delay_s=max(outcome.retry_after_s, SHORTEST_WAIT_S), waited_s=tries.waited_s)
    waited_s = tries.waited_s + outcome.waited_s
    if waited_s >= outcome.limit_s:
        message = f"The job waited {outcome.limit_s:g} s. {outcome.message}"
        return Verdict(State.FAILED, failure=Failure.of("peer_unavailable", message), waited_s=waited_s)
    delay_s = min(max(outcome.retry_after_s, SHORTEST_WAIT_S), outcome.limit_s - waited_s)
    return Verdict(State.QUEUED, delay_s=delay_s, waited_s=waited_s + delay_s)


def _after_failure(failure: Failure, crashed: bool, tries: RetryState) -> Verdict:
    failures, crashes = tries.failures + 1, tries.crashes + crashed
    if crashes >= MAX_CRASHES:
        poison = Failure.of("poison", f"The job killed its executor {crashes} times. Last: {failure.message}")
        return Verdict(State.FAILED, burned=True, crashed=crashed, failure=poison)
    if not is_retryable(failure.code) or failures >= tries.max_attempts:
        return Verdict(State.FAILED, burned=True, crashed=crashed, failure=failure)
    backoff = BACKOFF_BY_CODE.get(failure.code, tries.backoff)
    return Verdict(State.QUEUED, burned=True, crashed=crashed, delay_s=backoff_s(failures, backoff), failure=failure)


def backoff_s(failures: int, backoff: Backoff = Backoff()) -> float:
    """Seconds before the next try: exponential, capped, with full-range jitter above one half.

    Jitter keeps jobs that failed together from coming back together
    (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """
    ceiling = float(min(backoff.cap_s, backoff.base_s * 2.0 ** max(0, failures - 1)))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - spreading load, not guarding a secret
