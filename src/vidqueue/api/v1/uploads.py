"""Resumable uploads over HTTP: tus 1.0 with creation, termination and expiration (https://tus.io/protocols/resumable-upload)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from uuid import UUID

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from uuid_utils.compat import uuid7

from vidqueue.api.http import problems
from vidqueue.api.http.context import base_of, principal_of, scope_of, services_of
from vidqueue.api.http.endpoint import JSON, Answer, Endpoint, json_answer
from vidqueue.api.http.requests import media_type_of
from vidqueue.api.v1.files import body_of
from vidqueue.api.v1.jobs import ForOwner
from vidqueue.api.v1.upload_views import (
    RESUMABLE,
    VERSION,
    UploadsList,
    UploadState,
    read_metadata,
    tus_headers,
    upload_state,
    upload_url,
)
from vidqueue.db.tables import uploads as rows
from vidqueue.db.tables.uploads import NewUpload, UploadRow
from vidqueue.errors import VidqueueError, is_no_space
from vidqueue.jobs.probes import ANSWER_WITHIN_S, Probes
from vidqueue.jobs.uploads import Uploads
from vidqueue.storage import names

PATCH_TYPE = "application/offset+octet-stream"
LIST_LIMIT = 100
_DIGITS = re.compile(r"\d+", re.ASCII)
# Below an exabyte: neither the database nor `int` accepts numbers of any length.
_MOST_DIGITS = 18
_SHA256 = re.compile(r"[0-9a-f]{64}")

Act = Callable[[], Awaitable[Response]]


class UploadsQuery(BaseModel):
    """Which unfinished uploads."""

    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="Only those that were announced with it.")
    owner: str | None = Field(None, min_length=1, max_length=200, description="Of this owner; needs the role operate.")


async def describe_tus(request: Request) -> Response:
    """Read the capabilities for resumable uploads: version, extensions and largest size."""
    headers = RESUMABLE | {"Tus-Version": VERSION, "Tus-Extension": "creation,termination,expiration"}
    if most := _uploads(request).max_size:
        headers["Tus-Max-Size"] = str(most)
    return Response(status_code=204, headers=headers)


async def list_uploads(request: Request, query: UploadsQuery) -> Response:
    """List the newest unfinished uploads of an owner, to find one to continue."""
    services, owner = services_of(request), principal_of(request).acting_for(query.owner)
    async with services.database.statement() as connection:
        found = await rows.unfinished(connection, owner=owner, sha256=query.sha256, limit=LIST_LIMIT)
    return json_answer(UploadsList(uploads=[upload_state(one, base_of(request)) for one in found]))


async def create_upload(request: Request, query: ForOwner) -> Response:
    """Create a resumable upload.

    `Upload-Length` says how many bytes will come, `Upload-Metadata` has `filename`, `filetype` and `sha256` if they are
    known. The bytes are sent with PATCH to the address in `Location`.
    """
    owner = principal_of(request).acting_for(query.owner)

    async def act() -> Response:
        upload = await _uploads(request).begin(_wanted(request, owner))
        location = {"Location": upload_url(upload, base_of(request))}
        return json_answer(upload_state(upload, base_of(request)), 201, tus_headers(upload) | location)

    return await _with_tus(request, act)


async def get_upload(request: Request, upload_id: UUID) -> Response:
    """Read how many bytes of an upload have arrived: in `Upload-Offset` for HEAD, in JSON for GET."""

    async def act() -> Response:
        upload = await _uploads(request).get(upload_id, owner=scope_of(request))
        headers = tus_headers(upload) | {"Cache-Control": "no-store"}
        return json_answer(upload_state(upload, base_of(request)), headers=headers)

    return await _with_tus(request, act)


async def append_upload(request: Request, upload_id: UUID) -> Response:
    """Send bytes of an upload, beginning at `Upload-Offset`.

    Whatever arrives is kept, also of a request that breaks off. With the last byte the upload becomes the file that
    `Content-Location` names.
    """

    async def act() -> Response:
        if media_type_of(request) != PATCH_TYPE:
            hint = f"Send `Content-Type: {PATCH_TYPE}`."
            raise VidqueueError("unsupported_media_type", "The Content-Type is not that of tus.", hint=hint)
        offset = _number(request, "Upload-Offset")
        async with body_of(request) as body:
            upload = await _uploads(request).append(upload_id, offset, body, owner=scope_of(request))
        if upload.finished_at is not None:
            await _probe(request, upload)
        return Response(status_code=204, headers=tus_headers(upload))

    return await _with_tus(request, act)


async def delete_upload(request: Request, upload_id: UUID) -> Response:
    """Delete an unfinished upload with its bytes. If it has become a file, the file stays."""

    async def act() -> Response:
        await _uploads(request).remove(upload_id, owner=scope_of(request))
        return Response(status_code=204, headers=RESUMABLE)

    return await _with_tus(request, act)


async def post_upload(request: Request, upload_id: UUID) -> Response:
    """Send bytes or delete an upload, for clients without PATCH and DELETE (`X-HTTP-Method-Override`)."""
    match request.headers.get("x-http-method-override", "").upper():
        case "PATCH":
            return await append_upload(request, upload_id)
        case "DELETE":
            return await delete_upload(request, upload_id)
    error = VidqueueError("method_not_allowed", "POST needs X-HTTP-Method-Override: PATCH or DELETE here.")
    return problems.answer(request, error, RESUMABLE | {"Allow": "DELETE, GET, HEAD, PATCH"})


async def _with_tus(request: Request, act: Act) -> Response:
    """Add the headers of tus to responses, and require Tus-Resumable for methods that change an upload."""
    try:
        if request.method != "GET" and request.headers.get("tus-resumable") != VERSION:
            raise VidqueueError("tus_version", "The request has no Tus-Resumable header with a version that is known.")
        return await act()
    except VidqueueError as error:
        more = {"Tus-Version": VERSION} if error.code == "tus_version" else {}
        return problems.answer(request, error, RESUMABLE | more)
    except OSError as error:
        if not is_no_space(error):
            raise
        return problems.answer(request, VidqueueError("no_space", "There is no room for the upload."), RESUMABLE)


def _wanted(request: Request, owner: str) -> NewUpload:
    """The upload that a POST asks for.

    Raises:
        VidqueueError: `invalid_request`, `input_empty`.
    """
    length = _number(request, "Upload-Length")
    if length == 0:
        raise VidqueueError("input_empty", "The upload has no bytes.")
    given = request.headers.get("upload-metadata", "")
    told = read_metadata(given)
    name = names.label(told.get("filename") or told.get("name") or "")
    sha256 = told.get("sha256", "").lower() or None
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise VidqueueError("invalid_request", "The sha256 in Upload-Metadata is not 64 hexadecimal digits.")
    return NewUpload(
        id=uuid7(),
        owner=owner,
        length=length,
        name=name,
        media_type=names.media_type((told.get("filetype") or told.get("type") or "").lower(), name),
        metadata=given,
        sha256=sha256,
        node=services_of(request).storage.node,
    )


def _number(request: Request, name: str) -> int:
    given = request.headers.get(name, "")
    if not _DIGITS.fullmatch(given):
        fault = {"pointer": name, "detail": "It must be a number of bytes."}
        raise VidqueueError("invalid_request", f"The header {name} is missing or is not a number.", errors=[fault])
    if len(digits := given.lstrip("0")) > _MOST_DIGITS:
        raise VidqueueError("payload_too_large", f"The value of the header {name} is too large.")
    return int(digits or "0")


async def _probe(request: Request, upload: UploadRow) -> None:
    """Have the new file probed; its facts are usually there when the last piece is answered."""
    probes: Probes = request.app.state.probes
    probing = probes.begin(upload.id, owner=upload.owner)
    probes.write_later(probing, upload.id)
    await asyncio.wait([probing], timeout=ANSWER_WITHIN_S)


def _uploads(request: Request) -> Uploads:
    uploads: Uploads = request.app.state.uploads
    return uploads


_TUS = {"Tus-Resumable": "`1.0.0`."}
_OFFSET = _TUS | {
    "Upload-Offset": "Bytes that have arrived.",
    "Upload-Length": "Bytes of the whole file.",
    "Upload-Expires": "When the upload is removed if no more bytes arrive.",
    "Content-Location": "Address of the file, once the upload is whole.",
}
_APPEND_ERRORS = (
    "tus_version", "unsupported_media_type", "upload_offset", "upload_locked", "upload_damaged", "payload_too_large",
    "limit_reached", "no_space", "request_timeout", "file_elsewhere", "invalid_request",
)  # fmt: skip
_BYTES = {PATCH_TYPE: {"type": "string", "contentMediaType": "application/octet-stream"}}

ENDPOINTS = (
    Endpoint(
        method="OPTIONS",
        path="/v1/uploads",
        handler=describe_tus,
        tag="files",
        public=True,
        answers={
            204: Answer("What is possible.", headers=_TUS | {"Tus-Version": "`1.0.0`.", "Tus-Extension": "Which."})
        },
    ),
    Endpoint(
        method="GET",
        path="/v1/uploads",
        handler=list_uploads,
        tag="files",
        answers={200: Answer("Unfinished uploads.", {JSON: UploadsList})},
    ),
    Endpoint(
        method="POST",
        path="/v1/uploads",
        handler=create_upload,
        tag="files",
        answers={201: Answer("Bytes may come.", {JSON: UploadState}, _OFFSET | {"Location": "Address of the upload."})},
        errors=("tus_version", "payload_too_large", "limit_reached", "no_space", "input_empty"),
    ),
    Endpoint(
        method="GET",
        path="/v1/uploads/{upload_id:uuid}",
        handler=get_upload,
        tag="files",
        answers={200: Answer("The upload.", {JSON: UploadState}, _OFFSET)},
        errors=("tus_version", "upload_locked", "upload_damaged"),
    ),
    Endpoint(
        method="PATCH",
        path="/v1/uploads/{upload_id:uuid}",
        handler=append_upload,
        tag="files",
        answers={204: Answer("The bytes are stored.", headers=_OFFSET)},
        errors=_APPEND_ERRORS,
        raw_body=_BYTES,
    ),
    Endpoint(
        method="DELETE",
        path="/v1/uploads/{upload_id:uuid}",
        handler=delete_upload,
        tag="files",
        answers={204: Answer("The upload is gone.", headers=_TUS)},
        errors=("tus_version",),
    ),
    Endpoint(
        method="POST",
        path="/v1/uploads/{upload_id:uuid}",
        handler=post_upload,
        tag="files",
        answers={204: Answer("Done, as with the method that the header names.", headers=_OFFSET)},
        errors=(*_APPEND_ERRORS, "method_not_allowed"),
        raw_body=_BYTES,
    ),
)
