"""Downloads of stored files, whole or in ranges, as attachments that no browser executes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.http.problems import RefusedError
from vidqueue.api.v1.jobs import matches
from vidqueue.db.tables import files
from vidqueue.db.tables.files import FileRow
from vidqueue.errors import VidqueueError
from vidqueue.ops.threads import ThreadPool

_RANGES = re.compile(r"bytes\s*=\s*(.+)", re.IGNORECASE)
# More digits than any file has bytes are not understood; int() refuses thousands of them.
_RANGE = re.compile(r"(\d{0,18})-(\d{0,18})", re.ASCII)


class RangeHeaders(BaseModel):
    """Range and conditional headers of a download."""

    range: str | None = Field(None, alias="Range", description="`bytes=0-1023`; several ranges are possible.")
    if_range: str | None = Field(
        None, alias="If-Range", description="Send the range only if this ETag is current, else the whole file."
    )
    if_none_match: str | None = Field(
        None, alias="If-None-Match", description="The answer is 304 if this ETag is current."
    )


async def get_output(request: Request, job_id: UUID, name: str, headers: RangeHeaders) -> Response:
    """Download an output of a job."""
    async with services_of(request).database.statement() as connection:
        found = await files.output(connection, job_id, name, owner=scope_of(request))
    if found is None:
        raise VidqueueError("not_found", f"Job {job_id} has no output {name!r}.")
    return await _download(request, found, headers)


async def get_file_content(request: Request, file_id: UUID, headers: RangeHeaders) -> Response:
    """Download a stored file."""
    async with services_of(request).database.statement() as connection:
        found = await files.get(connection, file_id, owner=scope_of(request))
    if found is None:
        raise VidqueueError("not_found", f"There is no file {file_id}.")
    return await _download(request, found, headers)


class Download(FileResponse):
    """Starlette's ranges, except that a range it cannot read is passed over (RFC 9110), not refused in plain text.

    The file is held open from before the first byte of the answer, so that it can be removed meanwhile.
    """

    def __init__(self, path: Path, file: FileRow, threads: ThreadPool, *, with_range: bool) -> None:
        super().__init__(
            path,
            filename=file.name,
            media_type=file.media_type,
            headers={"ETag": _etag(file), "Content-Security-Policy": "default-src 'none'; sandbox"},
        )
        self._threads = threads
        self._with_range = with_range

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        if not self._with_range:
            scope = {**scope, "headers": [header for header in scope["headers"] if header[0] != b"range"]}
        try:
            descriptor = await self._threads.run(os.open, self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise VidqueueError("file_lost", f"The file {self.filename} was removed just now.") from None
        try:
            self.path = f"/proc/self/fd/{descriptor}"
            await super().__call__(scope, receive, send)
        finally:
            os.close(descriptor)


async def _download(request: Request, file: FileRow, headers: RangeHeaders) -> Response:
    if matches(headers.if_none_match, _etag(file)):
        return Response(status_code=304, headers={"ETag": _etag(file)})
    services = services_of(request)
    path = await services.inputs.locate(file)
    wanted = headers.range if headers.if_range in (None, _etag(file)) else None
    return Download(path, file, services.storage.threads, with_range=_is_usable(wanted, file.size))


def _etag(file: FileRow) -> str:
    return f'"{file.sha256}"'


def _is_usable(header: str | None, size: int) -> bool:
    """Whether the ranges can be served; a header that is not understood is passed over.

    Raises:
        RefusedError: `range_not_satisfiable`.
    """
    ranges = _RANGES.fullmatch((header or "").strip())
    parts = [_RANGE.fullmatch(part.strip()) for part in ranges[1].split(",")] if ranges else []
    if not parts or not all(part is not None and _is_sane(part[1], part[2]) for part in parts):
        return False
    if any(_start(part[1], part[2], size) >= size for part in parts if part):
        raise RefusedError(
            "range_not_satisfiable", f"The file has {size} bytes.", headers={"Content-Range": f"bytes */{size}"}
        )
    return True


def _is_sane(first: str, last: str) -> bool:
    return bool(first or last) and not (first and last and int(first) > int(last))


def _start(first: str, last: str, size: int) -> int:
    """First byte of a range; `-N` means the last N."""
    return int(first) if first else max(size - int(last), 0)
