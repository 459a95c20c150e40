"""The library of the MoneyPrinterTurbo API: music and materials that requests name."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.compat.moneyprinter_requests import Reference
from vidqueue.api.compat.moneyprinter_views import (
    FileStored,
    FileStoredAnswer,
    NamedFile,
    NamedFiles,
    NamedFilesAnswer,
)
from vidqueue.api.compat.own_files import with_references
from vidqueue.api.http.context import owner_of, services_of
from vidqueue.api.http.endpoint import json_answer
from vidqueue.api.http.multipart import FormParts
from vidqueue.api.http.requests import chunks, media_type_of, refuse_too_long
from vidqueue.api.v1.files import FORM_ALLOWANCE, receive_part
from vidqueue.db.tables import library
from vidqueue.db.tables.library import LibraryKind
from vidqueue.errors import VidqueueError
from vidqueue.jobs import control
from vidqueue.ops.addresses import is_url

MOST_LISTED = 1000
_SUFFIXES: dict[LibraryKind, frozenset[str]] = {
    "music": frozenset({".mp3", ".wav", ".m4a", ".aac", ".flac", ".ogg", ".opus"}),
    "material": frozenset({".mp4", ".mov", ".avi", ".flv", ".mkv", ".webm", ".jpg", ".jpeg", ".png", ".webp", ".gif"}),
}


async def listed(request: Request, kind: LibraryKind) -> Response:
    """The files of the owner of the request."""
    async with services_of(request).database.statement() as connection:
        found = await library.page(connection, owner_of(request), kind, limit=MOST_LISTED)
    named = [NamedFile(name=one.name, size=one.size, file=f"vq:files/{one.file_id}") for one in found]
    return json_answer(NamedFilesAnswer(data=NamedFiles(files=named)))


async def stored(request: Request, kind: LibraryKind) -> Response:
    """Store the part `file` of a form.

    Raises:
        VidqueueError: `invalid_request`, or why the upload was refused.
    """
    if media_type_of(request) != "multipart/form-data":
        raise VidqueueError("invalid_request", "Send a form with one part named 'file'.")
    services, owner = services_of(request), owner_of(request)
    refuse_too_long(request, services.settings.inputs.max_upload_mib * 1024 * 1024 + FORM_ALLOWANCE)
    name, upload = "", None
    try:
        async for part in FormParts(request.headers["content-type"], chunks(request)):
            if part.name != "file" or not part.filename:
                continue
            if upload is not None:
                raise VidqueueError("invalid_request", "The form has two parts named 'file'; send one a request.")
            name = _name_of(part.filename, kind)
            upload = (await receive_part(request, part)).id
    except VidqueueError:
        if upload is not None:
            with contextlib.suppress(VidqueueError):
                await control.delete_file(services.database, services.storage, upload, owner=owner)
        raise
    if upload is None:
        raise VidqueueError("invalid_request", "The form has no part named 'file'.")
    async with services.database.transaction() as connection:
        await library.put(connection, owner, kind, name, upload)
    return json_answer(FileStoredAnswer(data=FileStored(file=f"vq:files/{upload}", name=name)))


def _name_of(filename: str, kind: LibraryKind) -> str:
    """The name under which a file is kept, without folders.

    Raises:
        VidqueueError: `invalid_request`, its extension is none of the kind.
    """
    name = PurePosixPath(filename.replace("\\", "/").replace("\0", "")).name[-255:]
    if PurePosixPath(name).suffix.lower() not in _SUFFIXES[kind]:
        possible = ", ".join(sorted(one[1:] for one in _SUFFIXES[kind]))
        raise VidqueueError("invalid_request", f"{name!r} is no {kind}: {possible} are possible.")
    return name


async def references(request: Request, names: Sequence[str]) -> Reference:
    """Return a function that turns the names of files in a request into media references.

    It raises `input_not_found` for a name that nothing has.
    """
    wanted = {_bare(name) for name in names}
    async with services_of(request).database.statement() as connection:
        found = await library.find(connection, owner_of(request), ["music", "material"], sorted(wanted))

    def reference(name: str, kind: str) -> str:
        own = with_references(name, request.url.netloc)
        if own.startswith(("vq:", "data:")) or is_url(own):
            return str(own)
        for one in (kind, "material", "music"):
            if file_id := found.get((one, _bare(name))):
                return f"vq:files/{file_id}"
        if name.startswith("/"):
            return name
        raise VidqueueError("input_not_found", f"There is no {kind} {name[:200]!r}; store it first.")

    return reference


async def any_music(request: Request) -> str | None:
    """Return music of the owner, chosen at random; None if there is none."""
    async with services_of(request).database.statement() as connection:
        found = await library.page(connection, owner_of(request), "music", limit=MOST_LISTED)
    return random.choice(found).name if found else None  # noqa: S311 - a tune, no secret


def _bare(name: str) -> str:
    return PurePosixPath(name).name
