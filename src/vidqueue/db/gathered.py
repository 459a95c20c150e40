"""Answers questions that arrive together with one statement: under load it costs a fraction of one statement for each.

A question that comes alone is asked at once. Those that come while a statement runs are asked together in the next one,
so that each is answered from what was committed when it was asked, or later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from vidqueue.db.pool import Connection, Database

MOST = 100
# A statement that takes longer than this does not keep the next one waiting.
PATIENCE_S = 0.1

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Gathered(Generic[Question, Answer]):
    """Questions of one kind. `ask` is given up to a hundred and returns their answers in the same order."""

    def __init__(
        self, database: Database, ask: Callable[[Connection, Sequence[Question]], Awaitable[Sequence[Answer]]]
    ) -> None:
        self._database = database
        self._ask = ask
        self._asking = asyncio.Lock()
        self._open: tuple[list[Question], asyncio.Task[Sequence[Answer]]] | None = None

    async def answer(self, question: Question) -> Answer:
        """Return the answer to a question.

        Raises:
            VidqueueError: as `Database.statement`, for all questions of the statement.
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
        is_next = False
        try:
            is_next = await self._get_turn()
            async with self._database.statement() as connection:
                self._close(questions)
                return await self._ask(connection, questions)
        finally:
            self._close(questions)
            if is_next:
                self._asking.release()

    async def _get_turn(self) -> bool:
        """Wait for the statement before, if there is one; False if that takes too long."""
        if not self._asking.locked():
            return await self._asking.acquire()
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._asking.acquire()
        except TimeoutError:
            return False

    def _close(self, questions: list[Question]) -> None:
        if self._open is not None and self._open[0] is questions:
            self._open = None


def _note_failure(done: asyncio.Task[Sequence[Answer]]) -> None:
    """Nobody may be left to see a failure; asyncio would complain."""
    if not done.cancelled():
        done.exception()
