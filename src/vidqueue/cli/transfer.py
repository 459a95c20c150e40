"""Uploads and downloads, with a progress bar on a terminal. A download is complete and verified, or not written."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import httpx2
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from vidqueue.cli.client import Client
from vidqueue.cli.exits import CommandError
from vidqueue.cli.target import Target
from vidqueue.cli.terminal import Screen
from vidqueue.sanitize import visible

CHUNK = 1 << 20
# How long the daemon may take to sync what it was sent.
SETTLE_S = 300.0


@dataclass(frozen=True, slots=True)
class Source:
    """Bytes that the daemon has: their address, size in bytes and sha256 in hex."""

    address: str
    size: int
    sha256: str


def upload(client: Client, screen: Screen, path: Path) -> dict[str, Any]:
    """Send a file, or standard input where the path is `-`, and return the daemon's description of it.

    Raises:
        CommandError: the file cannot be read, or the daemon refused it.
    """
    if str(path) == "-":
        return _send(client, screen, sys.stdin.buffer, name="stdin", size=None)
    try:
        with path.open("rb") as source:
            facts = os.fstat(source.fileno())
            # A pipe or device has no size that could be told beforehand.
            size = facts.st_size if stat.S_ISREG(facts.st_mode) else None
            return _send(client, screen, source, name=path.name, size=size)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.", code="input_not_found") from None


def _send(client: Client, screen: Screen, source: BinaryIO, *, name: str, size: int | None) -> dict[str, Any]:
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}",
    }
    if size is not None:
        headers["Content-Length"] = str(size)
    with _bar(screen, f"upload {name}", size) as advance:
        sent: dict[str, Any] = client.call(
            "POST",
            "/v1/files",
            content=_chunks(source, advance),
            headers=headers,
            timeout=httpx2.Timeout(30, connect=5, read=SETTLE_S),
        )
    return sent


def _chunks(source: BinaryIO, advance: Any) -> Iterator[bytes]:
    while chunk := source.read(CHUNK):
        yield chunk
        advance(len(chunk))


def download(
    client: Client, screen: Screen, source: Source, target: Target, path: Path, *, quiet: bool = False
) -> None:
    """Fetch bytes into the file `path` of a target: written aside, compared with their sha256, then published.

    `quiet` draws no bar, because a terminal shows one display at a time.

    Raises:
        CommandError: the bytes are not those that were promised, or the file cannot be written.
    """
    with target.writing(path) as file:
        fetch(client, screen, source, file, label=path.name, quiet=quiet)


def fetch(client: Client, screen: Screen, source: Source, file: BinaryIO, *, label: str, quiet: bool = False) -> None:
    """Write the bytes of `source` into an open file.

    Raises:
        CommandError: the bytes are not those that were promised.
    """
    digest = hashlib.sha256()
    with (
        _bar(screen, f"download {label}", source.size, quiet=quiet) as advance,
        client.download(source.address) as response,
    ):
        for chunk in response.iter_bytes(CHUNK):
            digest.update(chunk)
            file.write(chunk)
            advance(len(chunk))
    if digest.hexdigest() != source.sha256:
        raise CommandError(
            f"The download of {label} is damaged: its sha256 is wrong.", hint="Try again; otherwise retry the job."
        )


def fetch_to_stdout(client: Client, screen: Screen, source: Source, *, label: str) -> None:
    """Write the bytes of `source` to standard output.

    Raises:
        CommandError: the bytes are not those that were promised, or cannot be written.
    """
    try:
        fetch(client, screen, source, sys.stdout.buffer, label=label)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"Standard output cannot be written: {error.strerror}.") from None


@contextmanager
def _bar(screen: Screen, label: str, size: int | None, *, quiet: bool = False) -> Iterator[Any]:
    """A progress bar during the block; yields a function that advances it by a number of bytes."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=screen.err, disable=quiet or not screen.live or screen.json, transient=True
    ) as progress:
        task = progress.add_task(visible(label), total=size)
        yield lambda count: progress.advance(task, count)
