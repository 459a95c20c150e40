"""Writes the preview pictures of an attempt to the database: the newest one, at most one a second, and no event."""

from __future__ import annotations

import asyncio
import time

import structlog

from vidqueue.db.pool import Database
from vidqueue.db.tables import outputs
from vidqueue.errors import VidqueueError
from vidqueue.job import AttemptRef
from vidqueue.progress import PREVIEW_EVERY_S, is_preview

log = structlog.get_logger(__name__)


class Previews:
    """The previews of one attempt. `hear` never blocks; one that comes too soon is written later, or replaced."""

    def __init__(self, database: Database, ref: AttemptRef) -> None:
        self._database = database
        self._ref = ref
        self._picture: bytes | None = None
        self._begun_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._wrote = False

    def hear(self, picture: bytes) -> None:
        """Show this picture; what is no preview is passed over, because a processor's process sent it."""
        if not is_preview(picture):
            return
        self._picture = picture
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write(), name="preview")

    async def close(self) -> None:
        """Stop, and remove what was written: it shows work that is over."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._wrote:
            try:
                async with self._database.statement() as connection:
                    await outputs.forget_preview(connection, self._ref)
            except VidqueueError:
                log.info("preview_not_removed")  # it is never shown once the attempt has ended

    async def _write(self) -> None:
        while self._picture is not None:
            await asyncio.sleep(max(0.0, self._begun_at + PREVIEW_EVERY_S - time.monotonic()))
            self._begun_at, picture, self._picture = time.monotonic(), self._picture, None
            try:
                self._wrote = True
                async with self._database.statement() as connection:
                    await outputs.save_preview(connection, self._ref, picture)
            except VidqueueError:
                log.info("preview_not_written")  # the next one may be
