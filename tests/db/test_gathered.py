"""Questions that come together are answered by one statement, and none is lost, mixed up or kept waiting by another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from vidqueue.db import gathered as gathering
from vidqueue.db.gathered import MOST, Gathered
from vidqueue.db.pool import Connection
from vidqueue.errors import VidqueueError
from vidqueue.services import Services


class Doubling:
    """Doubles numbers in the database, and notes which were asked together."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, connection: Connection, numbers: Sequence[int]) -> list[int]:
        self.asked.append(list(numbers))
        await self.gate.wait()
        if -1 in numbers:
            raise VidqueueError("overloaded", "none of these")
        query = "SELECT 2 * n AS twice FROM unnest(%s::int[]) WITH ORDINALITY AS u (n, place) ORDER BY place"
        return [row["twice"] for row in await (await connection.execute(query, [list(numbers)])).fetchall()]


async def test_questions_of_one_moment_are_asked_together(services: Services) -> None:
    ask = Doubling()
    gathered = Gathered(services.database, ask)
    assert await asyncio.gather(*map(gathered.answer, range(16))) == [2 * number for number in range(16)]
    assert ask.asked == [list(range(16))]


async def test_questions_that_come_during_a_statement_share_the_next_one(services: Services) -> None:
    ask = Doubling()
    ask.gate.clear()
    gathered = Gathered(services.database, ask)
    first = asyncio.create_task(gathered.answer(1))
    while not ask.asked:
        await asyncio.sleep(0)
    others = [asyncio.create_task(gathered.answer(number)) for number in (2, 3)]
    await asyncio.sleep(0)
    ask.gate.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6]
    assert ask.asked == [[1], [2, 3]]


async def test_a_statement_that_hangs_does_not_keep_others_waiting(services: Services) -> None:
    ask = Doubling()
    ask.gate.clear()
    gathered = Gathered(services.database, ask)
    hanging = asyncio.create_task(gathered.answer(1))
    while not ask.asked:
        await asyncio.sleep(0)
    later = asyncio.create_task(gathered.answer(2))
    async with asyncio.timeout(20):
        while len(ask.asked) < 2:
            await asyncio.sleep(0.01)
    ask.gate.set()
    assert (await hanging, await later) == (2, 4)


async def test_statements_that_hang_take_two_connections_at_most(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "LAST_PATIENCE_S", 0.1)
    ask = Doubling()
    ask.gate.clear()
    gathered = Gathered(services.database, ask)
    hanging = []
    async with asyncio.timeout(20):
        for number in (1, 2):
            hanging.append(asyncio.create_task(gathered.answer(number)))
            while len(ask.asked) < number:
                await asyncio.sleep(0.01)
        with pytest.raises(VidqueueError) as refused:
            await gathered.answer(3)
    assert refused.value.code == "overloaded"
    assert ask.asked == [[1], [2]]
    ask.gate.set()
    assert await asyncio.gather(*hanging, gathered.answer(4)) == [2, 4, 8]


async def test_a_statement_has_a_bounded_number_of_questions(services: Services) -> None:
    ask = Doubling()
    gathered = Gathered(services.database, ask)
    assert await asyncio.gather(*map(gathered.answer, range(2 * MOST + 1))) == [2 * one for one in range(2 * MOST + 1)]
    assert [len(one) for one in ask.asked] == [MOST, MOST, 1]


async def test_a_failure_is_told_to_everyone_who_asked_and_to_nobody_else(services: Services) -> None:
    gathered = Gathered(services.database, Doubling())
    found = await asyncio.gather(gathered.answer(-1), gathered.answer(1), return_exceptions=True)
    assert [type(one) for one in found] == [VidqueueError, VidqueueError]
    assert await gathered.answer(4) == 8


async def test_one_who_leaves_takes_the_answer_from_none_of_the_others(services: Services) -> None:
    ask = Doubling()
    ask.gate.clear()
    gathered = Gathered(services.database, ask)
    leaving, staying = (asyncio.create_task(gathered.answer(number)) for number in (1, 2))
    while not ask.asked:
        await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    ask.gate.set()
    assert await staying == 4
