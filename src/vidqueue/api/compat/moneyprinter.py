"""The API that is compatible with MoneyPrinterTurbo (`/api/v1`): short films as tasks."""

from __future__ import annotations

import contextlib
import re
from uuid import UUID

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.compat import moneyprinter_library
from vidqueue.api.compat.moneyprinter_requests import FilmRequest, SpeechRequest, StopAt, names_of, parameters_of
from vidqueue.api.compat.moneyprinter_views import (
    TAG,
    Envelope,
    TaskAnswer,
    TaskCreated,
    TaskCreatedAnswer,
    TaskPage,
    TaskPageAnswer,
    TaskView,
    task_view,
)
from vidqueue.api.http.context import base_of, closing_of, owner_of, scope_of, services_of
from vidqueue.api.http.endpoint import json_answer
from vidqueue.api.v1.downloads import RangeHeaders, get_output
from vidqueue.api.v1.jobs import until_final
from vidqueue.db.tables import jobs, tasks
from vidqueue.db.tables.jobs import JobFilter, JobRow
from vidqueue.errors import VidqueueError
from vidqueue.job import FINAL, State
from vidqueue.jobs import control
from vidqueue.jobs.submit import JobRequest, submit

# How long a delete waits for a running task to stop, in seconds.
STOP_S = 25.0
# The highest number of tasks that pages reach back to, and that are counted.
FURTHEST, MOST_COUNTED = 1000, 10_000

_FILM = re.compile(r"(final|combined)-(\d{1,2})\.mp4")
_RANGE = re.compile(r"bytes=(\d{1,18}-\d{0,18}|-\d{1,18})", re.ASCII)


class PageQuery(BaseModel):
    """Which page of the tasks."""

    page: int = Field(1, ge=1, le=FURTHEST)
    page_size: int = Field(10, ge=1, le=100)


async def create_film(request: Request, body: FilmRequest) -> Response:
    """Make films of a script or a narration, and of materials."""
    return await _created(request, body, "film")


async def create_audio(request: Request, body: SpeechRequest) -> Response:
    """Make the narration alone."""
    return await _created(request, body, "audio")


async def create_subtitle(request: Request, body: SpeechRequest) -> Response:
    """Make the narration and its subtitles."""
    return await _created(request, body, "subtitle")


async def list_tasks(request: Request, query: PageQuery) -> Response:
    """List the tasks, newest first."""
    services, owner = services_of(request), scope_of(request)
    end = query.page * query.page_size
    if end > FURTHEST:
        raise VidqueueError("invalid_request", f"Pages reach {FURTHEST} tasks back; GET /v1/jobs lists all.")
    async with services.database.statement() as connection:
        found = await jobs.page(connection, JobFilter(owner=owner, tag=TAG, limit=end))
        total = await tasks.count(connection, TAG, owner=owner, limit=MOST_COUNTED)
    views = [await _view(request, job) for job in found[end - query.page_size :]]
    page = TaskPage(tasks=views, total=total, page=query.page, page_size=query.page_size)
    return json_answer(TaskPageAnswer(data=page))


async def get_task(request: Request, task_id: str) -> Response:
    """Read a task."""
    return json_answer(TaskAnswer(data=await _view(request, await _task(request, task_id))))


async def delete_task(request: Request, task_id: str) -> Response:
    """Remove a task with its files; one that waits or runs is canceled first."""
    job = await _task(request, task_id)
    services, owner = services_of(request), scope_of(request)
    if job.state not in FINAL:
        with contextlib.suppress(VidqueueError):  # it has just ended
            job = await control.cancel(services.database, job.id, owner=owner)
        await until_final(services, job, STOP_S, closing_of(request))
    await control.delete(services.database, services.storage, job.id, owner=owner)
    return json_answer(Envelope())


async def list_musics(request: Request) -> Response:
    """List the music that films may name."""
    return await moneyprinter_library.listed(request, "music")


async def store_music(request: Request) -> Response:
    """Store music."""
    return await moneyprinter_library.stored(request, "music")


async def list_materials(request: Request) -> Response:
    """List the videos and pictures that films may name."""
    return await moneyprinter_library.listed(request, "material")


