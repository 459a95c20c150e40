"""The pool in the moments that psycopg's own is not made for."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from tests.factory import Queue
from vidqueue.db import queries
from vidqueue.db.connections import EventLoopConnection
from vidqueue.db.pool import Database, listen
from vidqueue.db.tables import jobs
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


async def test_the_session_that_was_used_last_is_used_next(database_url: str) -> None:
    async with Database(database_url, pool_size=4) as database:
        async with database.statement(), database.statement(), database.statement():
            pass  # three sessions
        used = set()
        for _ in range(10):
            async with database.statement() as connection:
                used.add(connection.info.backend_pid)
    assert len(used) == 1


async def test_no_session_compiles_what_it_asks(any_database_url: str) -> None:
    """Before PostgreSQL 18 a method that is off seems to cost so much that a look at one row would be compiled."""
    explain = "EXPLAIN (ANALYZE, FORMAT JSON) " + queries.load("jobs")["get"]
    options: dict[str, Any] = {"pool_size": 2, "keep_plans": True, "by_index": True}
    async with Database(any_database_url, **options) as database, database.statement() as connection:
        cursor = await connection.execute(explain.encode(), {"id": UUID(int=0), "owner": None})
        (row,) = await cursor.fetchall()
    assert "JIT" not in row["QUERY PLAN"][0]


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


async def _refused(database: Database, statement: str) -> VidqueueError:
    with pytest.raises(VidqueueError) as refused:
        async with database.transaction() as connection:
            await connection.execute(statement)
    return refused.value


async def test_a_pool_in_which_every_connection_is_in_use_is_overloaded(database_url: str) -> None:
    async with Database(database_url, pool_size=2) as database, database.transaction(), database.transaction():
        errors = await asyncio.gather(*(_refused(database, "SELECT 1") for _ in range(20)))
    assert {error.code for error in errors} == {"overloaded"}
    assert "in use" in errors[0].message


@pytest.mark.parametrize(
    "statements",
    [
        ["SELECT pg_sleep(5)"],
        ["SET statement_timeout = '10ms'", "SELECT pg_sleep(5)"],
        ["SET lock_timeout = '10ms'", "LOCK TABLE vidqueue.jobs"],
        ["SELECT pg_sleep(0.6)", "SELECT pg_sleep(0.6)"],
    ],
    ids=["slow", "bounded", "locked", "slow_together"],
)
async def test_a_query_that_takes_too_long_is_no_outage(database_url: str, statements: list[str]) -> None:
    async with (
        Database(database_url) as holder,
        Database(database_url, query_timeout_s=1) as database,
        holder.transaction() as locking,
    ):
        await locking.execute("LOCK TABLE vidqueue.jobs")
        with pytest.raises(VidqueueError) as refused:  # noqa: PT012 - all of it is the scene
            async with database.transaction() as connection:
                for statement in statements:
                    await connection.execute(statement)
        async with database.transaction() as connection:
            await connection.execute("SELECT 1")
    assert refused.value.code == "query_timeout"


async def test_a_deadlock_is_no_outage(database_url: str) -> None:
    async with Database(database_url) as database:

        async def lock(first: int, second: int) -> str:
            try:
                async with database.transaction() as connection:
                    await connection.execute("SELECT pg_advisory_xact_lock(%s)", [first])
                    await asyncio.sleep(0.2)
                    await connection.execute("SELECT pg_advisory_xact_lock(%s)", [second])
            except VidqueueError as error:
                return error.code
            return "done"

        assert sorted(await asyncio.gather(lock(1, 2), lock(2, 1))) == ["done", "overloaded"]


async def test_a_server_that_is_away_is_away() -> None:

    async with Database("postgresql://nobody@127.0.0.1:1/none") as database:
        assert (await _refused(database, "SELECT 1")).code == "database_unavailable"


async def test_a_listener_at_rest_sleeps(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    timers = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def counted(delay: float, *arguments: Any, **options: Any) -> asyncio.TimerHandle:
        timers.append(delay)
        return call_later(delay, *arguments, **options)

    async with await listen(database_url, "vidqueue") as connection:
        monkeypatch.setattr(loop, "call_later", counted)
        assert [one async for one in connection.notifies(timeout=1)] == []
    assert len(timers) <= 2, "it woke up while there was nothing to read"


@pytest.mark.parametrize("by_index", [True, False])
async def test_plans_by_index_read_no_whole_table_however_small_it_was(queue: Queue, by_index: bool) -> None:
    """A plan that reads a small table as a whole is right for it, and is kept when the table has grown."""
    ids = [await queue.submit() for _ in range(3)]
    await queue.sql("ANALYZE vidqueue.jobs")
    async with (
        Database(queue.database.url, keep_plans=True, by_index=by_index) as database,
        database.statement() as connection,
    ):
        read = ""
        for name, values in (("get", {"id": ids[0], "owner": None}), ("page_of_ids", {"ids": ids})):
            text = f"EXPLAIN {queries.load('jobs')[name]}".encode()
            read += "\n".join(str(line) for line in await (await connection.execute(text, values)).fetchall())
        assert bool(re.search(r"(Seq|Bitmap Heap) Scan on jobs", read)) is not by_index


async def test_a_query_that_runs_again_on_its_cursor_answers_as_on_a_new_one(queue: Queue) -> None:
    ids = [await queue.submit(input={"text": text}) for text in ("ä", "b")]
    async with (
        Database(queue.database.url, pool_size=2, keep_plans=True) as keeping,
        keeping.statement() as connection,
    ):
        for _ in range(2):
            for job_id in ids:
                assert await jobs.get(connection, job_id) == await queue.job(job_id)
            with pytest.raises(psycopg.errors.InvalidTextRepresentation):
                await jobs.get(connection, "no id")  # type: ignore[arg-type]
            assert await jobs.get(connection, ids[0], owner="nobody") is None
            assert {*await jobs.get_many(connection, ids)} == {*ids}
        assert isinstance(connection, EventLoopConnection)
        assert connection.cursors is not None
        assert len(connection.cursors) == 2


async def test_a_transaction_that_a_caller_left_open_is_rolled_back(queue: Queue) -> None:
    async with Database(queue.database.url, pool_size=2) as database:
        with contextlib.suppress(ZeroDivisionError):
            async with database.statement() as connection:
                await connection.execute("BEGIN")
                await connection.execute("UPDATE vidqueue.lanes SET paused = true")
                raise ZeroDivisionError
        async with database.statement() as connection:
            await connection.execute("BEGIN")
            await connection.execute("INSERT INTO vidqueue.pauses (processor) VALUES ('zoo')")
        async with database.statement() as first, database.statement() as second:
            for one in (first, second):
                assert one.info.transaction_status is TransactionStatus.IDLE
        assert await queue.sql("SELECT processor FROM vidqueue.pauses") == []
