"""The Comfy API v2: assets, which are stored files known by their BLAKE3."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.compat.comfy_views import asset_view
from vidqueue.api.http.context import base_of, owner_of, scope_of, services_of
from vidqueue.api.http.endpoint import json_answer
from vidqueue.api.http.multipart import FormParts, Part
from vidqueue.api.http.requests import media_type_of
from vidqueue.api.v1 import files as native
from vidqueue.api.v1.downloads import RangeHeaders, get_file_content
from vidqueue.db.tables import files
from vidqueue.db.tables.files import FileRow, Hashed
from vidqueue.errors import VidqueueError
from vidqueue.jobs import control, known_files
from vidqueue.jobs.quota import require_room
from vidqueue.storage.local import Stored

FIELD_LIMIT = 64 * 1024
NO_LIMIT = 1 << 62


class FromHashRequest(BaseModel):
    """An asset of bytes that are known; unknown fields are ignored."""

    hash: str = Field(description="`blake3:<hex>` (or `sha256:<hex>`) of the bytes.")
    file_path: str | None = Field(None, max_length=1024, description="Its name; folders are left out.")


async def find_asset(request: Request, digest: str) -> Response:
    """Check whether an asset with a hash exists. Assets of other owners count as absent."""
    services = services_of(request)
    hashed = known_files.parse_hash(digest)
    found = await known_files.find(services.database, services.storage, hashed, scope=scope_of(request))
    if found is None:
        raise VidqueueError("blob_not_found", f"There are no bytes {digest}.")
    return json_answer(asset_view(found, base=base_of(request)))


async def create_asset_from_hash(request: Request, body: FromHashRequest) -> Response:
    """Create an asset from bytes that are stored already, without an upload."""
    services = services_of(request)
    taken = await known_files.take(
        services.database, services.storage, known_files.parse_hash(body.hash),
        scope=scope_of(request), owner=owner_of(request), name=body.file_path,
    )  # fmt: skip
    if taken is None:
        raise VidqueueError("blob_not_found", f"There are no bytes {body.hash}.")
    return _asset_answer(request, taken[0], 201 if taken[1] else 200, created_new=False)


async def upload_asset(request: Request) -> Response:
    """Store an asset: a form with `file`, and `content_type`, `file_path` and `expected_hash` before or after it.

    If an asset with the same name and bytes exists, the answer is 200 with that asset.
    """
    services, owner = services_of(request), owner_of(request)
    if media_type_of(request) != "multipart/form-data":
        raise VidqueueError("unsupported_media_type", "The body is not a form.")
    async with services.database.statement() as connection:
        await require_room(connection, owner, native.announced(request) or 1)
    stored: Stored | None = None
    told: dict[str, str] = {}
    async with native.body_of(request) as body:
        try:
            async for part in FormParts(request.headers["content-type"], body):
                if part.name == "file" and part.filename is not None and stored is None:
                    stored = await _received(request, part)
                    told = {"file_path": part.filename, "content_type": part.media_type} | told
                elif part.name != "file":
                    told[part.name] = await _text(part)
            if stored is None:
                raise VidqueueError("invalid_request", "The form has no file named `file`.")
            _require_hash(stored, told.get("expected_hash"))
        except BaseException:
            if stored is not None:
                await _drop(request, stored)
            raise
    return await _kept(request, stored, told, owner)


async def get_asset(request: Request, file_id: UUID) -> Response:
    """Read the metadata of an asset: an upload, or an output of a job."""
    async with services_of(request).database.statement() as connection:
        found = await files.get(connection, file_id, owner=scope_of(request))
    if found is None:
        raise VidqueueError("not_found", f"There is no asset {file_id}.")
    return _asset_answer(request, found)


async def get_asset_content(request: Request, file_id: UUID, headers: RangeHeaders) -> Response:
    """Download an asset."""
    return await get_file_content(request, file_id, headers)


async def delete_asset(request: Request, file_id: UUID) -> Response:
    """Delete an asset that no job has made or still has to read."""
    services = services_of(request)
    await control.delete_file(services.database, services.storage, file_id, owner=scope_of(request))
    return Response(status_code=204)


async def _received(request: Request, part: Part) -> Stored:
    services = services_of(request)
    limit = (services.settings.inputs.max_resumable_mib << 20) or NO_LIMIT
    try:
        return await services.storage.receive(part.data, limit=limit)
    except OSError as error:
        raise native.storage_refuses(error) from error


def _require_hash(stored: Stored, expected: str | None) -> None:
    if expected is not None and expected not in (f"blake3:{stored.blake3}", f"sha256:{stored.sha256}"):
        raise VidqueueError("hash_mismatch", f"The bytes have the hash blake3:{stored.blake3}, not {expected[:80]}.")


async def _kept(request: Request, stored: Stored, told: dict[str, str], owner: str) -> Response:
    services = services_of(request)
    hashed, name = Hashed("sha256", stored.sha256), told.get("file_path", "")
    known = await known_files.renewed(services.database, services.storage, hashed, owner=owner, name=name)
    if known is not None:
        await _drop(request, stored)
        return _asset_answer(request, known, 200, created_new=False)
    received = native.Received(stored, name, told.get("content_type", "").lower())
    view = await native.keep(request, received, name, owner)
    async with services.database.statement() as connection:
        written = await files.get(connection, view.id)
    assert written is not None
    return _asset_answer(request, written, 201, created_new=True)


async def _drop(request: Request, stored: Stored) -> None:
    storage = services_of(request).storage
    await storage.threads.run(storage.delete, stored.id)
    storage.release(stored.id)


async def _text(part: Part) -> str:
    text = bytearray()
    async for piece in part.data:
        text += piece
        if len(text) > FIELD_LIMIT:
            raise VidqueueError("payload_too_large", f"The field {part.name[:64]!r} is too long.")
    return text.decode("utf-8", "replace")


def _asset_answer(request: Request, file: FileRow, status: int = 200, *, created_new: bool | None = None) -> Response:
    return json_answer(asset_view(file, base=base_of(request), created_new=created_new), status)
