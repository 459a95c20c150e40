"""What the queue shall do, as plain Python: the model that the real queue is compared with. No IO, no clock.

It is written from the promises, not from the code: no rule of `vidqueue.job` is used here. A moment is a number of
seconds on a clock that also runs while the test says "time passes". A moment that PostgreSQL chose is known to lie
between two readings of the clock, until it is observed; then it is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID, uuid4

from vidqueue.job import AttemptRef

T = TypeVar("T")

LEASE_S = 30
# Ten in the queue itself; the check makes it three there, so that a history comes that far.
MAX_LOSSES = 3
FINAL = ("succeeded", "failed", "canceled")
NEVER = Decimal("-Infinity")


class Span(NamedTuple):
    """A moment, as far as it is known."""

    since: Decimal
    until: Decimal

    def later(self, least_s: float, most_s: float | None = None) -> Span:
        """What lies at least and at most so many seconds after it."""
        return Span(self.since + Decimal(least_s), self.until + Decimal(least_s if most_s is None else most_s))


UNKNOWN = Span(NEVER, NEVER)


class Doubt(NamedTuple, Generic[T]):
    """What is certainly so, and what may be: a moment that lies inside the act itself is before and after it."""

    surely: set[T]
    maybe: set[T]

    def allows(self, seen: set[T]) -> bool:
        """Whether this may be what was seen."""
        return self.surely <= seen <= self.maybe


class Refusal(NamedTuple):
    """A verb says no, with this code."""

    code: str


class Backoff(NamedTuple):
    """Seconds before another try: doubling from the first to the last."""

    base_s: int
    cap_s: int


@dataclass(frozen=True)
class Processor:
    """A kind of work, and what its jobs get that say nothing of their own."""

    name: str
    max_attempts: int
    backoff: Backoff

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Ending:
    """How an attempt ends, as its lane tells it."""

    name: str
    outcome: str
    code: str | None = None
    may_retry: bool = False
    crashed: bool = False
    # The daemon vanished with the attempt.
    lost: bool = False
    # How long to wait, where the failure knows better than the processor.
    backoff: Backoff | None = None

    def __repr__(self) -> str:
        return self.name


SUCCEEDED = Ending("succeeded", "succeeded")
CANCELED = Ending("canceled", "canceled")
INTERRUPTED = Ending("interrupted", "interrupted")
# Its processor could not start: the job comes back after so many seconds, as often as its limit lets it.
WAITING = Ending("waiting", "waiting")
RETRY_AFTER_S = 9
WAIT_LIMIT_S = 20
LOST = Ending("lost", "interrupted", lost=True)
STALLED = Ending("stalled", "failed", "stalled", may_retry=True)
CRASHED = Ending("crashed", "failed", "executor_crashed", may_retry=True, crashed=True)
FULL = Ending("full", "failed", "no_space", may_retry=True, backoff=Backoff(15, 600))
UNSUPPORTED = Ending("unsupported", "failed", "unsupported_format")
LIED = Ending("lied", "failed", "bad_output")
ENDINGS = (
    SUCCEEDED,
    STALLED,
    *4 * (CRASHED,),
    FULL,
    UNSUPPORTED,
    LIED,
    INTERRUPTED,
    *2 * (LOST,),
    *2 * (WAITING,),
    CANCELED,
)


@dataclass(eq=False)
class Lane:
    """A lane of one daemon (its node)."""

    name: str
    node: UUID
    device: str
    takes: tuple[str, ...]
    vram_mb: int
    id: UUID | None = None
    online: bool = True
    paused: bool = False
    processors: dict[str, str] = field(default_factory=dict)
    blocked_by: str | None = None
    warm: tuple[Processor, ...] = ()

    @property
    def free_to_work(self) -> bool:
        """Whether neither a person nor the machine keeps it from taking jobs."""
        return self.online and not self.paused and not self.blocked_by

    def __repr__(self) -> str:
        return self.name


@dataclass(eq=False, kw_only=True)
class Job:
    """A job, with everything that was ever said of it."""

    name: str
    owner: str
    processor: Processor
    device: str
    vram_mb: int
    lane: str | None
    priority: int
    max_attempts: int | None
    needs: list[Job]
    # The database gives it.
    id: UUID = field(default_factory=uuid4)
    run_at: Span = UNKNOWN
    queued_at: Span = UNKNOWN
    # From when its waiting counts: time in which it might not run does not.
    waits_since: Span = UNKNOWN
    expires_at: Span | None = None
    state: str = "queued"
    failures: int = 0
    crashes: int = 0
    losses: int = 0
    waited_s: int = 0
    waiting: bool = False
    canceled_at: Span | None = None
    progress: float = 0
    error: str | None = None
    taken_by: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    events: list[str] = field(default_factory=lambda: ["queued"])

    def __repr__(self) -> str:
        return self.name

    @property
    def place(self) -> tuple[Decimal, UUID]:
        """Where it stands in its owner's line: a point of priority is worth a minute of waiting."""
        return self.waits_since.since - 60 * self.priority, self.id

    @property
    def allowed(self) -> int:
        """How many of its attempts may fail."""
        return self.max_attempts or self.processor.max_attempts

    @property
    def version(self) -> int:
        """Rises with everything that is told of the job, but not with progress."""
        return sum(event != "progress" for event in self.events)

    @property
    def unmet(self) -> int:
        """How many of the jobs that it needs have not succeeded."""
        return sum(needed.state != "succeeded" for needed in self.needs)

    @property
    def nodes(self) -> set[UUID]:
        """Where the bytes of its inputs lie."""
        return {needed.attempts[-1].lane.node for needed in self.needs if needed.state == "succeeded"}

    def could_fit(self, lane: Lane) -> bool:
        """Whether this lane is there and has the device for it."""
        wanted = lane.online and self.lane in (None, lane.name)
        return wanted and self.device in lane.takes and (lane.device == "cpu" or self.vram_mb <= lane.vram_mb)

    def fits(self, lane: Lane) -> bool:
        """Whether this lane is there and can run it."""
        return self.could_fit(lane) and self.processor.name in lane.processors and self.nodes <= {lane.node}


