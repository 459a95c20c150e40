"""Copies the outputs of the jobs of a watch folder into a folder, each whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path, PurePosixPath
from uuid import UUID

from vidqueue.db.tables.watch_folders import Delivery
from vidqueue.storage.local import Storage


def copy_all(storage: Storage, delivery: Delivery, folder: Path) -> list[Path]:
    """Copy the outputs of one file; blocks. What is there already with the same bytes is left as it is.

    Raises:
        OSError: the folder cannot be written, or an output is gone.
    """
    only = len(delivery.outputs) == 1
    copied = []
    for output in delivery.outputs:
        wanted = folder / _name(delivery.path, output["name"], output["filename"], only=only)
        wanted.parent.mkdir(parents=True, exist_ok=True)
        copied.append(_copy(storage.path(UUID(output["file"])), wanted, output["sha256"]))
    return copied


def _name(source: str, output: str, filename: str, *, only: bool) -> PurePosixPath:
    """The name of an output: that of the file, with the extension of the output, and its name if there are several."""
    path = PurePosixPath(source)
    suffix = PurePosixPath(filename).suffix
    return path.with_name(f"{path.stem}{suffix}" if only else f"{path.stem}-{output}{suffix}")


def _copy(source: Path, wanted: Path, sha256: str) -> Path:
    """Copy a file, and never over another one: then a piece of its digest is added to the name."""
    target = wanted
    if target.exists() and _digest(target) != sha256:
        target = wanted.with_name(f"{wanted.stem}-{sha256[:8]}{wanted.suffix}")
    if target.exists() and _digest(target) == sha256:
        return target
    aside = target.with_name(f".{target.name}.{sha256[:8]}.part")
    with source.open("rb") as given, aside.open("wb") as made:
        shutil.copyfileobj(given, made, 1 << 20)
        made.flush()
        os.fsync(made.fileno())
    aside.rename(target)
    return target


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
