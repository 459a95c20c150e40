"""The pool in the moments that psycopg's own is not made for."""

from __future__ import annotations

import asyncio

import pytest

from tests.factory import Queue
from vidqueue.db.pool import Database
from vidqueue.errors import VidqueueError


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


async def test_a_daemon_that_stands_still_inside_a_transaction_stops_nobody_for_long(queue: Queue) -> None:
    """It has told an event and holds the lock of the log; the server ends its session, and it is told so."""
    async with Database(queue.database.url) as sleeper:
        with pytest.raises(VidqueueError, match="does not answer") as refused:  # noqa: PT012 - all of it is the scene
            async with sleeper.transaction() as connection:
                await connection.execute(
                    "SELECT vidqueue.record_event(vidqueue.new_id(), 'local', 'progress', '{}'::jsonb)"
                )
                async with asyncio.timeout(8):
                    await queue.submit()
                await connection.execute("SELECT 1")
    assert refused.value.code == "database_unavailable"
    assert await queue.sql("SELECT 1 FROM vidqueue.events WHERE kind = 'progress'") == []


async def test_a_server_that_turned_read_only_is_away_and_no_fault_of_a_job(database: Database) -> None:
    with pytest.raises(VidqueueError) as refused:  # noqa: PT012 - all of it is the scene
        async with database.transaction() as connection:
            await connection.execute("SET TRANSACTION READ ONLY")
            await connection.execute("UPDATE vidqueue.owners SET served_at = now()")
    assert refused.value.code == "database_unavailable"
