"""Response models of the HTTP API, and functions that make them from rows. Times are UTC, durations are seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, Field

from vidqueue.db.tables.attempts import AttemptRow, LogRow
from vidqueue.db.tables.lanes import LaneRow
from vidqueue.errors import VidqueueError
from vidqueue.job import Device, State


class ErrorView(BaseModel):
    """Why something failed."""

    code: str = Field(description="Stable code to branch on.")
    message: str = Field(description="What happened.")
    hint: str = Field(description="What to do about it.")

    @classmethod
    def of(cls, error: VidqueueError) -> Self:
        """What an error says of itself."""
        return cls(code=error.code, message=error.message, hint=error.hint)


class OutputView(BaseModel):
    """A file that a job published."""

    name: str
    url: str = Field(description="Address of its bytes; supports ranges.")
    filename: str = Field(description="The name a download gets.")
    media_type: str
    size: int = Field(description="In bytes.")
    sha256: str = Field(description="In hex; also the ETag of the bytes.")
    facts: dict[str, Any] | None = Field(description="What a probe found in it.")


class JobUrls(BaseModel):
    """Addresses of what belongs to a job."""

    self: str
    events: str
    attempts: str
    logs: str
    preview: str = Field(description="The newest preview of a running job, a JPEG; 404 if there is none.")
    cancel: str
    suspend: str
    resume: str
    retry: str


class JobView(BaseModel):
    """A job."""

    id: UUID
    batch: UUID | None = Field(description="The batch that it was submitted with.")
    processor: str
    state: State
    progress: float = Field(description="Share of the work done, 0 to 1.")
    stage: str | None = Field(description="The current step, in one word.")
    message: str | None = Field(description="The current step, in a sentence.")
    title: str | None
    source: str | None = Field(description="Name of the file that it reads first, whatever the title says.")
    tags: list[str]
    priority: int
    owner: str
    input: dict[str, Any] = Field(description="The processor's own parameters, as they were sent.")
    outputs: list[OutputView]
    error: ErrorView | None = Field(description="Only when the job failed.")
    attempt: int = Field(description="Number of the newest attempt, 0 before the first.")
    max_attempts: int
    lane: str | None = Field(description="Where it runs or ran; before that, the lane it asked for.")
    labels: list[str] = Field(description="Labels that the lane of the job must have.")
    position: int | None = Field(
        description="While it stands in a line: 1 is next among the jobs for this kind of lane. Null for a job that "
        "cannot run yet (dependency, backoff, scheduled): it stands in no line."
    )
    position_is_bound: bool = Field(description="True if the place is `position` or later; the first 1,000 are exact.")
    wait_reason: str | None = Field(
        description="While it waits: dependency, backoff, scheduled, no_lane, no_processor, file_elsewhere, no_space, "
        "gpu_lost, gpu_busy, gpu_memory, program_runs, outside_window, paused, owner_limit, processor_limit or "
        "busy; or the word of a processor that put it back, such as endpoint_busy, peer_busy, peer_starting or "
        "peer_unavailable."
    )
    opens_at: datetime | None = Field(
        description="When the first of its lanes opens, if it waits for their windows; or from when its owner or "
        "processor may use a GPU again, if the GPU time of 24 hours is used up."
    )
    fps: float | None = Field(description="Pictures per second.")
    speed: float | None = Field(description="Seconds of media per second.")
    eta_s: float | None = Field(description="Estimated seconds until it is done; null beyond the first 1,000 in line.")
    cancel_requested_at: datetime | None
    suspended_at: datetime | None = Field(
        description="Since when it is suspended: it occupies its lane, and its processes are stopped."
    )
    suspended_by: str | None = Field(description="`person`, or `window` for the end of a time window of its lane.")
    created_at: datetime
    run_at: datetime = Field(description="Not before this time.")
    expires_at: datetime | None = Field(description="A job that has not begun by then fails with `expired`.")
    started_at: datetime | None = Field(description="Start of the newest attempt.")
    finished_at: datetime | None
    keep_s: float | None = Field(description="Seconds for which it asked to be kept after its end.")
    kept_until: datetime | None = Field(description="When it is removed, if it or its processor says so.")
    cached: bool = Field(description="True if its outputs are those of an earlier job that did the same work.")
    depends_on: list[UUID] = Field(description="The jobs that must have succeeded before it begins.")
    urls: JobUrls


class JobPage(BaseModel):
    """Part of a list of jobs, newest first."""

    jobs: list[JobView]
    next: str | None = Field(description="Address of the next page; null on the last.")


class AttemptError(ErrorView):
    """Why an attempt failed."""

    detail: str | None = Field(description="Last output of the program that failed.")


class AttemptView(BaseModel):
    """One try of a job on a lane."""

    number: int
    lane: str
    host: str
    outcome: str | None = Field(description="succeeded, failed, canceled, interrupted or waiting; null while it runs.")
    reason: str | None = Field(description="Why it was interrupted, or what it waited for.")
    error: AttemptError | None
    dispatched_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    metrics: dict[str, Any] = Field(description="The executor's own timings, in seconds.")
    device_mb: int | None = Field(description="Most GPU memory that it held, in MiB; null if it could not be measured.")
    logs: str = Field(description="Address of its log.")


class AttemptList(BaseModel):
    """Every attempt of a job, first to last."""

    attempts: list[AttemptView]


class LogLineView(BaseModel):
    """One line of a log."""

    number: int
    at: datetime
    level: str
    text: str


class LogPage(BaseModel):
    """Part of an attempt's log, oldest first."""

    attempt: int
    lines: list[LogLineView]
    next: str | None = Field(description="Address of the lines that follow; null when there are none yet.")


