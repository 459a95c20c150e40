"""Responses of the MoneyPrinterTurbo API: tasks, files, and the envelope around every response."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, Field

from vidqueue.api.http.problems import Problem
from vidqueue.db.tables.jobs import JobRow
from vidqueue.job import State

TAG = "moneyprinter"
COMPLETE, PROCESSING, FAILED = 1, 4, -1
# HTTP statuses of MoneyPrinterTurbo for codes of vidqueue.
_STATUSES = {"idempotency_mismatch": 409, "not_found": 404}


class Envelope(BaseModel):
    """The envelope of every response."""

    status: int = 200
    message: str = "success"
    data: Any = None


class TaskCreated(BaseModel):
    """A task that was queued."""

    task_id: str


class TaskView(BaseModel):
    """A task with the fields of MoneyPrinterTurbo, and the reason if it failed."""

    task_id: str
    state: int = Field(description="4 while it waits or runs, 1 when it is complete, -1 when it has failed.")
    progress: int = Field(description="0 to 100.")
    videos: list[str] = []
    combined_videos: list[str] = []
    audio_file: str | None = None
    audio_duration: int | None = None
    subtitle_path: str | None = None
    script: str | None = None
    terms: list[str] | None = None
    materials: list[str] | None = None
    error: str | None = Field(None, description="Why it failed.")
    error_code: str | None = None
    job_id: str


class TaskPage(BaseModel):
    """Some tasks, newest first."""

    tasks: list[TaskView]
    total: int = Field(description="How many there are; counted up to 10,000.")
    page: int
    page_size: int


class NamedFile(BaseModel):
    """A file of the library; requests name it with `file` or `name`."""

    name: str
    size: int
    file: str


class NamedFiles(BaseModel):
    """Files of the library."""

    files: list[NamedFile]


class FileStored(BaseModel):
    """A file that was stored in the library."""

    file: str
    name: str


class TaskCreatedAnswer(Envelope):
    """A task was queued."""

    data: TaskCreated


class TaskAnswer(Envelope):
    """A task."""

    data: TaskView


class TaskPageAnswer(Envelope):
    """Some tasks."""

    data: TaskPage


class NamedFilesAnswer(Envelope):
    """Files of the library."""

    data: NamedFiles


class FileStoredAnswer(Envelope):
    """A file was stored."""

    data: FileStored


class EnvelopedProblem(Problem):
    """A problem in the envelope."""

    message: str
    data: None = None


def enveloped_problem(problem: Problem) -> EnvelopedProblem:
    """The problem with what clients of MoneyPrinterTurbo read; what can never work is 400, as they expect."""
    status = _STATUSES.get(problem.code, 400 if problem.status == 422 else problem.status)
    message = f"{problem.request_id}: {problem.detail}"
    return EnvelopedProblem(**{**dict(problem), "status": status}, message=message)


def task_view(job: JobRow, *, base: str, queued_state: Literal[4, 0], reached: float) -> TaskView:
    """A job as a task; `reached` is the largest share of the work that any of its attempts has done."""
    made = {one["name"]: one for one in job.outputs}
    facts: dict[str, Any] = next((one["facts"] for one in job.outputs if one["facts"]), {})
    length_s = facts.get("audio_duration_s")
    materials = job.input.get("materials")
    return TaskView(
        task_id=str(job.id),
        state=_state(job, queued_state),
        progress=100 if job.state is State.SUCCEEDED else int(max(job.progress, reached) * 100),
        videos=[f"{base}/tasks/{job.id}/{file_of(name)}" for name in _numbered(made, "final_")],
        combined_videos=[f"{base}/tasks/{job.id}/{file_of(name)}" for name in _numbered(made, "combined_")],
        audio_file=f"{base}/tasks/{job.id}/audio" if "audio" in made else _recording(job, base),
        audio_duration=math.ceil(length_s) if isinstance(length_s, int | float) else None,
        subtitle_path=f"{base}/tasks/{job.id}/subtitle.srt" if "subtitles" in made else None,
        script=facts.get("script") or job.input.get("script"),
        materials=materials if isinstance(materials, list) else None,
        error=_error(job),
        error_code="canceled" if job.state is State.CANCELED else job.error_code,
        job_id=str(job.id),
    )


def file_of(output: str) -> str:
    """The name under which clients know an output: `final_1` is `final-1.mp4`."""
    return f"{output.replace('_', '-')}.mp4"


def _state(job: JobRow, queued_state: int) -> int:
    if job.state is State.SUCCEEDED:
        return COMPLETE
    if job.state in (State.FAILED, State.CANCELED):
        return FAILED
    return PROCESSING if job.state is State.RUNNING else queued_state


def _error(job: JobRow) -> str | None:
    if job.state is State.CANCELED:
        return "The task was canceled."
    return f"{job.error_message} {job.error_hint or ''}".strip() if job.state is State.FAILED else None


def _numbered(made: dict[str, Any], beginning: str) -> list[str]:
    return sorted((name for name in made if name.startswith(beginning)), key=lambda name: int(name[len(beginning) :]))


def _recording(job: JobRow, base: str) -> str | None:
    """Where the recording of the request lies."""
    given = job.input.get("audio")
    if not isinstance(given, str) or job.state is not State.SUCCEEDED:
        return None
    return f"{base}/v1/files/{given.removeprefix('vq:files/')}/content" if given.startswith("vq:files/") else given
