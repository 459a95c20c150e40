"""Checks whether a PostgreSQL server accepts sessions, to distinguish an unavailable server from a full pool."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psycopg

ANSWER_WITHIN_S = 0.5


class ServerCheck:
    """Opens a session outside the pool, at most once a second for all callers."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self._url = url
        self._options = options
        self._asked_at = float("-inf")
        self._answer: asyncio.Task[bool] | None = None

    async def answers(self) -> bool:
        """True if the server accepted a session within the last second."""
        now = time.monotonic()
        if self._answer is None or now - self._asked_at > 1:
            self._asked_at, self._answer = now, asyncio.create_task(self._ask())
        # Shielded: one caller may be cancelled while others wait for the same answer.
        return await asyncio.shield(self._answer)

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                connection = await psycopg.AsyncConnection.connect(self._url, **self._options)
        except (psycopg.OperationalError, TimeoutError):
            return False
        await connection.close()
        return True
