"""Uploads over HTTP: the list, storage usage, and the check whether a local file can be read in place."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import base_of, scope_of, services_of
from vidqueue.api.http.endpoint import JSON, Answer, Endpoint, json_answer
from vidqueue.api.v1.file_views import FileView, file_view
from vidqueue.api.v1.job_list import read_cursor, write_cursor
from vidqueue.db.tables import files
from vidqueue.errors import VidqueueError

_LAST = UUID(int=(1 << 128) - 1)


class FileQuery(BaseModel):
    """The query of the list of uploads."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=500, description="Files on one page.")
    cursor: str | None = Field(
        None, max_length=64, description="Where the page begins; taken from `next` of the previous page."
    )


class FilePage(BaseModel):
    """Some uploads, newest first."""

    files: list[FileView]
    results: list[FileView] = Field(description="`files`, as clients of Replicate call them.")
    next: str | None = Field(description="Address of the next page, with scheme and host; null at the end.")
    previous: str | None = Field(None, description="Always null.")


class StoredView(BaseModel):
    """Storage usage of an owner, of one kind."""

    owner: str
    kind: str = Field(description="`uploads` or `outputs`.")
    files: int
    bytes: int


class UsageView(BaseModel):
    """Storage usage."""

    stored: list[StoredView]


class LocalFile(BaseModel):
    """A local file as a client on the same machine sees it."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(min_length=1, max_length=4096, pattern="^/", description="Absolute, without symbolic links.")
    size: int = Field(ge=0)
    inode: int = Field(ge=0)
    modified_ns: int = Field(description="Time of the last change, in nanoseconds since 1970.")


class Readable(BaseModel):
    """Whether the daemon can read a file in place."""

    readable: bool
    code: str | None = Field(description="Why it cannot be read.")


async def list_files(request: Request, query: FileQuery) -> Response:
    """List uploads, newest first. Outputs belong to their jobs and are not listed."""
    services, base = services_of(request), base_of(request)
    async with services.database.statement() as connection:
        before = read_cursor(query.cursor) or _LAST
        found = await files.uploads(connection, before, owner=scope_of(request), limit=query.limit + 1)
    shown, following = found[: query.limit], None
    if len(found) > query.limit:
        following = (
            f"{base}{request.url.path}?{urlencode({'limit': query.limit, 'cursor': write_cursor(shown[-1].id)})}"
        )
    days = services.settings.retention.uploads_days
    views = [file_view(one, base=base, days=days) for one in shown]
    page = FilePage(files=views, results=views, next=following)
    return json_answer(page, headers={"Link": f'<{following}>; rel="next"'} if following else None)


async def get_storage_usage(request: Request) -> Response:
    """Return the number of files and bytes by owner and kind. It reads a row for each file."""
    async with services_of(request).database.statement() as connection:
        found = await files.usage(connection, owner=scope_of(request))
    return json_answer(UsageView(stored=[StoredView(**one) for one in found]))


async def check_input(request: Request, body: LocalFile) -> Response:
    """Check whether the daemon sees the same file under this path, in `inputs.roots`, and may read it.

    A client on the same machine need not upload such a file: the path is an input as it is.
    """

    def compare(path: Path) -> None:
        facts = path.stat()
        if (facts.st_size, facts.st_ino, facts.st_mtime_ns) != (body.size, body.inode, body.modified_ns):
            raise VidqueueError("input_not_found", "The daemon sees another file at this path.")

    try:
        await services_of(request).inputs.roots.find(body.path, compare)
    except VidqueueError as error:
        return json_answer(Readable(readable=False, code=error.code))
    return json_answer(Readable(readable=True, code=None))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/files",
        handler=list_files,
        tag="files",
        answers={200: Answer("A page.", {JSON: FilePage}, {"Link": 'Address of what follows, with rel="next".'})},
    ),
    Endpoint(
        method="GET",
        path="/v1/files/usage",
        handler=get_storage_usage,
        tag="files",
        answers={200: Answer("How much is stored.", {JSON: UsageView})},
    ),
    Endpoint(
        method="POST",
        path="/v1/inputs/check",
        handler=check_input,
        tag="files",
        answers={200: Answer("Whether it can be read.", {JSON: Readable})},
    ),
)
