"""Files put back into storage from a backup, and files set aside because the restored database does not name them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO
from uuid import UUID

from vidqueue.storage.descriptors import CHUNK
from vidqueue.storage.local import Storage


def put(storage: Storage, file_id: UUID, content: IO[bytes], *, sha256: str) -> bool:
    """Store a file under its id, written aside and synced; True if its bytes have the sha256 (hex) of its row.

    Bytes that are there already are kept if they are the right ones. Wrong bytes are not stored.
    """
    target = storage.path(file_id)
    if target.exists() and _sha256_of(target) == sha256:
        return True
    target.parent.mkdir(mode=0o700, exist_ok=True)
    # Not the name of an id, so that nothing takes it for a stored file.
    aside = target.with_name(f"{file_id}.restoring")
    try:
        digest = hashlib.sha256()
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            while chunk := content.read(CHUNK):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256:
            return False
        aside.rename(target)
        return True
    finally:
        aside.unlink(missing_ok=True)


def put_again(storage: Storage, file_id: UUID, earlier: UUID, *, sha256: str) -> bool:
    """Restore a file that shares its bytes with an earlier one; True if they have the sha256 (hex) of its row.

    Two files of the same bytes share them on the disk, as they did where the backup was made.
    """
    target, source = storage.path(file_id), storage.path(earlier)
    if target.exists() and _sha256_of(target) == sha256:
        return True
    if not source.exists() or _sha256_of(source) != sha256:
        return False
    target.unlink(missing_ok=True)
    target.parent.mkdir(mode=0o700, exist_ok=True)
    target.hardlink_to(source)
    return True


def set_aside(storage: Storage, file_ids: Iterable[UUID], folder: Path) -> int:
    """Move files out of storage into a folder, which is made for the first one; return their number."""
    number = 0
    for file_id in file_ids:
        folder.mkdir(mode=0o700, exist_ok=True)
        storage.path(file_id).rename(folder / str(file_id))
        number += 1
    return number


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
