"""URL inputs: checked at submission, downloaded when the job runs, kept as files that the job reads.

A server that does not answer costs the job no attempt: it waits and is tried again, up to `fetch.patience_s`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from uuid import UUID

import structlog

from vidqueue.db.pool import Database
from vidqueue.db.tables import fetches, files
from vidqueue.db.tables.files import FileRow, NewFile
from vidqueue.errors import VidqueueError
from vidqueue.job import Backoff, backoff_s
from vidqueue.ops.addresses import AddressGuard, Resolver, Url, parse_url, system_resolver
from vidqueue.progress import Progress
from vidqueue.settings.schema import Settings
from vidqueue.storage import names
from vidqueue.storage.disk_space import MEBIBYTE
from vidqueue.storage.fetch import Download, Fetched, FetchLimits
from vidqueue.storage.fetch_answers import InterruptedDownloadError
from vidqueue.storage.local import Storage

# A download that breaks off goes on at once this often, as long as it brings new bytes.
RESUMES = 5
PAUSE_S = 1.0
# Between tries the lane is free for other jobs.
BACKOFF = Backoff(5, 300)
LONGEST_WAIT_S = 900.0

Listener = Callable[[Progress], None]

log = structlog.get_logger(__name__)


class FetchLaterError(Exception):
    """The URL does not answer now; the job waits for `delay_s` seconds and burns no attempt."""

    def __init__(self, message: str, delay_s: float) -> None:
        super().__init__(message)
        self.message = message
        self.delay_s = delay_s


class Fetches:
    """Checks and downloads URLs."""

    def __init__(
        self, database: Database, storage: Storage, settings: Settings, resolve: Resolver = system_resolver
    ) -> None:
        self._database = database
        self._storage = storage
        self._patience_s = settings.fetch.patience_s
        self._guard = AddressGuard(settings.fetch.allow, "fetch.allow", resolve)
        self._limits = FetchLimits(
            max_mib=settings.fetch.max_mib,
            low_water_mib=settings.disk.low_water_mib,
            timeout_s=settings.fetch.timeout_s,
            idle_s=settings.fetch.idle_s,
        )

    def check(self, reference: str) -> None:
        """Check a URL without resolving or asking its host.

        Raises:
            VidqueueError: `invalid_url`, `address_forbidden`.
        """
        self._guard.check(parse_url(reference))

    async def stage(self, reference: str, *, owner: str, job_id: UUID, listener: Listener) -> FileRow:
        """Return the stored file with the bytes of a URL, downloaded once for each job.

        `listener` is told the progress whenever new bytes have come.

        Raises:
            VidqueueError: it cannot be fetched.
            FetchLaterError: not now.
        """
        url, key = parse_url(reference), hashlib.sha256(reference.encode()).hexdigest()
        self._guard.check(url)
        async with self._database.statement() as connection:
            known = await fetches.get(connection, job_id, key)
        if known is not None and await self._storage.threads.run(self._storage.has, known.id, known.size):
            return known
        fetched = await self._fetched(url, key, job_id, listener)
        try:
            file = await self._write_down(fetched, key, job_id, owner)
        finally:
            self._storage.release(fetched.stored.id)
        log.info("url_fetched", host=url.host, size=file.size, file=str(file.id))
        return file

    async def _fetched(self, url: Url, key: str, job_id: UUID, listener: Listener) -> Fetched:
        part = self._storage.fetch_folder(job_id) / f"{key[:32]}.part"
        report = _Report(listener)
        advanced = False
        for number in range(RESUMES + 1):
            download = Download(url, self._storage, part, self._guard, self._limits)
            try:
                return await download.run(report.hear)
            except InterruptedDownloadError as error:
                advanced = advanced or download.fresh > 0
                if not download.fresh or number == RESUMES:
                    raise await self._later(url, key, job_id, error, advanced=advanced) from None
                log.info("download_goes_on", host=url.host, received=download.received, error=str(error))
                await asyncio.sleep(PAUSE_S)
        raise AssertionError("the last round returns or raises")

    async def _later(
        self, url: Url, key: str, job_id: UUID, error: InterruptedDownloadError, *, advanced: bool
    ) -> Exception:
        async with self._database.statement() as connection:
            failing = await fetches.failed(connection, job_id, key, advanced=advanced)
            if failing.failing_s >= self._patience_s:
                await fetches.forget(connection, job_id, key)
        if failing.failing_s >= self._patience_s:
            message = f"{url.label} could not be fetched for {failing.failing_s:.0f} s. Last: {error}."
            return VidqueueError("fetch_failed", message)
        delay_s = max(backoff_s(failing.tries, BACKOFF), min(error.retry_after_s, LONGEST_WAIT_S))
        return FetchLaterError(f"{url.label} could not be fetched: {error}", delay_s)

    async def _write_down(self, fetched: Fetched, key: str, job_id: UUID, owner: str) -> FileRow:
        stored = fetched.stored
        label = names.label(fetched.name)
        new = NewFile(
            id=stored.id,
            owner=owner,
            name=label,
            media_type=names.media_type(fetched.media_type, label),
            size=stored.size,
            sha256=stored.sha256,
            node=self._storage.node,
        )
        # When this fails the bytes stay: the commit may have happened, and reconcile removes bytes without a row.
        async with self._database.transaction() as connection:
            await files.add(connection, new)
            await fetches.done(connection, job_id, key, stored.id)
            written = await files.get(connection, stored.id)
        assert written is not None
        return written


class _Report:
    """Turns the counters of a download into progress, when they have changed."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._begun_at: float | None = None
        self._told = -1

    def hear(self, download: Download) -> None:
        now = asyncio.get_running_loop().time()
        received, total = download.received, download.total
        if received == self._told:
            return
        self._told = received
        if self._begun_at is None:
            self._begun_at = now
        rate = download.fresh / (now - self._begun_at) if now > self._begun_at else 0.0
        eta_s = (total - received) / rate if total is not None and rate else None
        size = f" of {total / MEBIBYTE:.1f}" if total is not None else ""
        text = f"{received / MEBIBYTE:.1f}{size} MiB from {download.url.host}"
        self._listener(Progress(0.0, "fetch", text, eta_s=eta_s))
