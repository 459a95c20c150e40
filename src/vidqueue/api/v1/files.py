"""Files over HTTP: streamed uploads (a form or the raw bytes), metadata, deletion."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from urllib.parse import unquote
from uuid import UUID

from pydantic import BaseModel, Field
from python_multipart.multipart import parse_options_header
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import base_of, owner_of, principal_of, scope_of, services_of
from vidqueue.api.http.endpoint import json_answer
from vidqueue.api.http.multipart import FilePart, Part
from vidqueue.api.http.requests import chunks, media_type_of, refuse_too_long
from vidqueue.api.v1.file_views import UploadView, file_view
from vidqueue.api.v1.jobs import ForOwner
from vidqueue.api.v1.views import ErrorView
from vidqueue.db.tables import files
from vidqueue.db.tables.files import FileRow, NewFile
from vidqueue.errors import VidqueueError, is_no_space
from vidqueue.jobs import control
from vidqueue.jobs.probes import Facts, Probes
from vidqueue.jobs.quota import require_room
from vidqueue.services import Services
from vidqueue.storage import names
from vidqueue.storage.disk_space import Reservations
from vidqueue.storage.local import Stored

# What a form may add to the file: boundaries and the headers of one part.
FORM_ALLOWANCE = 16 * 1024
_EXTENDED_NAME = re.compile(r"filename\*\s*=\s*utf-8''([^;\s]+)", re.IGNORECASE)


class UploadQuery(ForOwner):
    """Query of an upload."""

    name: str | None = Field(None, max_length=1024, description="File name to show to people.")


class UploadHeaders(BaseModel):
    """Headers of an upload."""

    content_disposition: str | None = Field(
        None, alias="Content-Disposition", description="`attachment; filename=...` also gives the label."
    )


@dataclass(frozen=True, slots=True)
class Received:
    """Stored bytes, with the name and media type that the client gave."""

    stored: Stored
    name: str
    media_type: str


async def upload_file(request: Request, query: UploadQuery, headers: UploadHeaders) -> Response:
    """Store a file.

    Either a form with one part named `file`, or the raw bytes. Media is probed; what cannot be read as media is stored
    all the same, and `problem` says why. A probe that takes longer than two seconds goes on after the answer: `problem`
    is `probe_pending` then, and the facts appear in the file once they are there.
    """
    services, owner = services_of(request), principal_of(request).acting_for(query.owner)
    limit = services.settings.inputs.max_upload_mib * 1024 * 1024
    async with services.database.statement() as connection:
        await require_room(connection, owner, announced(request) or 1)
    try:
        if media_type_of(request) == "multipart/form-data":
            received = await _receive_form(request, services, limit)
        else:
            received = await _receive_raw(request, services, limit)
    except OSError as error:
        raise storage_refuses(error) from error
    label = query.name or received.name or _name_in(headers.content_disposition)
    view = await keep(request, received, label, owner)
    return json_answer(view, 201, {"Location": view.urls.self})


async def receive_part(request: Request, part: Part) -> UploadView:
    """Store a file that is a part of a form with other fields.

    Raises:
        VidqueueError: `limit_reached`, `payload_too_large`, `no_space`.
    """
    services, owner = services_of(request), owner_of(request)
    limit = services.settings.inputs.max_upload_mib * 1024 * 1024
    # How large one part of a form is, nobody knows beforehand.
    async with services.database.statement() as connection:
        await require_room(connection, owner, 1)
    try:
        stored = await services.storage.receive(part.data, limit=limit)
    except OSError as error:
        raise storage_refuses(error) from error
    name = part.filename or ""
    return await keep(request, Received(stored, name, part.media_type), name, owner)


def _days(services: Services) -> float:
    return services.settings.retention.uploads_days


async def keep(request: Request, received: Received, label: str, owner: str) -> UploadView:
    """Probe stored bytes and write their row."""
    services = services_of(request)
    probes: Probes = request.app.state.probes
    probing = probes.begin(received.stored.id, owner=owner)
    try:
        facts, problem = await _look_at(probes, probing, services, received.stored)
        file = await _write_down(services, received, names.label(label), owner, facts)
    finally:
        services.storage.release(received.stored.id)
    if not probing.done():
        probes.write_later(probing, file.id)
    return UploadView(problem=problem, **dict(file_view(file, base=base_of(request), days=_days(services))))


async def get_file(request: Request, file_id: UUID) -> Response:
    """Read the metadata and media facts of a file."""
    services = services_of(request)
    async with services.database.statement() as connection:
        found = await files.get(connection, file_id, owner=scope_of(request))
    if found is None:
        raise VidqueueError("not_found", f"There is no file {file_id}.")
    return json_answer(file_view(found, base=base_of(request), days=_days(services)))


async def delete_file(request: Request, file_id: UUID) -> Response:
    """Delete a file that no job has published or still has to read."""
    services = services_of(request)
    await control.delete_file(services.database, services.storage, file_id, owner=scope_of(request))
    return Response(status_code=204)


async def _receive_raw(request: Request, services: Services, limit: int) -> Received:
    refuse_too_long(request, limit)
    async with body_of(request) as body:
        stored = await services.storage.receive(body, limit=limit)
    return Received(stored, "", media_type_of(request))


async def _receive_form(request: Request, services: Services, limit: int) -> Received:
    refuse_too_long(request, limit + FORM_ALLOWANCE)
    async with body_of(request) as body:
        part = FilePart(request.headers["content-type"], _at_most(body, limit + FORM_ALLOWANCE))
        stored = await services.storage.receive(part.data(), limit=limit)
    return Received(stored, part.name, part.media_type)


def announced(request: Request) -> int | None:
    """Return the Content-Length of a request, if it has one."""
    given = request.headers.get("content-length", "")
    return int(given) if given.isdecimal() else None


def body_of(request: Request) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
    """Yield the body, refused where the disk has no room for it besides what other uploads have reserved."""
    reservations: Reservations = request.app.state.reservations
    return reservations.counted(chunks(request), announced(request))


async def _at_most(body: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Limit the size of the whole form; storage limits the file inside it."""
    size = 0
    async for chunk in body:
        size += len(chunk)
        if size > limit:
            raise VidqueueError("payload_too_large", f"The form has more than {limit} bytes.")
        yield chunk


