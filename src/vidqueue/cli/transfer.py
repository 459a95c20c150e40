"""Uploads and downloads, with a progress bar on a terminal. A download is complete and verified, or not written."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import httpx2
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Column

from vidqueue.cli import resumable
from vidqueue.cli.client import Client
from vidqueue.cli.exits import CommandError
from vidqueue.cli.resumable import CHUNK, SETTLE_S, chunks
from vidqueue.cli.target import Target
from vidqueue.cli.terminal import Screen, interrupted_later, size_text, writing_stdout
from vidqueue.sanitize import sanitize_text, visible

# Files of this size and more are sent as resumable uploads.
RESUMABLE_FROM = 32 << 20
LINE_EVERY_S = 10.0
# The least width of a terminal for a long bar.
WIDE = 100


@dataclass(frozen=True, slots=True)
class Source:
    """Bytes that the daemon has: their address, size in bytes and sha256 in hex."""

    address: str
    size: int
    sha256: str


def upload(client: Client, screen: Screen, path: Path, *, new: list[str] | None = None) -> dict[str, Any]:
    """Send a file, or standard input where the path is `-`, and return the daemon's description of it.

    The id of a file whose bytes the daemon did not have is added to `new`, also where Ctrl-C comes before its answer.

    Raises:
        CommandError: the file cannot be read, or the daemon refused it.
    """
    if str(path) == "-":
        return _send(client, screen, sys.stdin.buffer, name="stdin", size=None, new=new)
    try:
        with path.open("rb") as source:
            facts = os.fstat(source.fileno())
            # A pipe or device has no size that could be told beforehand.
            size = facts.st_size if stat.S_ISREG(facts.st_mode) else None
            return _send(client, screen, source, name=sanitize_text(path.name), size=size, new=new)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.", code="input_not_found") from None


def _send(
    client: Client, screen: Screen, source: BinaryIO, *, name: str, size: int | None, new: list[str] | None
) -> dict[str, Any]:
    """Store the file by its hash if the daemon has the bytes; else upload it, resumably if it is large."""
    sha256 = ""
    if size:
        with _bar(screen, f"read {name}", size) as advance:
            sha256 = _sha256(source, advance)
        if known := _known(client, sha256, name):
            return known
        source.seek(0)
    with interrupted_later() as begin:
        if not size or size < RESUMABLE_FROM:
            sent = _send_whole(client, screen, source, name=name, size=size, then=begin)
        else:
            with _bar(screen, f"upload {name}", size) as advance:
                counted = _counted(advance, size, then=begin)
                sent = resumable.send(client, source, name=name, size=size, sha256=sha256, advance=counted)
            # Unlike the end of a resumable upload, this tells why there are no facts.
            sent = _known(client, sha256, name) or sent
        if new is not None:
            new.append(str(sent["id"]))
    return sent


def _counted(advance: Callable[[int], None], size: int, *, then: Callable[[], None]) -> Callable[[int], None]:
    """Return `advance`, which calls `then` when all bytes are sent."""
    left = size

    def count(sent: int) -> None:
        nonlocal left
        left -= sent
        if left <= 0:
            then()
        advance(sent)

    return count


def _sha256(source: BinaryIO, advance: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks(source, advance):
        digest.update(chunk)
    return digest.hexdigest()


def _known(client: Client, sha256: str, name: str) -> dict[str, Any] | None:
    """The stored file with these bytes; None if they have to be sent."""
    try:
        found: dict[str, Any] = client.call(
            "POST", "/v1/files/from-hash", json={"hash": f"sha256:{sha256}", "name": name[:1024]}
        )
    except CommandError as error:
        if error.code == "not_found":
            return None
        raise
    return found


def _send_whole(
    client: Client, screen: Screen, source: BinaryIO, *, name: str, size: int | None, then: Callable[[], None]
) -> dict[str, Any]:
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
            content=_followed(chunks(source, advance), then),
            headers=headers,
            timeout=httpx2.Timeout(30, connect=5, read=SETTLE_S),
        )
    return sent


def _followed(pieces: Iterator[bytes], then: Callable[[], None]) -> Iterator[bytes]:
    yield from pieces
    then()


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
    with writing_stdout():
        fetch(client, screen, source, sys.stdout.buffer, label=label)
        sys.stdout.buffer.flush()


@contextmanager
def _bar(screen: Screen, label: str, size: int | None, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Show progress during the block, as a bar on a terminal or as lines; yield the function that counts bytes."""
    if quiet or screen.json:
        yield lambda count: None
        return
    if not screen.live:
        yield _Lines(screen, label, size)
        return
    columns = (
        # A name that is too long for a narrow terminal goes on in the next line.
        TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold")),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        BarColumn(24 if screen.err.width >= WIDE else 8),
    )
    with Progress(*columns, console=screen.err, transient=True) as progress:
        task = progress.add_task(visible(label), total=size)
        yield lambda count: progress.advance(task, count)


class _Lines:
    """Prints the progress of a transfer every ten seconds."""

    def __init__(self, screen: Screen, label: str, size: int | None) -> None:
        self._screen, self._label, self._size = screen, label, size
        self._done, self._told_at = 0, time.monotonic()

    def __call__(self, count: int) -> None:
        """Count further bytes."""
        self._done += count
        if time.monotonic() - self._told_at < LINE_EVERY_S:
            return
        self._told_at = time.monotonic()
        of = f" of {size_text(self._size)}" if self._size else ""
        self._screen.say(f"{self._label}: {size_text(self._done)}{of}")
