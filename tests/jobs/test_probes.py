"""Turns between owners: nobody waits for all that another one has asked for."""

from __future__ import annotations

import asyncio

from vidqueue.jobs.probes import Turns


async def test_owners_take_turns_however_much_one_of_them_asks_for() -> None:
    turns, served, gate = Turns(1), list[str](), asyncio.Event()

    async def ask(owner: str) -> None:
        async with turns.slot(owner):
            await gate.wait()
            served.append(owner)

    asking = [asyncio.create_task(ask(owner)) for owner in ["much"] * 6 + ["little", "less"]]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*asking)
    assert served == ["much", "much", "little", "less", "much", "much", "much", "much"]


async def test_one_who_leaves_the_line_takes_no_slot_with_him() -> None:
    turns = Turns(2)

    async def ask(owner: str) -> None:
        async with turns.slot(owner):
            await asyncio.sleep(0)

    for _ in range(30):
        asking = [asyncio.create_task(ask(owner)) for owner in "abcab"]
        await asyncio.sleep(0)
        for one in asking[::2]:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    assert turns._free == 2
    assert not turns._waiting
