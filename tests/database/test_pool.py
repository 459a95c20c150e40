"""The pool in the moments that psycopg's own is not made for."""

from __future__ import annotations

import asyncio

import pytest

from vidqueue.database import Database


@pytest.mark.parametrize("later", [False, True])
async def test_a_cancellation_that_comes_together_with_a_connection_is_not_lost(database_url: str, later: bool) -> None:
    async with Database(database_url, pool_size=2) as database:

        async def again_and_again() -> None:
            while True:
                async with database.transaction():
                    await asyncio.sleep(0)

        for _ in range(20):
            first, second = database.transaction(), database.transaction()
            await first.__aenter__()
            await second.__aenter__()
            waiting = asyncio.create_task(again_and_again())
            await asyncio.sleep(0.002)
            await first.__aexit__(None, None, None)  # hands its connection to the one that waits
            if later:
                await asyncio.sleep(0)
            waiting.cancel()
            await second.__aexit__(None, None, None)
            done, _ = await asyncio.wait([waiting], timeout=5)
            assert waiting in done
            assert waiting.cancelled()
        async with database.transaction(), database.transaction():
            pass  # both connections are back
