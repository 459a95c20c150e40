"""Resumable uploads as response models and as headers of tus, and the metadata that clients of tus send."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from email.utils import format_datetime
from uuid import UUID

from pydantic import BaseModel, Field

from vidqueue.db.tables.uploads import UploadRow
from vidqueue.errors import VidqueueError

VERSION = "1.0.0"
RESUMABLE = {"Tus-Resumable": VERSION}
METADATA_LIMIT = 8192


class UploadState(BaseModel):
    """A resumable upload."""

    id: UUID = Field(description="Also the id of the file that it becomes.")
    name: str
    media_type: str
    length: int = Field(description="Bytes of the whole file.")
    offset: int = Field(description="Bytes that have arrived.")
    sha256: str | None = Field(description="What the client announced, in hex.")
    finished: bool = Field(description="Whether it is complete and has become a file.")
    created_at: datetime
    expires_at: datetime = Field(description="When it is removed if no more bytes arrive.")
    url: str = Field(description="Where to send bytes.")
    file: str | None = Field(description="Address of the file; null until the upload is finished.")


class UploadsList(BaseModel):
    """Unfinished uploads, newest first."""

    uploads: list[UploadState]


def read_metadata(given: str) -> dict[str, str]:
    """Return the pairs of an Upload-Metadata header, whose values are base64.

    Raises:
        VidqueueError: `invalid_request`.
    """
    if len(given) > METADATA_LIMIT:
        raise VidqueueError("invalid_request", f"Upload-Metadata has more than {METADATA_LIMIT} characters.")
    found = {}
    for pair in filter(None, (part.strip() for part in given.split(","))):
        key, _, value = pair.partition(" ")
        try:
            found[key.lower()] = base64.b64decode(value.strip(), validate=True).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            raise VidqueueError(
                "invalid_request", f"The value of {key[:64]!r} in Upload-Metadata is no base64."
            ) from None
    return found


def tus_headers(upload: UploadRow) -> dict[str, str]:
    """Return the tus headers with the state of an upload."""
    headers = RESUMABLE | {"Upload-Offset": str(upload.received), "Upload-Length": str(upload.length)}
    if upload.metadata:
        headers["Upload-Metadata"] = upload.metadata
    if upload.finished_at is None:
        headers["Upload-Expires"] = format_datetime(upload.expires_at.astimezone(UTC), usegmt=True)
    else:
        headers["Content-Location"] = f"/v1/files/{upload.id}"
    return headers


def upload_state(upload: UploadRow, base: str) -> UploadState:
    """Return an upload's row as a response model."""
    return UploadState(
        id=upload.id,
        name=upload.name,
        media_type=upload.media_type,
        length=upload.length,
        offset=upload.received,
        sha256=upload.sha256,
        finished=upload.finished_at is not None,
        created_at=upload.created_at,
        expires_at=upload.expires_at,
        url=upload_url(upload, base),
        file=f"/v1/files/{upload.id}" if upload.finished_at is not None else None,
    )


def upload_url(upload: UploadRow, base: str) -> str:
    """Return the address to which the bytes of an upload are sent."""
    return f"{base}/v1/uploads/{upload.id}"
