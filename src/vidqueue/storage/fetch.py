"""Download: fetches a URL into storage, in a thread of its own, hashed while it is read, resumed where the server can.

What has arrived stays in a part file of the job until the job ends, so that a broken connection, a drain or a restart
of the daemon costs no byte twice. The event loop only looks at the counters and enforces the limits of time.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.ops import own_thread
from vidqueue.ops.addresses import AddressGuard, Url
from vidqueue.ops.http_client import Answer, ExchangeError, Stop, UnknownHostError, exchange
from vidqueue.storage.descriptors import CHUNK, no_space_as_error, write_all
from vidqueue.storage.disk_space import MEBIBYTE, STEP, is_short_of_space
from vidqueue.storage.fetch_answers import (
    InterruptedDownloadError,
    file_name,
    refused,
    require_success,
    validator_of,
)
from vidqueue.storage.local import Storage, Stored

REDIRECTS = frozenset({301, 302, 303, 307, 308})
REDIRECTS_FOLLOWED = 5
TICK_S = 0.25
# Fewer bytes than this in a minute are no download.
LEAST_A_MINUTE = 64 * 1024
MINUTE_S = 60.0

Listener = Callable[["Download"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """Bounds of a download: size and free space in MiB, times in seconds."""

    max_mib: int
    low_water_mib: int
    timeout_s: float
    idle_s: float


@dataclass(frozen=True, slots=True)
class Fetched:
    """A downloaded file in storage, locked until `release`, with the name and media type that the server told."""

    stored: Stored
    name: str
    media_type: str


class Download:
    """One download. `received` and `total` (None: not told) may be read while it runs; `fresh` counts new bytes."""

    def __init__(self, url: Url, storage: Storage, part: Path, guard: AddressGuard, limits: FetchLimits) -> None:
        self.url = url
        self.received = 0
        self.fresh = 0
        self.total: int | None = None
        self._storage = storage
        self._part = part
        self._guard = guard
        self._limits = limits
        self._stop = Stop()
        self._lock = threading.Lock()
        self._abandoned = False
        self._moved: Stored | None = None

    async def run(self, listener: Listener) -> Fetched:
        """Download the URL; `listener` is called a few times a second.

        Raises:
            VidqueueError: it cannot be fetched, now or later.
            InterruptedDownloadError: it broke off; another run goes on where this one ended, if the server can.
        """
        # Not a pool: a thread that hangs in the system's resolver must not keep a place in one.
        ended = own_thread.begin(self._whole, "fetch")
        try:
            return await self._supervised(ended, listener)
        except BaseException:
            self._abandon()
            ended.cancel()
            raise

    async def _supervised(self, ended: asyncio.Future[Fetched], listener: Listener) -> Fetched:
        """Wait for the thread; end a download that takes too long, pauses too long, or trickles."""
        begun_at = moved_at = minute_at = time.monotonic()
        known = at_minute = self.received
        while not ended.done():
            await asyncio.wait([ended], timeout=TICK_S)
            now = time.monotonic()
            if self.received != known:
                known, moved_at = self.received, now
            if now - minute_at >= MINUTE_S:
                if self.received - at_minute < LEAST_A_MINUTE and not ended.done():
                    raise InterruptedDownloadError(f"{self.url.host} sends less than 64 KiB a minute")
                minute_at, at_minute = now, self.received
            if now - moved_at > self._limits.idle_s and not ended.done():
                raise InterruptedDownloadError(f"{self.url.host} sent nothing for {self._limits.idle_s:g} s")
            if now - begun_at > self._limits.timeout_s and not ended.done():
                message = f"{self.url.label} took longer than fetch.timeout_s ({self._limits.timeout_s:g} s)."
                raise VidqueueError("fetch_timed_out", message)
            listener(self)
        return ended.result()

    def _abandon(self) -> None:
        """Stop the thread. What it has moved into storage is removed, by whoever comes second."""
        with self._lock:
            self._abandoned = True
            moved = self._moved
        self._stop.stop()
        if moved is not None:
            threading.Thread(target=self._discard, args=[moved], name="fetch-discard", daemon=True).start()

    def _discard(self, stored: Stored) -> None:
        self._storage.delete(stored.id)
        self._storage.release(stored.id)

    def _whole(self) -> Fetched:
        self._part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._part, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return self._fetch(descriptor)
        except BlockingIOError:
            raise InterruptedDownloadError("an earlier download of it is still ending") from None
        except UnknownHostError as error:
            raise VidqueueError("url_not_found", f"{self.url.label} cannot be fetched: {error}.") from None
        except ExchangeError as error:
            if error.refused:
                raise refused(self.url, str(error)) from None
            raise InterruptedDownloadError(str(error)) from None
        finally:
            os.close(descriptor)

    def _fetch(self, descriptor: int) -> Fetched:
        """Follow redirects, each through the guard, to the response with the bytes."""
        url, validator = self.url, self._validator(descriptor)
        for _ in range(REDIRECTS_FOLLOWED + 1):
            offset = os.fstat(descriptor).st_size if validator else 0
            ranged = {"Range": f"bytes={offset}-", "If-Range": validator} if validator and offset else {}
            headers = {"User-Agent": "vidqueue", "Accept": "*/*"} | ranged
            with exchange(url, self._guard, self._stop, headers=headers, idle_s=self._limits.idle_s) as answer:
                if answer.status == 416 and ranged:
                    validator = None
                elif answer.status in REDIRECTS:
                    url = self._redirected(url, answer)
                else:
                    return self._take(url, answer, descriptor, offset if ranged else 0)
        raise refused(self.url, f"it redirects more than {REDIRECTS_FOLLOWED} times")

    def _redirected(self, url: Url, answer: Answer) -> Url:
        if "location" not in answer.headers:
            raise refused(self.url, f"it answered {answer.status} without a Location")
        following = url.join(answer.headers["location"])
        if url.scheme == "https" and following.scheme == "http":
            raise refused(self.url, "it redirects from https to http")
        return following

    def _take(self, url: Url, answer: Answer, descriptor: int, offset: int) -> Fetched:
        """Read the response into the part file, and move that into storage."""
        require_success(self.url, answer, offset)
        begin = offset if answer.status == 206 else 0
        self._remember(answer, descriptor, begin)
        digest = self._digest_of(descriptor, begin)
        self._read(answer, descriptor, digest)
        if self.received == 0:
            raise VidqueueError("input_empty", f"{self.url.label} has no bytes.")
        stored = self._storage.settle(descriptor, self._part, self.received, digest.hexdigest())
        with self._lock:
            self._moved, abandoned = stored, self._abandoned
        if abandoned:
            self._discard(stored)
            raise InterruptedDownloadError("it was stopped")
        self._sidecar.unlink(missing_ok=True)
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        return Fetched(stored, file_name(url, answer.headers), media_type)

    def _remember(self, answer: Answer, descriptor: int, begin: int) -> None:
        """Write down by what the rest can be asked for, before the first byte is written."""
        length = answer.headers.get("content-length", "")
        self.total = begin + int(length) if length.isdecimal() and len(length) <= 15 else None
        self._refuse_too_large(self.total or 0)
        if begin:
            return
        self._sidecar.unlink(missing_ok=True)
        os.ftruncate(descriptor, 0)
        if validator := validator_of(answer.headers):
            self._sidecar.write_text(json.dumps({"validator": validator}), encoding="utf-8")

    def _digest_of(self, descriptor: int, size: int) -> Any:
        digest = hashlib.sha256()
        os.lseek(descriptor, 0, os.SEEK_SET)
        self.received = 0
        while self.received < size:
            chunk = os.read(descriptor, min(CHUNK, size - self.received))
            if not chunk or self._stop.stopped:
                raise InterruptedDownloadError("it was stopped")
            digest.update(chunk)
            self.received += len(chunk)
        return digest

    def _read(self, answer: Answer, descriptor: int, digest: Any) -> None:
        looked_at = -STEP
        for piece in answer.body:
            if self._stop.stopped:
                raise InterruptedDownloadError("it was stopped")
            if self.received - looked_at >= STEP:
                looked_at = self.received
                if is_short_of_space(self._part.parent, self._limits.low_water_mib):
                    raise VidqueueError("no_space", "There is not enough free disk space for this download.")
            self._refuse_too_large(self.received + len(piece))
            with no_space_as_error():
                write_all(descriptor, piece)
            digest.update(piece)
            self.received += len(piece)
            self.fresh += len(piece)

    def _refuse_too_large(self, size: int) -> None:
        if size > self._limits.max_mib * MEBIBYTE:
            message = f"{self.url.label} is larger than fetch.max_mib ({self._limits.max_mib} MiB)."
            raise VidqueueError("fetch_too_large", message)

    @property
    def _sidecar(self) -> Path:
        return self._part.with_suffix(".json")

    def _validator(self, descriptor: int) -> str | None:
        """Return what identifies the bytes of the part file to the server; None if there is nothing to resume."""
        if os.fstat(descriptor).st_size == 0:
            return None
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            return str(json.loads(self._sidecar.read_text(encoding="utf-8"))["validator"])
        return None
