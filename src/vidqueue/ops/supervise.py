"""Supervision of background tasks: one that raises is logged and started again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

RESTART_AFTER_S = 0.5

log = structlog.get_logger(__name__)


def supervise(act: Callable[[], Awaitable[None]], name: str) -> asyncio.Task[None]:
    """Start a task that runs `act` and restarts it when it raises; it ends when `act` returns or is cancelled."""
    return asyncio.create_task(_restart_on_error(act, name), name=name)


async def _restart_on_error(act: Callable[[], Awaitable[None]], name: str) -> None:
    while True:
        try:
            return await act()
        except Exception:
            log.exception("task_restarted", task=name)
            await asyncio.sleep(RESTART_AFTER_S)
