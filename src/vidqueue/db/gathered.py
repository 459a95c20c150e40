"""Answers questions that arrive together with one statement: under load it costs a fraction of one statement for each.

A question that comes alone is asked at once. Those that come while a statement runs are asked together in the next one,
so that each is answered from what was committed when it was asked, or later.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from vidqueue.db.pool import Connection, Database
from vidqueue.errors import VidqueueError

MOST = 100
# A statement that takes longer than this does not keep the next one waiting. What blocks two of them, such as a lock
# that somebody holds, may block all: no third one takes a connection, which others need.
PATIENCE_S = 0.1
LAST_PATIENCE_S = 1.5

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Gathered(Generic[Question, Answer]):
    """Questions of one kind. `ask` is given up to a hundred and returns their answers in the same order."""

    def __init__(
        self, database: Database, ask: Callable[[Connection, Sequence[Question]], Awaitable[Sequence[Answer]]]
    ) -> None:
        self._database = database
        self._ask = ask
        self._asking, self._asking_beside = asyncio.Lock(), asyncio.Lock()
        self._open: tuple[list[Question], asyncio.Task[Sequence[Answer]]] | None = None

    async def answer(self, question: Question) -> Answer:
        """Return the answer to a question.

        Raises:
            VidqueueError: as `Database.statement`, for all questions of the statement; `overloaded`.
        """
        if self._open is None or len(self._open[0]) >= MOST:
            questions: list[Question] = []
            self._open = questions, asyncio.create_task(self._answers(questions))
            self._open[1].add_done_callback(_note_failure)
        questions, answering = self._open
        questions.append(question)
        place = len(questions) - 1
        # One who leaves takes the answer from none of the others.
        return (await asyncio.shield(answering))[place]

    async def _answers(self, questions: list[Question]) -> Sequence[Answer]:
        turn = None
        try:
            turn = await self._get_turn()
            async with self._database.statement() as connection:
                self._close(questions)
                return await self._ask(connection, questions)
        finally:
            self._close(questions)
            if turn is not None:
                turn.release()

    async def _get_turn(self) -> asyncio.Lock:
        """Wait for the statement before, or for the one beside it, and return the lock that is to be released.

        Raises:
            VidqueueError: `overloaded`, both take too long.
        """
        for lock, patience_s in ((self._asking, PATIENCE_S), (self._asking_beside, LAST_PATIENCE_S)):
            if not lock.locked():
                await lock.acquire()
                return lock
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await lock.acquire()
                    return lock
        raise VidqueueError("overloaded", "The database takes too long to answer what was asked before.")

    def _close(self, questions: list[Question]) -> None:
        if self._open is not None and self._open[0] is questions:
            self._open = None


def _note_failure(done: asyncio.Task[Sequence[Answer]]) -> None:
    """Nobody may be left to see a failure; asyncio would complain."""
    if not done.cancelled():
        done.exception()
