"""Jobs, assets and errors in the shape that the SDKs of the Comfy API v2 expect."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from vidqueue.api.http.problems import Problem
from vidqueue.db.tables.files import FileRow
from vidqueue.db.tables.jobs import JobRow
from vidqueue.job import State

_KINDS = ("image", "video", "audio", "text")
# `expires_at` of a job that retention never removes is this long after now, because the field is required.
FOR_EVER_DAYS = 3650.0
# Error codes of this API for codes of vidqueue; all others are passed unchanged.
_CODES = {
    "unauthenticated": "unauthorized",
    "limit_reached": "queue_full",
    "invalid_params": "invalid_workflow",
    "missing_model": "invalid_workflow",
    "unknown_processor": "invalid_workflow",
    "unknown_model": "invalid_workflow",
    "input_not_found": "missing_asset",
    "file_lost": "missing_asset",
    "file_elsewhere": "missing_asset",
    "idempotency_mismatch": "idempotency_key_reuse",
}


class ComfyError(BaseModel):
    """The error of a request that failed."""

    code: str
    message: str
    details: dict[str, Any] | None = None


class ComfyProblem(Problem):
    """A problem document with the fields that the SDKs read."""

    error: ComfyError


class AssetView(BaseModel):
    """A stored file."""

    id: str = Field(description="The id of the file.")
    hash: str | None = Field(description="`blake3:<hex>`; null for outputs.")
    size_bytes: int
    content_type: str
    file_path: str
    created_new: bool | None = Field(None, description="Whether bytes were sent for it.")
    created_at: datetime
    url: str
    url_expires_at: datetime
    expires_at: datetime | None = None
    job_id: str | None = None


class ProgressView(BaseModel):
    """How far a job is."""

    value: float
    nodes_done: int = Field(description="The same share of the nodes.")
    nodes_total: int
    current_node: str | None
    current_node_class: str | None
    step: int | None = None
    steps: int | None = None
    message: str | None


class OutputView(BaseModel):
    """An output of a job, which is an asset too."""

    node_id: str
    name: str
    type: Literal["image", "video", "audio", "text", "file"]
    content_type: str
    size_bytes: int
    id: str
    hash: str | None = None
    url: str
    url_expires_at: datetime
    job_id: str


class JobErrorView(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    node_id: str | None = None
    class_type: str | None = None
    traceback: str | None = None


class ComfyJobUrls(BaseModel):
    """Addresses of what belongs to a job."""

    self: str
    events: str
    cancel: str
    logs: str


class ComfyJobView(BaseModel):
    """A job, as the SDKs see it."""

    id: str
    status: str = Field(description="queued, running, canceling, succeeded, failed, canceled or expired.")
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    expires_at: datetime = Field(description="Until when the job is kept.")
    queue_position: int | None
    progress: ProgressView | None
    outputs: list[OutputView]
    error: JobErrorView | None
    metrics: dict[str, int | None]
    metadata: dict[str, str]
    urls: ComfyJobUrls


class ComfyJobSummary(BaseModel):
    """A job in a list."""

    id: str
    status: str
    create_time: datetime
    update_time: datetime
    metadata: dict[str, str]


def comfy_problem(problem: Problem) -> ComfyProblem:
    """Add the fields that the SDKs of the Comfy API read to a problem document."""
    details = {"errors": [fault.model_dump() for fault in problem.errors]} if problem.errors else None
    message = f"{problem.detail} {problem.hint}".strip()
    error = ComfyError(code=_CODES.get(problem.code, problem.code), message=message, details=details)
    return ComfyProblem(**dict(problem), error=error)


def asset_view(file: FileRow, *, base: str, created_new: bool | None = None) -> AssetView:
    """Return a file's row as an asset."""
    return AssetView(
        id=str(file.id),
        hash=f"blake3:{file.blake3}" if file.blake3 else None,
        size_bytes=file.size,
        content_type=file.media_type,
        file_path=file.name,
        created_new=created_new,
        created_at=file.created_at,
        url=content_url(base, file.id),
        url_expires_at=_later(FOR_EVER_DAYS),
    )