class LaneJob(BaseModel):
    """The job that a lane runs."""

    id: UUID
    processor: str
    title: str | None
    attempt: int
    progress: float
    stage: str | None
    fps: float | None
    speed: float | None
    eta_s: float | None
    suspended_at: datetime | None = Field(
        description="Since when its processes are stopped; it still occupies the lane."
    )
    suspended_by: str | None = Field(description="`person`, or `window` for the end of a time window.")
    started_at: datetime | None
    url: str


class PeerView(BaseModel):
    """A server of another program that the daemon runs for a lane."""

    name: str = Field(description="Processor and server, as in `cog:flux`.")
    state: str = Field(description="stopped, starting, ready, working, or resting after a start that failed.")
    since: datetime | None = Field(description="Approximate time when this state began; null if it was never started.")
    starts: int = Field(description="How often it became ready since the daemon started.")
    problem: str | None = Field(description="Why it could not be started, or was stopped.")


class LaneView(BaseModel):
    """A place where one job runs at a time."""

    name: str
    host: str
    device: Device
    takes: list[Device] = Field(description="Kinds of work it accepts.")
    gpu_name: str | None
    vram_mb: int = Field(description="Memory of its GPU, in MiB.")
    state: str = Field(description="online or offline.")
    paused: bool
    paused_until: datetime | None = Field(description="When the pause ends by itself; null if a resume must end it.")
    pause_reason: str | None
    draining: bool = Field(description="Its executor is stopped once the running job has ended.")
    blocked_by: str | None = Field(
        description="Why the daemon has blocked this lane: no_space, gpu_lost, gpu_busy (others use the GPU), "
        "program_runs (one that lanes yield to) or outside_window."
    )
    others_mb: int = Field(description="Memory of its GPU that other programs hold, in MiB.")
    labels: list[str] = Field(description="Labels from the configuration, which jobs may require.")
    windows: list[str] = Field(description="Its time windows, such as `mon-fri 22:00-07:00`; always open if empty.")
    windows_zone: str
    windows_end: str = Field(description="What happens to a running job at the end of a window: finish or suspend.")
    opens_at: datetime | None = Field(description="When its next window begins; null while it is open.")
    busy: bool
    warm: list[str] = Field(description="Processors it has run since its executor started.")
    peers: list[PeerView] = Field(description="The servers of other programs that the daemon runs for it when needed.")
    job: LaneJob | None = Field(description="The job that it runs, if you own it.")


class LaneList(BaseModel):
    """The lanes of all hosts."""

    lanes: list[LaneView]


def attempt_view(job_id: UUID, attempt: AttemptRow) -> AttemptView:
    """An attempt's row as a response model."""
    return AttemptView(
        number=attempt.number,
        lane=attempt.lane,
        host=attempt.host,
        outcome=attempt.outcome,
        reason=attempt.reason,
        error=_error(
            AttemptError,
            attempt.error_code,
            attempt.error_message,
            attempt.error_hint,
            detail=attempt.error_detail,
        ),
        dispatched_at=attempt.dispatched_at,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        metrics=attempt.metrics,
        device_mb=attempt.device_mb,
        logs=f"/v1/jobs/{job_id}/logs?attempt={attempt.number}",
    )


def log_line_view(line: LogRow) -> LogLineView:
    """A line of a log as a response model."""
    return LogLineView(number=line.number, at=line.at, level=line.level, text=line.text)


def lane_view(lane: LaneRow, *, owner: str | None) -> LaneView:
    """A lane's row as a response model for `owner`, or for somebody who sees the jobs of everybody."""
    shown = {name: getattr(lane, name) for name in LaneView.model_fields if name in LaneRow.__slots__}
    return LaneView(
        **shown,
        busy=lane.job_id is not None,
        job=_lane_job(lane) if lane.job_id is not None and owner in (None, lane.owner) else None,
    )


def _lane_job(lane: LaneRow) -> LaneJob:
    shown = {name: getattr(lane, name) for name in LaneJob.model_fields if name in LaneRow.__slots__}
    return LaneJob(**{**shown, "id": lane.job_id, "url": f"/v1/jobs/{lane.job_id}"})


def _error(model: type[Any], code: str | None, message: str | None, hint: str | None, **more: Any) -> Any:
    return model(code=code, message=message or "", hint=hint or "", **more) if code else None