@dataclass(eq=False)
class Attempt:
    """One try; its fence is the ticket."""

    job: Job
    number: int
    fence: int
    lane: Lane
    lease: Span
    outcome: str | None = None
    code: str | None = None

    def __repr__(self) -> str:
        return f"{self.job}#{self.number}"

    @property
    def ref(self) -> AttemptRef:
        """What its lane was handed."""
        return AttemptRef(self.job.id, self.number, self.fence)

    @property
    def open(self) -> bool:
        """Whether its lane has it in hand."""
        return self.outcome is None


@dataclass
class Model:
    """The queue. `now` is when the act happens that is being told; the test sets it."""

    lanes: list[Lane]
    now: Span = UNKNOWN
    jobs: list[Job] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    served: dict[str, Span] = field(default_factory=dict)

    # What is there.

    def open_on(self, lane: Lane) -> Attempt | None:
        return next((attempt for attempt in self.attempts if attempt.open and attempt.lane is lane), None)

    def waits_for(self, job: Job, at: Decimal) -> str | None:
        """The reason why a queued job is not running at this moment, in the word that people are told."""
        if job.state != "queued":
            return None
        if job.unmet:
            return "dependency"
        if job.run_at.since > at:
            return "peer_busy" if job.waiting else "backoff" if job.attempts else "scheduled"
        return self._waits_for_a_lane(job)

    def _waits_for_a_lane(self, job: Job) -> str:
        possible = [lane for lane in self.lanes if job.could_fit(lane)]
        if not possible:
            return "no_lane"
        if not any(job.processor.name in lane.processors for lane in possible):
            return "no_processor"
        fitting = [lane for lane in possible if job.fits(lane)]
        if not fitting:
            return "file_elsewhere"
        if any(lane.free_to_work for lane in fitting):
            return "busy"
        return min((lane.blocked_by for lane in fitting if lane.blocked_by and not lane.paused), default="paused")

    def position(self, job: Job, at: Decimal) -> int | None:
        """How many wait for their turn on the same lanes and stand before it, itself included."""
        if not self._in_line(job, at):
            return None
        return sum(
            self._in_line(other, at) and self._pool(other) == self._pool(job) and other.place <= job.place
            for other in self.jobs
        )

    def _in_line(self, job: Job, at: Decimal) -> bool:
        return job.state == "queued" and self.waits_for(job, at) not in (
            "dependency",
            "backoff",
            "scheduled",
            "peer_busy",
        )

    def _pool(self, job: Job) -> list[Lane]:
        return [lane for lane in self.lanes if lane.online and job.device in lane.takes]

    # Dispatch.

    def choice(self, lane: Lane, at: Decimal) -> Job | None:
        """The job that a lane must be given at this moment.

        The exact rule can be asked for: `at` is the moment of the transaction itself, and every stamp was observed.
        """
        if not lane.free_to_work or self.open_on(lane):
            return None
        lines: dict[str, list[Job]] = {}
        for job in sorted(self.jobs, key=lambda job: job.place):
            in_time = job.attempts or job.expires_at is None or job.expires_at.since > at
            if in_time and job.fits(lane) and self.waits_for(job, at) == "busy":
                lines.setdefault(job.owner, []).append(job)
        if not lines:
            return None
        owner = min(lines, key=lambda owner: self._owners_turn(owner, lines[owner][0], at))
        # What is warm here may pass what is up to 30 s older, among the first four.
        return min(lines[owner][:4], key=lambda job: (job.place[0] - 30 * (job.processor in lane.warm), job.id))

    def _owners_turn(self, owner: str, head: Job, at: Decimal) -> tuple[int, int, Decimal, str]:
        served = self.served.get(owner, UNKNOWN).since
        minutes = math.floor((at - max(head.waits_since.since, served)) / 60)
        running = sum(job.state == "running" and job.owner == owner for job in self.jobs)
        return -(head.priority + minutes), running, served, owner

    def dispatch(self, lane: Lane, job: Job, fence: int) -> Attempt:
        attempt = Attempt(job, len(job.attempts) + 1, fence, lane, self.now.later(LEASE_S))
        self.attempts.append(attempt)
        job.attempts.append(attempt)
        job.progress, job.taken_by = 0, lane.name
        self._move(job, "running")
        self.served[job.owner] = self.now
        return attempt

    # What a lane says. Only the fence decides: a lease that ran out and was not rescued may go on.

    def begin(self, attempt: Attempt) -> bool:
        if attempt.open:
            attempt.lease = self.now.later(LEASE_S)
        return attempt.open

    def renew(self, attempt: Attempt) -> bool | None:
        """Whether someone wants the job to stop; None for a zombie."""
        if not attempt.open:
            return None
        attempt.lease = self.now.later(LEASE_S)
        return attempt.job.canceled_at is not None

    def note_progress(self, attempt: Attempt, fraction: float) -> None:
        if attempt.open:
            attempt.job.progress = max(attempt.job.progress, fraction)
            attempt.job.events.append("progress")

    def finish(self, attempt: Attempt, ending: Ending) -> str | None:
        """The state that the job comes to; None where the writer is too late."""
        if not attempt.open:
            return None
        job = attempt.job
        if job.canceled_at:
            # Whoever was told that it will be canceled shall not find it succeeded.
            ending = CANCELED
        attempt.outcome, attempt.code = ending.outcome, ending.code
        if not ending.lost:
            job.losses = 0
        job.waiting = False
        if ending.outcome not in ("waiting", "interrupted"):
            job.waited_s = 0
        match ending.outcome:
            case "interrupted":
                self._give_back(job, ending)
            case "waiting":
                self._put_back(job)
            case "failed":
                self._burn(job, ending)
            case _:
                job.progress = 1 if ending == SUCCEEDED else job.progress
                self._move(job, ending.outcome)
        return job.state

    def _give_back(self, job: Job, ending: Ending) -> None:
        """It keeps its place, and burns nothing."""
        job.losses += ending.lost
        if ending.lost and job.losses == MAX_LOSSES:
            self._move(job, "failed", error="poison")
        else:
            job.run_at = job.queued_at
            self._move(job, "queued", told="interrupted")

    def _put_back(self, job: Job) -> None:
        """It comes back later and burns nothing, until it has waited too long in all."""
        delay_s = min(RETRY_AFTER_S, WAIT_LIMIT_S - job.waited_s)
        if not delay_s:
            self._move(job, "failed", error="peer_unavailable")
            return
        job.waited_s += delay_s
        job.waiting = True
        job.run_at = self.now.later(delay_s)
        job.waits_since = job.waits_since.later(delay_s)
        self._move(job, "queued", told="interrupted")

    def _burn(self, job: Job, ending: Ending) -> None:
        job.failures += 1
        job.crashes += ending.crashed
        if job.crashes == 3:
            self._move(job, "failed", error="poison")
        elif not ending.may_retry or job.failures == job.allowed:
            self._move(job, "failed", error=ending.code)
        else:
            base_s, cap_s = ending.backoff or job.processor.backoff
            longest_s = min(cap_s, base_s * 2 ** (job.failures - 1))
            job.run_at = self.now.later(longest_s / 2, longest_s)
            # The time of a backoff is no waiting.
            job.waits_since = job.waits_since.later(longest_s / 2, longest_s)
            self._move(job, "queued", told="interrupted")

    # What daemons do.

    def expired(self, by_s: int = 0) -> Doubt[Attempt]:
        """Attempts whose lease ran out so many seconds ago."""
        return self._past({attempt: attempt.lease.later(by_s) for attempt in self.attempts if attempt.open})

    def unheeded(self) -> Doubt[Job]:
        """Jobs that run on although somebody asked them to stop half a minute ago."""
        running = (job for job in self.jobs if job.state == "running")
        return self._past({job: job.canceled_at.later(30) for job in running if job.canceled_at})

    def _past(self, moments: dict[T, Span]) -> Doubt[T]:
        surely = {what for what, moment in moments.items() if moment.until < self.now.since}
        return Doubt(surely, {what for what, moment in moments.items() if moment.since <= self.now.until})

    def overdue(self, by_s: int = 0) -> Doubt[Job]:
        """Jobs that have not begun so many seconds after their deadline; an interrupted one has begun in time."""
        waiting = (job for job in self.jobs if job.state == "queued" and not job.attempts)
        return self._past({job: job.expires_at.later(by_s) for job in waiting if job.expires_at})

    def expire(self, jobs: list[Job]) -> None:
        """These waited too long; what needs them fails after them."""
        for job in jobs:
            job.state = "failed"
        for job in jobs:
            self._move(job, "failed", error="expired")

    def leave(self, node: UUID, ending: Ending) -> int:
        """The daemon of this node is gone; how many attempts are given back."""
        for lane in self.lanes:
            lane.online = lane.online and lane.node != node
        orphans = [attempt for attempt in self.attempts if attempt.open and attempt.lane.node == node]
        for attempt in orphans:
            self.finish(attempt, ending)
        return len(orphans)

    def come(self, node: UUID) -> None:
        """A daemon starts on this node: nothing is warm, nothing is held; what people paused stays so."""
        for lane in self.lanes:
            if lane.node == node:
                lane.online, lane.blocked_by, lane.warm = True, None, ()

    # What people do.

    def submit(self, job: Job) -> set[Refusal]:
        """Every reason why the job cannot be queued, of which one is told."""
        lost = [needed for needed in job.needs if needed not in self.jobs or needed.owner != job.owner]
        doomed = [needed for needed in job.needs if needed.state in ("failed", "canceled")]
        if not lost and not doomed:
            self.jobs.append(job)
        return {Refusal("input_not_found") for _ in lost} | {Refusal("dependency_failed") for _ in doomed}

    def cancel(self, job: Job) -> Refusal | None:
        if job not in self.jobs:
            return Refusal("not_found")
        if job.state in ("succeeded", "failed"):
            return Refusal("conflict")
        if job.state == "queued":
            job.canceled_at = self.now
            self._move(job, "canceled")
        elif job.state == "running" and not job.canceled_at:
            job.canceled_at = self.now
            job.events.append("cancel_requested")
        return None

    def retry(self, job: Job) -> Refusal | None:
        if job not in self.jobs:
            return Refusal("not_found")
        if any(needed.state in ("failed", "canceled") for needed in job.needs):
            return Refusal("dependency_failed")
        if job.state == "succeeded":
            return Refusal("conflict")
        if job.state in ("failed", "canceled"):
            job.failures = job.crashes = job.losses = job.waited_s = 0
            job.canceled_at = job.expires_at = None
            job.waiting = False
            job.run_at = job.queued_at = job.waits_since = self.now
            self._move(job, "queued")
        return None

    def prioritise(self, job: Job, priority: int, *, version: int) -> Refusal | None:
        if version != job.version:
            return Refusal("precondition_failed")
        if priority != job.priority:
            job.priority = priority
            job.events.append("updated")
        return None

    def delete(self, job: Job) -> Refusal | None:
        if job not in self.jobs:
            return Refusal("not_found")
        needed = any(job in other.needs and other.state in ("queued", "running") for other in self.jobs)
        if job.state not in FINAL or needed:
            return Refusal("conflict")
        self.jobs.remove(job)
        # Whoever is asked for again later finds at its start that its input is gone; it waits for nothing any more.
        for other in self.jobs:
            unmet, other.needs = other.unmet, [one for one in other.needs if one is not job]
            self._met(other, unmet)
        return None

    def _move(self, job: Job, state: str, *, told: str | None = None, error: str | None = None) -> None:
        job.state, job.error = state, error
        job.events.append(told or state)
        if state == "queued":
            job.taken_by, job.progress = None, 0
        if state == "succeeded":
            for other in self.jobs:
                if job in other.needs:
                    self._met(other, other.unmet + 1)
        if state in ("failed", "canceled"):
            for other in self.jobs:
                if job in other.needs and other.state == "queued":
                    self._move(other, "failed", error="dependency_failed")

    def _met(self, job: Job, unmet_before: int) -> None:
        """What a job waited for its dependencies is no waiting for its turn."""
        if unmet_before and not job.unmet:
            since, until = job.waits_since
            job.waits_since = Span(max(since, self.now.since), max(until, self.now.until))

    # What must be seen from the outside.

    def job_looks(self, job: Job, at: Decimal) -> dict[str, Any]:
        """Every fact about a job that is not a moment, in the words of the database."""
        return {
            "state": job.state,
            "priority": job.priority,
            "attempt": len(job.attempts),
            "failures": job.failures,
            "crashes": job.crashes,
            "losses": job.losses,
            "waited_s": job.waited_s,
            "max_attempts": job.allowed,
            "fence": job.attempts[-1].fence if job.state == "running" else None,
            "lane": job.taken_by,
            "progress": job.progress,
            "error_code": job.error,
            "version": job.version,
            "wait_reason": self.waits_for(job, at),
            "position": self.position(job, at),
            "outputs": ["text"] if job.state == "succeeded" else [],
            "needs": sorted(needed.name for needed in job.needs),
            "events": job.events,
            "attempts": [[one.number, one.fence, one.lane.name, one.outcome, one.code] for one in job.attempts],
        }

    def lane_looks(self, lane: Lane) -> dict[str, Any]:
        """Every fact about a lane, in the words of the database."""
        attempt = self.open_on(lane)
        return {
            "state": "online" if lane.online else "offline",
            "paused": lane.paused,
            "blocked_by": lane.blocked_by,
            "job_id": attempt.job.id if attempt else None,
            "attempt": attempt.number if attempt else None,
            "warm": sorted(processor.name for processor in lane.warm),
        }
