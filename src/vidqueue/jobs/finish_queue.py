"""Ends the attempts that lanes of one daemon end at one moment with one statement and one commit.

A commit waits for the disk, and those of attempts wait for each other: the log of events is numbered in their order.
"""

from __future__ import annotations

from collections.abc import Sequence

from vidqueue.db.gathered import Gathered
from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import attempts
from vidqueue.db.tables.attempts import Ended, Ending
from vidqueue.errors import VidqueueError


class FinishQueue:
    """Attempts on their way to their end."""

    def __init__(self, database: Database) -> None:
        self._gathered: Gathered[Ending, Ended | None] = Gathered(database, _finish)

    async def finish(self, ending: Ending) -> Ended | None:
        """End an attempt, durably, with the lane's next one; None, and nothing was written, if it must be ended alone.

        Raises:
            VidqueueError: as `Database.statement`.
        """
        try:
            return await self._gathered.answer(ending)
        except VidqueueError as error:
            if error.code != "overloaded":
                raise
            # Statements before this one take long, and nothing was written. A lane does not wait for those of others.
            return None


async def _finish(connection: Connection, together: Sequence[Ending]) -> Sequence[Ended | None]:
    if len(together) == 1:
        return [await attempts.finish(connection, together[0])]
    return await attempts.finish_together(connection, together)
