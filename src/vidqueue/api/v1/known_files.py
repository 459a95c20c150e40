"""Files over HTTP by hash, so that bytes that the daemon has are not uploaded twice."""

from __future__ import annotations

from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import base_of, principal_of, scope_of, services_of
from vidqueue.api.http.endpoint import JSON, Answer, Endpoint, json_answer
from vidqueue.api.v1.file_views import FileView, UploadView, file_view
from vidqueue.api.v1.jobs import ForOwner
from vidqueue.api.v1.views import ErrorView
from vidqueue.db.tables.files import FileRow
from vidqueue.errors import VidqueueError
from vidqueue.jobs import known_files
from vidqueue.jobs.probes import Probes


async def get_file_by_hash(request: Request, digest: str) -> Response:
    """Read the metadata of a file by the hash of its bytes, `sha256:<hex>` or `blake3:<hex>`.

    Only files that the key may read are found. Clients use HEAD before an upload.
    """
    services, hashed = services_of(request), known_files.parse_hash(digest)
    found = await known_files.find(services.database, services.storage, hashed, scope=scope_of(request))
    if found is None:
        raise VidqueueError("not_found", f"There is no file {digest}.")
    view = file_view(found, base=base_of(request))
    return json_answer(view, headers={"Content-Location": view.urls.self})


class TakeRequest(BaseModel):
    """A stored file, identified by its hash."""

    model_config = ConfigDict(extra="forbid")

    hash: str = Field(description="`sha256:<hex>` or `blake3:<hex>` of the bytes.")
    name: str | None = Field(None, max_length=1024, description="File name to show to people; default: that it has.")


async def create_file_from_hash(request: Request, body: TakeRequest, query: ForOwner) -> Response:
    """Create a file from bytes that the daemon has already, without an upload.

    The answer is 200 and the file that its owner has under this name, which counts as stored now; else 201 and a new
    file, which shares the bytes on the disk. A file without facts is probed again, and `problem` says why it has none,
    as after an upload. 404 means that the bytes have to be sent: only files that the key may read
    are taken, so a hash alone neither shows nor gives anything of another owner.
    """
    services, owner = services_of(request), principal_of(request).acting_for(query.owner)
    taken = await known_files.take(
        services.database, services.storage, known_files.parse_hash(body.hash),
        scope=scope_of(request), owner=owner, name=body.name,
    )  # fmt: skip
    if taken is None:
        raise VidqueueError("not_found", f"There is no file {body.hash}.", hint="Upload it.")
    file, problem = await _examined(request, taken[0])
    view = UploadView(problem=problem, **dict(file_view(file, base=base_of(request))))
    return json_answer(view, 201 if taken[1] else 200, {"Location": view.urls.self})


async def _examined(request: Request, file: FileRow) -> tuple[FileRow, ErrorView | None]:
    """Probe a file that has no facts; return it with its facts, or why it has none (yet).

    The probe after its upload may have been cut off, and what it cannot read depends on the configuration.
    """
    if file.facts is not None:
        return file, None
    probes: Probes = request.app.state.probes
    probing = probes.begin(file.id, owner=file.owner)
    probes.write_later(probing, file.id)
    try:
        return replace(file, facts=await probes.answer(probing)), None
    except VidqueueError as error:
        return file, ErrorView.of(error)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/v1/files/by-hash/{digest}",
        handler=get_file_by_hash,
        tag="files",
        answers={
            200: Answer("A file with these bytes.", {JSON: FileView}, {"Content-Location": "Address of the file."})
        },
        errors=("invalid_request",),
    ),
    Endpoint(
        method="POST",
        path="/v1/files/from-hash",
        handler=create_file_from_hash,
        tag="files",
        answers={
            200: Answer("The file, which was there.", {JSON: UploadView}, {"Location": "Address of the file."}),
            201: Answer("A new file of known bytes.", {JSON: UploadView}, {"Location": "Address of the file."}),
        },
        errors=("not_found", "limit_reached"),
    ),
)
