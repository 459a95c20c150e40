"""Receives files that a Cog server uploads during a prediction, instead of returning them inside its response.

There are two ways. A server that was started with `--upload-url` sends the bytes alone (PUT <url>/<name>) and takes the
`Location` of the answer. One of 0.16 or older that finds `output_file_prefix` in an open request sends a form with one
file, and believes the file to be where it was sent to.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from email.message import Message
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

from vidqueue.errors import VidqueueError, is_no_space
from vidqueue.processors.media import suffix_of

MOST_FILES = 900
CHUNK = 1 << 20
LONGEST_HEAD = 16 << 10


class RefusedUploadError(Exception):
    """An upload is not taken; `status` is the HTTP status that says why."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class Uploads:
    """Takes the files of one prediction into a folder, in any thread."""

    def __init__(self, prediction: str, folder: Path, largest: int) -> None:
        self._prediction = prediction
        self._folder = folder
        self._largest = largest
        self._lock = threading.Lock()
        self._count = 0
        # A server may send several files under one name; they are returned in the same order.
        self._received: list[tuple[frozenset[str], Path]] = []
        self._refused_for = ""

    def receive(self, sent_to: str, place: str, headers: Mapping[str, str], body: BinaryIO) -> str:
        """Take one file, and return the address that it has from now on.

        Args:
            sent_to: the URL of the request.
            place: the URL below which it gets an address of its own.
            headers: of the request.
            body: from which it is read.

        Raises:
            RefusedUploadError: it is not of this prediction, too large, or not whole.
            OSError: it cannot be written.
        """
        if headers.get("X-Prediction-ID", self._prediction) != self._prediction:
            raise RefusedUploadError(404)
        size = self._size(headers)
        with self._lock:
            self._count += 1
            number = self._count
        if number > MOST_FILES:
            raise RefusedUploadError(413)
        name = unquote(sent_to.partition("?")[0]).rpartition("/")[2]
        path = self._folder / f"{number}{suffix_of(name)}"
        try:
            self._write(path, size, _boundary(headers), body)
        except OSError as error:
            if is_no_space(error):
                self._refused_for = "no_space"
            raise
        address = f"{place}/{number}/{quote(name)}"
        # An old server tells the address that it sent to; others believe the answer, whose address nobody can guess.
        told = {address} if "X-Prediction-ID" in headers else {address, sent_to.partition("?")[0]}
        with self._lock:
            self._received.append((frozenset(map(unquote, told)), path))
        return address

    def check(self) -> None:
        """Check that every file was taken; a server that was refused reports only that its upload failed.

        Raises:
            VidqueueError: `output_too_large`, `no_space`.
        """
        if self._refused_for == "output_too_large":
            raise VidqueueError("output_too_large", "The model returned a file that is larger than file_limit_mb.")
        if self._refused_for == "no_space":
            raise VidqueueError("no_space", "The disk of the workspace is full.")

    def take(self, reference: str) -> Path | None:
        """Return the file that an output names, and that was not returned yet; None if it was never sent."""
        with self._lock:
            for index, (addresses, path) in enumerate(self._received):
                if unquote(reference) in addresses:
                    del self._received[index]
                    return path
        return None

    def __contains__(self, reference: object) -> bool:
        with self._lock:
            return isinstance(reference, str) and any(unquote(reference) in one for one, _ in self._received)

    def _write(self, path: Path, size: int, boundary: bytes, body: BinaryIO) -> None:
        self._folder.mkdir(exist_ok=True)
        with path.open("wb") as file:
            if boundary:
                size -= _skip_head(body, boundary)
                _copy(body, file, size - len(tail := b"\r\n--" + boundary + b"--\r\n"))
                if body.read(len(tail)) != tail:
                    raise RefusedUploadError(400)
            else:
                _copy(body, file, size)

    def _size(self, headers: Mapping[str, str]) -> int:
        told = headers.get("Content-Length", "")
        if not (told.isascii() and told.isdigit()) or len(told) > 18:
            raise RefusedUploadError(411)
        if int(told) > self._largest:
            self._refused_for = "output_too_large"
            raise RefusedUploadError(413)
        return int(told)


def _boundary(headers: Mapping[str, str]) -> bytes:
    """The boundary of a form; empty if the body is none."""
    described = Message()
    described["Content-Type"] = headers.get("Content-Type", "")
    if described.get_content_type() != "multipart/form-data":
        return b""
    return (described.get_boundary() or "").encode("latin-1", "replace")


def _skip_head(body: BinaryIO, boundary: bytes) -> int:
    """Skip what stands before the bytes of the only file of a form; return its length."""
    read = 0
    first = True
    while read < LONGEST_HEAD:
        line = body.readline(LONGEST_HEAD)
        read += len(line)
        if first and line.rstrip() != b"--" + boundary:
            break
        first = False
        if line == b"\r\n":
            return read
        if not line:
            break
    raise RefusedUploadError(400)


def _copy(body: BinaryIO, file: BinaryIO, size: int) -> None:
    while size > 0:
        piece = body.read(min(size, CHUNK))
        if not piece:
            raise RefusedUploadError(400)
        file.write(piece)
        size -= len(piece)
