"""Tasks that last as long as the daemon: one that ends by an error of any kind is told of and begun again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

AGAIN_AFTER_S = 0.5

log = structlog.get_logger(__name__)


def supervise(act: Callable[[], Awaitable[None]], name: str) -> asyncio.Task[None]:
    """A task that runs `act`, and runs it again whenever it raises; it ends when `act` returns or is cancelled."""
    return asyncio.create_task(_again_and_again(act, name), name=name)


async def _again_and_again(act: Callable[[], Awaitable[None]], name: str) -> None:
    while True:
        try:
            return await act()
        except Exception:
            log.exception("task_begins_again", task=name)
            await asyncio.sleep(AGAIN_AFTER_S)
