"""Watch folders over HTTP: which ones this daemon's configuration has, and what became of their files."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import services_of
from vidqueue.api.http.endpoint import JSON, Answer, Endpoint, json_answer
from vidqueue.errors import VidqueueError
from vidqueue.jobs import watch_folders
from vidqueue.principal import Role


class WatchFolderView(BaseModel):
    """A watch folder."""

    name: str
    path: str
    processor: str
    outputs: str | None = Field(description="The folder that outputs are copied to.")
    recursive: bool
    include: list[str]


class WatchFolderList(BaseModel):
    """The watch folders of this daemon."""

    watch_folders: list[WatchFolderView]


class WatchedFileView(BaseModel):
    """What became of a file; a content is told once, under the name that it had first."""

    path: str = Field(description="Its name below the folder.")
    size: int
    sha256: str
    at: datetime
    job_id: UUID | None = Field(description="Null if no job was submitted, or it was deleted.")
    state: str | None = Field(description="The present state of the job.")
    error: str | None = Field(description="Why no job was submitted.")
    delivered_at: datetime | None = Field(description="When its outputs were copied.")


class WatchedFileList(BaseModel):
    """The newest 1,000 files, newest first."""

    files: list[WatchedFileView]


async def list_watch_folders(request: Request) -> Response:
    """List the watch folders of this daemon."""
    views = [
        WatchFolderView(
            name=one.name,
            path=str(one.path),
            processor=str(one.job.get("processor")),
            outputs=str(one.outputs) if one.outputs else None,
            recursive=one.recursive,
            include=one.include,
        )
        for one in services_of(request).settings.watch_folders
    ]
    return json_answer(WatchFolderList(watch_folders=views))


async def list_watched_files(request: Request, name: str) -> Response:
    """List what became of the files of a watch folder, newest first."""
    services = services_of(request)
    if name not in {one.name for one in services.settings.watch_folders}:
        raise VidqueueError("not_found", f"There is no watch folder {name!r} in this daemon's configuration.")
    found = await watch_folders.newest(services.database, name)
    views = [WatchedFileView(**{key: getattr(row, key) for key in WatchedFileView.model_fields}) for row in found]
    return json_answer(WatchedFileList(files=views))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/watch-folders",
        handler=list_watch_folders,
        tag="watch folders",
        answers={200: Answer("The folders.", {JSON: WatchFolderList})},
        role=Role.OPERATE,
    ),
    Endpoint(
        method="GET",
        path="/v1/watch-folders/{name}/files",
        handler=list_watched_files,
        tag="watch folders",
        answers={200: Answer("The files.", {JSON: WatchedFileList})},
        role=Role.OPERATE,
    ),
)
