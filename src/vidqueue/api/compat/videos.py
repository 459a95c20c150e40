"""The API that is compatible with OpenAI's video API (`/v1/videos`), for the official `openai` client."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.compat import video_models, video_requests
from vidqueue.api.compat.replicate import model_threads
from vidqueue.api.compat.video_requests import Received, VideoRequest
from vidqueue.api.compat.video_variants import remove_variants, variant_of
from vidqueue.api.compat.video_views import (
    VideoDeleted,
    VideoPage,
    VideoView,
    poll_after_ms,
    video_of,
    video_view,
)
from vidqueue.api.http.context import closing_of, owner_of, scope_of, services_of
from vidqueue.api.http.endpoint import json_answer
from vidqueue.api.v1.downloads import RangeHeaders, get_output
from vidqueue.api.v1.jobs import SubmitHeaders, until_final
from vidqueue.db.tables import jobs
from vidqueue.db.tables.jobs import JobFilter, JobRow
from vidqueue.errors import VidqueueError
from vidqueue.job import FINAL
from vidqueue.jobs import control
from vidqueue.jobs.submit import JobRequest, submit
from vidqueue.services import Services
from vidqueue.settings.compat import VideosSettings

# The jobs of this API have this tag, and one for the alias that the request named.
TAG, ALIAS_TAG = "videos", "model:"
# How long a delete waits for a running job to stop, in seconds.
STOP_S = 25.0


class ListQuery(BaseModel):
    """The query of the list of videos."""

    after: UUID | None = Field(None, description="The last id of the page before.")
    limit: int = Field(20, ge=1, le=100, description="Videos on one page.")
    order: Literal["asc", "desc"] = Field("desc", description="Oldest or newest first.")


class ContentQuery(BaseModel):
    """The query of a download."""

    variant: Literal["video", "thumbnail", "spritesheet"] = Field(
        "video", description="A thumbnail or a spritesheet is made at the first request."
    )


async def create_video(request: Request, headers: SubmitHeaders) -> Response:
    """Create a video.

    A form, or JSON. `model` is an alias of `videos.models`, `owner/name` as `/v1/models` lists them, or a processor.
    Any other field goes to the parameter of its name.
    """
    job, settings = await _created(request, headers)
    return await _answer(job, settings)


async def create_video_and_wait(request: Request, headers: SubmitHeaders) -> Response:
    """Create a video and answer with its bytes.

    202 with the video's description if that takes longer than `api.max_wait_s`.
    """
    job, settings = await _created(request, headers)
    services = services_of(request)
    job = await until_final(services, job, services.settings.api.max_wait_s, closing_of(request))
    if job.state not in FINAL:
        return await _answer(job, settings, 202)
    return await _content(request, job, "video", RangeHeaders.model_validate({}))


async def get_video(request: Request, video_id: UUID) -> Response:
    """Read a video's state."""
    settings = services_of(request).settings.videos
    job = await control.read(services_of(request).database, video_id, owner=scope_of(request))
    return await _answer(job, settings)


async def list_videos(request: Request, query: ListQuery) -> Response:
    """List the videos that were created at this address."""
    settings = services_of(request).settings.videos
    services, owner = services_of(request), scope_of(request)
    oldest = query.order == "asc"
    wanted = JobFilter(owner=owner, tag=TAG, after=query.after, limit=query.limit + 1, from_oldest=oldest)
    async with services.database.statement() as connection:
        found = await jobs.page(connection, wanted)
    found = found[::-1] if oldest else found
    views = await _views(found[: query.limit], settings)
    ids = [view.id for view in views]
    page = VideoPage(
        data=views, first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None,
        has_more=len(found) > query.limit,
    )  # fmt: skip
    return json_answer(page)


async def get_video_content(request: Request, video_id: UUID, query: ContentQuery, headers: RangeHeaders) -> Response:
    """Download a video, or a picture of it."""
    job = await control.read(services_of(request).database, video_id, owner=scope_of(request))
    return await _content(request, job, query.variant, headers)


async def delete_video(request: Request, video_id: UUID) -> Response:
    """Delete a video; one that is not finished is canceled first."""
    services, owner = services_of(request), scope_of(request)
    job = await control.read(services.database, video_id, owner=owner)
    if job.state not in FINAL:
        with contextlib.suppress(VidqueueError):  # it has just ended
            job = await control.cancel(services.database, video_id, owner=owner)
        job = await until_final(services, job, STOP_S, closing_of(request))
    await remove_variants(services, job)
    await control.delete(services.database, services.storage, video_id, owner=owner)
    return json_answer(VideoDeleted(id=str(video_id)))


async def _created(request: Request, headers: SubmitHeaders) -> tuple[JobRow, VideosSettings]:
    services = services_of(request)
    settings = services.settings.videos
    received = await video_requests.received(request)
    try:
        return await _submitted(request, received.request, headers.idempotency_key, settings), settings
    except VidqueueError:
        await _forget(services, received, owner_of(request))
        raise


async def _submitted(request: Request, body: VideoRequest, key: str | None, settings: VideosSettings) -> JobRow:
    name = body.model or settings.default_model
    if not name:
        fault = {"pointer": "/model", "detail": "Field required"}
        raise VidqueueError("invalid_request", "The request names no model.", errors=[fault])
    model = await model_threads.run(video_models.find, name, settings)
    given = await model_threads.run(model.input_of, body.fields(request.url.netloc))
    job_request = JobRequest(
        processor=model.processor,
        input=given,
        title=body.prompt[:500],
        tags=[TAG, f"{ALIAS_TAG}{name}"] if name in settings.models else [TAG],
    )
    services = services_of(request)
    submitted = await submit(
        job_request, database=services.database, inputs=services.inputs, owner=owner_of(request), idempotency_key=key
    )
    return submitted.job


async def _forget(services: Services, received: Received, owner: str) -> None:
    """Delete the file of a request that was refused."""
    if received.file_id is not None:
        with contextlib.suppress(VidqueueError):
            await control.delete_file(services.database, services.storage, received.file_id, owner=owner)


async def _content(request: Request, job: JobRow, variant: str, headers: RangeHeaders) -> Response:
    made = video_of(job)
    if made is None:
        (view,) = await _views([job], services_of(request).settings.videos)
        why = f": {view.error.message}" if view.error else ""
        raise VidqueueError("not_found", f"The video is not available: its status is {view.status}{why}.")
    if variant == "video":
        return await get_output(request, job.id, made["name"], headers)
    job_id, name = await variant_of(request, job, made, variant)
    return await get_output(request, job_id, name, headers)


async def _answer(job: JobRow, settings: VideosSettings, status: int = 200) -> Response:
    (view,) = await _views([job], settings)
    after_ms = poll_after_ms(job, (datetime.now(UTC) - job.created_at).total_seconds())
    return json_answer(view, status, {} if after_ms is None else {"openai-poll-after-ms": str(after_ms)})


async def _views(found: Sequence[JobRow], settings: VideosSettings) -> list[VideoView]:
    return await model_threads.run(lambda: [video_view(job, _model_of(job, settings)) for job in found])


def _model_of(job: JobRow, settings: VideosSettings) -> video_models.VideoModel | None:
    aliases = [tag.removeprefix(ALIAS_TAG) for tag in job.tags if tag.startswith(ALIAS_TAG)]
    return video_models.of_job(job.processor, job.input, settings, next(iter(aliases), ""))