async def _look_at(
    probes: Probes, probing: asyncio.Task[Facts], services: Services, stored: Stored
) -> tuple[Facts | None, ErrorView | None]:
    """The facts of a media file, or why there are none (yet)."""
    try:
        return await probes.answer(probing), None
    except VidqueueError as error:
        return None, ErrorView.of(error)
    except asyncio.CancelledError:
        probing.cancel()
        services.storage.cleaning.submit(services.storage.delete, stored.id)
        raise


async def _write_down(services: Services, received: Received, label: str, owner: str, facts: Facts | None) -> FileRow:
    stored = received.stored
    new = NewFile(
        id=stored.id,
        owner=owner,
        name=label,
        media_type=names.media_type(received.media_type, label),
        size=stored.size,
        sha256=stored.sha256,
        blake3=stored.blake3,
        node=services.storage.node,
        facts=facts,
    )
    # When this fails the bytes stay: the commit may have happened all the same, and the sweep at the next start knows.
    async with services.database.transaction() as connection:
        await files.add(connection, new)
        written = await files.get(connection, stored.id, owner=owner)
    assert written is not None
    return written


def _name_in(disposition: str | None) -> str:
    """The file name of a Content-Disposition header."""
    if not disposition:
        return ""
    if extended := _EXTENDED_NAME.search(disposition):
        return unquote(extended[1], errors="replace")
    _, options = parse_options_header(disposition)
    return options.get(b"filename", b"").decode("utf-8", "replace")


def storage_refuses(error: OSError) -> Exception:
    """Return the error of an upload that cannot be written."""
    if is_no_space(error):
        return VidqueueError("no_space", "There is no room for the upload; nothing of it was kept.")
    return error
