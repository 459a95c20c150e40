"""Stored files as response models."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from vidqueue.api.v1.views import ErrorView
from vidqueue.db.tables.files import FileRow


class FileUrls(BaseModel):
    """Addresses of what belongs to a file."""

    self: str
    content: str
    get: str = Field(description="The same as `self`, with scheme and host.")


class FileView(BaseModel):
    """A stored file."""

    id: UUID
    reference: str = Field(description="What to give a processor as its input: `vq:files/<id>`.")
    name: str = Field(description="A label for people.")
    media_type: str = Field(description="As the client declared it, or guessed from the name.")
    size: int = Field(description="In bytes.")
    sha256: str = Field(description="In hex.")
    blake3: str | None = Field(description="In hex; null for outputs, and for files of before vidqueue computed it.")
    facts: dict[str, Any] | None = Field(
        description="What a probe found; null if it is not media, or if the probe is not finished."
    )
    created_at: datetime
    content_type: str = Field(description="`media_type`, as clients of Replicate call it.")
    etag: str = Field(description="`sha256`, as clients of Replicate call it.")
    checksums: dict[str, str] = Field(description="`sha256`, as clients of Replicate read it.")
    metadata: dict[str, Any] = Field(description="Always empty.")
    expires_at: datetime | None = Field(description="When an upload that nothing needs is removed, if that is known.")
    urls: FileUrls


class UploadView(FileView):
    """A file that was just stored."""

    problem: ErrorView | None = Field(description="Why there are no facts (yet); the file is stored all the same.")


def file_view(file: FileRow, *, base: str, days: float = 0) -> FileView:
    """A file's row as a response model. `days` is how long uploads are kept; 0 says nothing about it."""
    path = f"/v1/files/{file.id}"
    return FileView(
        id=file.id,
        reference=f"vq:files/{file.id}",
        name=file.name,
        media_type=file.media_type,
        size=file.size,
        sha256=file.sha256,
        blake3=file.blake3,
        facts=file.facts,
        created_at=file.created_at,
        content_type=file.media_type,
        etag=file.sha256,
        checksums={"sha256": file.sha256},
        metadata={},
        expires_at=file.created_at + timedelta(days=days) if days else None,
        urls=FileUrls(self=path, content=f"{path}/content", get=base + path),
    )