def comfy_job_view(job: JobRow, *, base: str, kept_days: float) -> ComfyJobView:
    """Return a job's row as a job of the Comfy API."""
    path = f"/api/v2/jobs/{job.id}"
    ends = job.kept_until or (job.finished_at or datetime.now(UTC)) + timedelta(days=kept_days or FOR_EVER_DAYS)
    return ComfyJobView(
        id=str(job.id),
        status=status_of(job),
        created_at=job.created_at,
        started_at=job.started_at,
        completed_at=job.finished_at,
        expires_at=ends,
        queue_position=job.position,
        progress=progress_of(job),
        outputs=outputs_of(job, base=base, expires_at=ends),
        error=_error_of(job),
        metrics={"queue_ms": _ms(job.created_at, job.started_at), "execution_ms": _ms(job.started_at, job.finished_at)},
        metadata=_metadata(job),
        urls=ComfyJobUrls(self=path, events=f"{path}/events", cancel=f"{path}/cancel", logs=f"{path}/logs"),
    )


def job_summary(job: JobRow) -> ComfyJobSummary:
    """Return a job's row as an item of a list."""
    updated = job.finished_at or job.started_at or job.created_at
    return ComfyJobSummary(
        id=str(job.id), status=status_of(job), create_time=job.created_at, update_time=updated, metadata=_metadata(job)
    )


def status_of(job: JobRow) -> str:
    """Return the status in the Comfy API for the state of a job."""
    if job.state is State.RUNNING and job.cancel_requested_at is not None:
        return "canceling"
    return "expired" if job.error_code == "expired" else job.state.value


def progress_of(job: JobRow) -> ProgressView | None:
    """Return the progress of a job; null before it has begun."""
    if job.started_at is None:
        return None
    graph = job.input.get("graph") or {}
    value = 1.0 if job.state is State.SUCCEEDED else job.progress
    running = job.state is State.RUNNING
    at = next((node for node, one in graph.items() if running and one.get("class_type") == job.stage), None)
    return ProgressView(
        value=value,
        nodes_done=int(value * len(graph)),
        nodes_total=len(graph),
        current_node=at,
        current_node_class=job.stage if at is not None else None,
        message=(job.message or job.stage) if running else None,
    )


def outputs_of(job: JobRow, *, base: str, expires_at: datetime) -> list[OutputView]:
    """The outputs of a job, each an asset."""
    return [
        OutputView(
            node_id=str((one["facts"] or {}).get("node") or ""),
            name=str((one["facts"] or {}).get("filename") or one["filename"]),
            type=_kind(one["media_type"]),
            content_type=one["media_type"],
            size_bytes=one["size"],
            id=str(one["file_id"]),
            url=content_url(base, one["file_id"]),
            url_expires_at=expires_at,
            job_id=str(job.id),
        )
        for one in job.outputs
    ]


def content_url(base: str, file_id: UUID | str) -> str:
    """The address of the bytes of an asset."""
    return f"{base}/api/v2/assets/{file_id}/content"


def tag_of(key: str, value: str) -> str:
    """The tag of a job that keeps a label."""
    return f"{key}={value}"


def _metadata(job: JobRow) -> dict[str, str]:
    return dict(tag.split("=", 1) for tag in job.tags if "=" in tag)


def _error_of(job: JobRow) -> JobErrorView | None:
    if job.error_code is None:
        return None
    return JobErrorView(code=job.error_code, message=job.error_message or "")


def _kind(media_type: str) -> Any:
    kind = media_type.partition("/")[0]
    return kind if kind in _KINDS else "file"


def _ms(since: datetime | None, until: datetime | None) -> int | None:
    return None if since is None or until is None else int((until - since).total_seconds() * 1000)


def _later(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)
