"""Preview pictures of running jobs. They are read from the database, which has only the newest of each job."""

from __future__ import annotations

import zlib
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.http.endpoint import Answer, Endpoint
from vidqueue.api.v1.jobs import ReadHeaders, matches
from vidqueue.db.tables import outputs
from vidqueue.errors import VidqueueError

_ETAG = {"ETag": "Changes with the picture."}


async def get_preview(request: Request, job_id: UUID, headers: ReadHeaders) -> Response:
    """Download the newest preview of a running job.

    A processor that shows previews sends a new one at most once a second. There is none before the first, and none
    once the attempt has ended.
    """
    async with services_of(request).database.statement() as connection:
        picture = await outputs.preview(connection, job_id, owner=scope_of(request))
    if picture is None:
        raise VidqueueError("not_found", f"Job {job_id} has no preview now.")
    etag = f'"{zlib.crc32(picture):08x}"'
    named = {"ETag": etag, "Cache-Control": "no-cache"}
    if matches(headers.if_none_match, etag):
        return Response(status_code=304, headers=named)
    safe = {"Content-Security-Policy": "default-src 'none'; sandbox", "X-Content-Type-Options": "nosniff"}
    return Response(picture, media_type="image/jpeg", headers=named | safe)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/jobs/{job_id:uuid}/preview",
        handler=get_preview,
        tag="jobs",
        answers={
            200: Answer("A JPEG of at most 64 KiB.", {"image/jpeg": None}, _ETAG),
            304: Answer("You have this picture.", headers=_ETAG),
        },
    ),
)
