"""The domain model: states of a job, outcomes of an attempt, and the verdict over an outcome. No IO.

The database holds the same rules as CHECKs; a test compares the two.
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
    # A person may ask for a finished job once more.
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
        """Return the failure that a raised error means."""
        return cls(error.code, error.message, error.hint, detail)


@dataclass(frozen=True, slots=True)
class OutputDraft:
    """A file in the attempt's workspace that is not published yet. It can stand wherever a path is wanted."""

    name: str
    path: Path
    media_type: str
    facts: dict[str, Any] = field(default_factory=dict)

    def __fspath__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The processor returned; its outputs are in the workspace."""

    outputs: tuple[OutputDraft, ...]
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed by itself.

    `crashed` says that it took its executor with it; three of those are poison.
    """

    failure: Failure
    crashed: bool = False


@dataclass(frozen=True, slots=True)
class Canceled:
    """The job was canceled on request."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The lane was taken away (drain, restart, lost database). Not the job's fault: no attempt is burned.

    `lost` says that the daemon vanished with it. Ten in a row are no accident any more. `delay_s` is how long the job
    waits before its next attempt, in seconds, so that it does not come straight back to a lane that cannot run it.
    """

    reason: str
    lost: bool = False
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """The work cannot start now: what it needs is busy, starting or down. Not the job's fault: no attempt is burned.

    `reason` is one word, which people see as the job's `wait_reason`; `message` says it in a sentence. The next attempt
    begins after `retry_after_s`. `waited_s` is what this attempt itself waited, and `limit_s` how long the job may wait
    in all, from one attempt to the next, before it fails with `peer_unavailable`; all in seconds. Without a limit it
    waits for other jobs of ours, and that does not count.
    """

    reason: str
    message: str
    retry_after_s: float = 10.0
    waited_s: float = 0.0
    limit_s: float | None = 3600.0


Outcome = Succeeded | Failed | Canceled | Interrupted | Waiting


@dataclass(slots=True)
class Usage:
    """What an attempt has used; None where nobody could measure it.

    `cpu_s` is the time of its executor and of everything that this started, `input_bytes` the size of its inputs,
    `video_s` the length of those that were probed, `expected_s` how long it was expected to take, in seconds.
    """

    cpu_s: float | None = None
    input_bytes: int | None = None
    video_s: float | None = None
    expected_s: float | None = None


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
class Tries:
    """What a job has used up so far, and what it may use.

    `losses` counts daemons that vanished one after the other; `waited_s` is how long attempts that put the job back,
    one after the other, have let it wait.
    """

    failures: int
    crashes: int
    max_attempts: int
    losses: int = 0
    backoff: Backoff = Backoff()
    waited_s: float = 0.0


POISON_CRASHES = 3
POISON_LOSSES = 10
# Each try is an attempt in the job's history.
SHORTEST_WAIT_S = 1.0
# It takes a while until somebody frees space on a full disk.
PATIENT_CODES = {"no_space": Backoff(15, 600)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a job after an attempt.

    `delay_s` is how long a requeued job waits before its next try; `failure` is the job's error when it failed;
    `waited_s` is how long an attempt that put the job back, and those before it, have let it wait.
    """

    state: State
    burned: bool = False
    crashed: bool = False
    lost: bool = False
    delay_s: float = 0.0
    failure: Failure | None = None
    waited_s: float = 0.0


def verdict(outcome: Outcome, tries: Tries) -> Verdict:
    """Return the verdict over an outcome; nothing else decides what becomes of a job."""
    match outcome:
        case Succeeded():
            return Verdict(State.SUCCEEDED)
        case Canceled():
            return Verdict(State.CANCELED)
        case Interrupted(reason, lost, delay_s):
            return _after_loss(reason, tries) if lost else Verdict(State.QUEUED, delay_s=delay_s)
        case Failed(failure, crashed):
            return _after_failure(failure, crashed, tries)
        case Waiting():
            return _after_waiting(outcome, tries)


def _after_loss(reason: str, tries: Tries) -> Verdict:
    if tries.losses + 1 < POISON_LOSSES:
        return Verdict(State.QUEUED, lost=True)
    message = f"{POISON_LOSSES} daemons vanished one after the other while they ran it. Last: {reason}."
    poison = Failure.of("poison", message)
    return Verdict(State.FAILED, lost=True, failure=poison)


def _after_waiting(outcome: Waiting, tries: Tries) -> Verdict:
    """Put the job back until it has waited for the limit in all: the last attempt begins when that is reached."""
    if outcome.limit_s is None:
        return Verdict(State.QUEUED, delay_s=max(outcome.retry_after_s, SHORTEST_WAIT_S), waited_s=tries.waited_s)
    waited_s = tries.waited_s + outcome.waited_s
    if waited_s >= outcome.limit_s:
        message = f"The job waited {outcome.limit_s:g} s. {outcome.message}"
        return Verdict(State.FAILED, failure=Failure.of("peer_unavailable", message), waited_s=waited_s)
    delay_s = min(max(outcome.retry_after_s, SHORTEST_WAIT_S), outcome.limit_s - waited_s)
    return Verdict(State.QUEUED, delay_s=delay_s, waited_s=waited_s + delay_s)


def _after_failure(failure: Failure, crashed: bool, tries: Tries) -> Verdict:
    failures, crashes = tries.failures + 1, tries.crashes + crashed
    if crashes >= POISON_CRASHES:
        poison = Failure.of("poison", f"The job killed its executor {crashes} times. Last: {failure.message}")
        return Verdict(State.FAILED, burned=True, crashed=crashed, failure=poison)
    if not is_retryable(failure.code) or failures >= tries.max_attempts:
        return Verdict(State.FAILED, burned=True, crashed=crashed, failure=failure)
    backoff = PATIENT_CODES.get(failure.code, tries.backoff)
    return Verdict(State.QUEUED, burned=True, crashed=crashed, delay_s=backoff_s(failures, backoff), failure=failure)


def backoff_s(failures: int, backoff: Backoff = Backoff()) -> float:
    """Seconds before the next try: exponential, capped, with full-range jitter above one half.

    Jitter keeps jobs that failed together from coming back together
    (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """
    ceiling = float(min(backoff.cap_s, backoff.base_s * 2.0 ** max(0, failures - 1)))
    return ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - spreading load, not guarding a secret
