"""A job as a video, in the shape that the clients of OpenAI's video API expect."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from vidqueue.api.compat.models import model_of
from vidqueue.api.compat.video_models import VideoModel
from vidqueue.api.http.problems import Problem
from vidqueue.db.tables.jobs import JobRow
from vidqueue.job import FINAL, State

# Clients treat any other status as an error of the server.
_STATUS: dict[State, Literal["queued", "in_progress", "completed", "failed"]] = {
    State.QUEUED: "queued",
    State.RUNNING: "in_progress",
    State.SUCCEEDED: "completed",
    State.FAILED: "failed",
    State.CANCELED: "failed",
}


class VideoError(BaseModel):
    """The error of a video that could not be made."""

    code: str = Field(description="Stable code; `canceled` for a job that was canceled.")
    message: str


class VideoView(BaseModel):
    """A video: a job, as the clients of OpenAI's video API see it."""

    id: str = Field(description="The id of the job.")
    object: Literal["video"] = "video"
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int = Field(description="0 to 100.")
    created_at: int = Field(description="In seconds since 1970, like the other times.")
    completed_at: int | None
    expires_at: int | None = Field(description="When it is removed, if that is known.")
    prompt: str | None
    seconds: str | None = Field(description="Requested length; once the video is finished, its actual length.")
    size: str | None = Field(description="Requested width and height; once the video is finished, its actual ones.")
    remixed_from_video_id: str | None = None
    error: VideoError | None


class VideoPage(BaseModel):
    """Some videos."""

    object: Literal["list"] = "list"
    data: list[VideoView]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VideoDeleted(BaseModel):
    """A deleted video."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


class OpenaiError(BaseModel):
    """An error, as the clients of OpenAI read it."""

    message: str
    type: str
    param: str | None
    code: str


class OpenaiProblem(Problem):
    """A problem document with the fields that the clients of OpenAI read."""

    error: OpenaiError


def openai_problem(problem: Problem) -> OpenaiProblem:
    """Add the fields that the clients of OpenAI read to a problem document."""
    kind = "invalid_request_error" if problem.status < 500 else "server_error"
    param = problem.errors[0].pointer.lstrip("/?") if problem.errors else None
    message = f"{problem.detail} {problem.hint}".strip()
    error = OpenaiError(message=message, type=kind, param=param or None, code=problem.code)
    return OpenaiProblem(**dict(problem), error=error)


def video_view(job: JobRow, model: VideoModel | None) -> VideoView:
    """A job's row as a video; `model` is the one that it runs, where that is known."""
    made = video_of(job)
    seconds, size = _measured(made["facts"] or {}) if made else (None, None)
    return VideoView(
        id=str(job.id),
        model=model.name if model else model_of(job.processor, job.input)[0],
        status=_STATUS[job.state],
        progress=100 if job.state is State.SUCCEEDED else int(job.progress * 100),
        created_at=int(job.created_at.timestamp()),
        completed_at=int(job.finished_at.timestamp()) if job.finished_at and job.state is State.SUCCEEDED else None,
        expires_at=int(job.kept_until.timestamp()) if job.kept_until else None,
        prompt=_text(model and model.value(job.input, "prompt")) or job.title,
        seconds=seconds or _text(model and model.value(job.input, "seconds")),
        size=size or _asked_size(job, model),
        error=_error(job),
    )


def video_of(job: JobRow) -> dict[str, Any] | None:
    """The output that is the video; the first file where none is a video."""
    if job.state is not State.SUCCEEDED:
        return None
    files = [one for one in job.outputs if one["name"] != "result" or len(job.outputs) == 1]
    videos = [one for one in files if one["media_type"].startswith("video/")]
    return next(iter(videos or files), None)


def poll_after_ms(job: JobRow, age_s: float) -> int | None:
    """Return the polling interval for clients: a tenth of the time that the job has taken so far."""
    return None if job.state in FINAL else int(min(5000, max(250, age_s * 100)))


def _measured(facts: dict[str, Any]) -> tuple[str | None, str | None]:
    video = facts.get("video")
    video = video if isinstance(video, dict) else facts
    duration, width, height = facts.get("duration_s"), video.get("width"), video.get("height")
    seconds = f"{round(duration, 3):g}" if isinstance(duration, int | float) and duration > 0 else None
    size = f"{width}x{height}" if isinstance(width, int) and isinstance(height, int) else None
    return seconds, size


def _asked_size(job: JobRow, model: VideoModel | None) -> str | None:
    if model is None:
        return None
    width, height = model.value(job.input, "width"), model.value(job.input, "height")
    return _text(model.value(job.input, "size")) or (f"{width}x{height}" if width and height else None)


def _text(value: Any) -> str | None:
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if isinstance(value, str | int) else None


def _error(job: JobRow) -> VideoError | None:
    if job.state is State.CANCELED:
        return VideoError(code="canceled", message="The job was canceled.")
    if job.state is not State.FAILED:
        return None
    message = f"{job.error_message} {job.error_hint or ''}".strip()
    return VideoError(code=job.error_code or "internal_error", message=message)