async def store_material(request: Request) -> Response:
    """Store a video or a picture."""
    return await moneyprinter_library.stored(request, "material")


async def stream_file(request: Request, task_id: str, file: str, headers: RangeHeaders) -> Response:
    """Play a file of a task. The answer is always 206, whether a range was asked for or not."""
    wanted = headers.range if _RANGE.fullmatch(headers.range or "") else "bytes=0-"
    others = [(name, value) for name, value in request.scope["headers"] if name != b"range"]
    request.scope["headers"] = [*others, (b"range", str(wanted).encode())]
    headers = RangeHeaders.model_validate({"Range": wanted})
    return await _shown(request, task_id, file, headers)


async def show_file(request: Request, task_id: str, file: str, headers: RangeHeaders) -> Response:
    """Read a file of a task."""
    return await _shown(request, task_id, file, headers)


async def download_file(request: Request, task_id: str, file: str, headers: RangeHeaders) -> Response:
    """Download a file of a task."""
    job = await _task(request, task_id)
    return await get_output(request, job.id, _output_of(file), headers)


async def _created(request: Request, body: SpeechRequest, stop_at: StopAt) -> Response:
    services = services_of(request)
    if body.bgm_type == "random" and not body.bgm_file and stop_at == "film":
        body = body.model_copy(update={"bgm_file": await _any_music(request, body.idempotency_key)})
    reference = await moneyprinter_library.references(request, names_of(body))
    job_request = JobRequest(
        processor="compose",
        input=parameters_of(body, stop_at, reference),
        title=(body.video_subject or body.video_script)[:500] or None,
        tags=[TAG],
    )
    submitted = await submit(
        job_request, database=services.database, inputs=services.inputs, owner=owner_of(request),
        idempotency_key=body.idempotency_key,
    )  # fmt: skip
    return json_answer(TaskCreatedAnswer(data=TaskCreated(task_id=str(submitted.job.id))))


async def _any_music(request: Request, key: str | None) -> str:
    """Choose music of the owner at random; a request that is sent again gets the music of its task."""
    if key is not None:
        async with services_of(request).database.statement() as connection:
            known = await jobs.of_key(connection, owner_of(request), key)
            earlier = await jobs.get(connection, known[0]) if known else None
        if earlier is not None:
            return str(earlier.input.get("music") or "")
    return await moneyprinter_library.any_music(request) or ""


async def _task(request: Request, task_id: str) -> JobRow:
    """The job of a task.

    Raises:
        VidqueueError: `not_found`.
    """
    services = services_of(request)
    try:
        job = await control.read(services.database, UUID(task_id), owner=scope_of(request))
    except (ValueError, VidqueueError) as error:
        if isinstance(error, VidqueueError) and error.code != "not_found":
            raise
        raise VidqueueError("not_found", "task not found") from None
    if TAG not in job.tags:
        raise VidqueueError("not_found", "task not found")
    return job


async def _view(request: Request, job: JobRow) -> TaskView:
    services = services_of(request)
    reached = 0.0
    if job.attempt > 1 or (job.attempt and job.state is State.QUEUED):
        # A later attempt begins at 0 again, but clients expect that progress never falls.
        async with services.database.statement() as connection:
            reached = await tasks.furthest(connection, job.id)
    queued = services.settings.moneyprinter.queued_state
    return task_view(job, base=base_of(request), queued_state=queued, reached=reached)


async def _shown(request: Request, task_id: str, file: str, headers: RangeHeaders) -> Response:
    job = await _task(request, task_id)
    answer = await get_output(request, job.id, _output_of(file), headers)
    if "content-disposition" in answer.headers:
        answer.headers["content-disposition"] = answer.headers["content-disposition"].replace("attachment", "inline", 1)
    return answer


def _output_of(file: str) -> str:
    """The output that clients know by this name of a file.

    Raises:
        VidqueueError: `not_found`.
    """
    if found := _FILM.fullmatch(file):
        return f"{found[1]}_{found[2]}"
    name = {"subtitle": "subtitles", "subtitles": "subtitles", "audio": "audio"}.get(file.partition(".")[0])
    if name is None:
        raise VidqueueError("not_found", "file not found")
    return name
