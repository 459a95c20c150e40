"""Client of resumable uploads (tus 1.0): continues a large file after a lost connection or in a later command.

No state is kept on this side: the daemon is asked for an unfinished upload of the same owner, size and sha256.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import httpx2

from vidqueue.cli.client import Client
from vidqueue.cli.exits import CommandError, Exit

CHUNK = 1 << 20
# Timeout of a request, in which the daemon syncs the bytes to disk.
SETTLE_S = 300.0
# Consecutive attempts without a new byte before giving up; enough for a restart of the daemon.
TRIES = 8
LONGEST_PAUSE_S = 8.0
_TUS = {"Tus-Resumable": "1.0.0"}
_TRANSIENT = frozenset({"upload_locked", "upload_offset", "request_timeout"})

Advance = Callable[[int], None]


@dataclass(slots=True)
class _Sent:
    """The progress of an upload, and what the progress bar has been given of it."""

    advance: Advance
    offset: int = -1
    shown: int = 0

    def show(self, count: int) -> None:
        self.shown += count
        self.advance(count)


def send(client: Client, source: BinaryIO, *, name: str, size: int, sha256: str, advance: Advance) -> dict[str, Any]:
    """Send a file in as many requests as it takes, and return the daemon's description of it.

    Raises:
        CommandError: the daemon refused it, or does not answer any more.
    """
    path = _unfinished(client, size, sha256) or _begin(client, name, size, sha256)
    sent, failures = _Sent(advance), 0
    while True:
        before = sent.offset
        try:
            if (file := _send_rest(client, path, source, size, sent)) is not None:
                return file
            failures = 0
        except CommandError as error:
            failures = 1 if sent.offset > before else failures + 1
            if not _may_pass(error) or failures > TRIES:
                hint = "Run the command again; the upload continues where it stopped."
                raise CommandError(error.message, exit=error.exit, hint=hint, code=error.code) from None
            time.sleep(min(2.0 ** (failures - 2), LONGEST_PAUSE_S))


def chunks(source: BinaryIO, advance: Advance) -> Iterator[bytes]:
    """Yield the rest of a file in pieces, and call `advance` with the size of each."""
    while chunk := source.read(CHUNK):
        yield chunk
        advance(len(chunk))


def _send_rest(client: Client, path: str, source: BinaryIO, size: int, sent: _Sent) -> dict[str, Any] | None:
    """Send what the daemon does not have yet; return the file if it has all of it."""
    state = client.get(path)
    if state["finished"]:
        found: dict[str, Any] = client.get(state["file"])
        return found
    sent.offset = int(state["offset"])
    sent.show(sent.offset - sent.shown)
    source.seek(sent.offset)
    headers = _TUS | {
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": str(size - sent.offset),
        "Upload-Offset": str(sent.offset),
    }
    timeout = httpx2.Timeout(30, connect=5, read=SETTLE_S)
    client.call("PATCH", path, content=chunks(source, sent.show), headers=headers, timeout=timeout)
    return None


def _unfinished(client: Client, size: int, sha256: str) -> str | None:
    """Return the URL of an interrupted upload of these bytes."""
    found = client.get("/v1/uploads", sha256=sha256, owner=client.owner)["uploads"]
    return next((f"/v1/uploads/{one['id']}" for one in found if one["length"] == size), None)


def _begin(client: Client, name: str, size: int, sha256: str) -> str:
    told = {"filename": name[-1024:], "sha256": sha256}
    metadata = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in told.items())
    headers = _TUS | {"Upload-Length": str(size), "Upload-Metadata": metadata}
    begun = client.call("POST", "/v1/uploads", headers=headers)
    return f"/v1/uploads/{begun['id']}"


def _may_pass(error: CommandError) -> bool:
    return error.exit in (Exit.UNAVAILABLE, Exit.BUSY) or error.code in _TRANSIENT
