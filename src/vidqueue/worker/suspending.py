"""Suspends and resumes the processes of an attempt as its guard requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from vidqueue.worker.executor.suspension import Suspension
from vidqueue.worker.guards import Guard

log = structlog.get_logger(__name__)


@asynccontextmanager
async def suspends(guard: Guard, suspension: Suspension) -> AsyncIterator[None]:
    """Suspend and resume the work inside the block as the guard requests. After the block no process is stopped.

    The processes are resumed before a cancel, because stopped processes cannot react to it.
    """
    heeding: asyncio.Task[None] | None = None

    def heed() -> None:
        nonlocal heeding
        if heeding is None and guard.suspended:
            heeding = asyncio.create_task(_heed(guard, suspension), name="suspension")

    heed()
    guard.on_suspend = heed
    try:
        yield
    finally:
        guard.on_suspend = None
        if heeding is not None:
            heeding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await heeding


async def _heed(guard: Guard, suspension: Suspension) -> None:
    while True:
        guard.suspend_changed.clear()
        if guard.suspended:
            await _suspended(guard, suspension)
        else:
            await guard.suspend_changed.wait()


async def _suspended(guard: Guard, suspension: Suspension) -> None:
    """Keep the processes stopped until the guard resumes them."""
    log.info("attempt_suspended")
    stopping = asyncio.create_task(suspension.suspend(), name="suspension-stops")
    try:
        await guard.suspend_changed.wait()
    finally:
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        suspension.resume()
        log.info("attempt_resumed")
