"""A queue of many rows is brought to the newest shape while others work on it, and nobody waits for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from tests.conftest import fresh
from tests.daemon import promised
from tests.factory import Queue
from vidqueue.db import migrate
from vidqueue.db.migrate import Migration, MigrationError
from vidqueue.db.pool import Database
from vidqueue.jobs import retention
from vidqueue.settings.sections import RetentionSettings
from vidqueue.storage.local import Storage

JOBS, FILES = 25_000, 50_000
# What a program of the release before has left: jobs that ended, each of which read an upload; one of them waits still.
FILL = f"""
    INSERT INTO vidqueue.files (name, media_type, size, sha256, created_at)
    SELECT 'a.mp4', 'video/mp4', 10, repeat('0', 64), now() - interval '999 days' FROM generate_series(1, {FILES});
    INSERT INTO vidqueue.jobs (processor, device, input)
    SELECT 'transcode', 'cpu', jsonb_build_object('video', 'vq:files/' || f.id, 'more', repeat('x', 200))
    FROM (SELECT id FROM vidqueue.files LIMIT {JOBS}) f;
    UPDATE vidqueue.jobs SET state = 'canceled', finished_at = clock_timestamp() - interval '100 days'
    WHERE id <> (SELECT max(id::text)::uuid FROM vidqueue.jobs);
    ANALYZE;
"""
A_WRITE = "UPDATE vidqueue.jobs SET message = 'still here' WHERE state = 'queued'"


@pytest_asyncio.fixture
async def filled_url(server_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A database of the release before, with many rows; on one PostgreSQL, because the others lock alike."""
    for url in fresh(server_url, "template0"):
        await _fill(url, monkeypatch)
        yield url


async def _fill(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        steps = [step for step in migrate.known() if step.name < "0005"]
        older.setattr(migrate, "known", lambda: steps)
        await migrate.migrate(url)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(FILL)


async def longest_wait(url: str, working: asyncio.Task[list[str]]) -> float:
    """The longest time that a statement of another program took while this went on."""
    longest = 0.0
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while not working.done():
            began = time.monotonic()
            await connection.execute(A_WRITE)
            longest = max(longest, time.monotonic() - began)
            await asyncio.sleep(0.01)
    return longest


@pytest.mark.slow
async def test_a_program_of_the_release_before_works_on_while_many_rows_are_migrated(
    filled_url: str, tmp_path: Path
) -> None:
    migrating = asyncio.create_task(migrate.migrate(filled_url))
    waited = await longest_wait(filled_url, migrating)
    assert (await migrating)[-1] == migrate.known()[-1].name
    assert waited < promised(2)
    async with Database(filled_url) as database:
        queue = Queue(database)
        (needed,) = await queue.sql(
            "SELECT f.id FROM vidqueue.files f JOIN vidqueue.jobs j ON j.input ->> 'video' = 'vq:files/' || f.id"
            " WHERE j.state = 'queued'"
        )
        # Some go; the others stand for the batches that a test need not wait for.
        await queue.sql("DELETE FROM vidqueue.files WHERE id <> %s AND id::text NOT LIKE '%%00'", needed["id"])
        storage = Storage(tmp_path / "data")
        assert (await retention.prune(database, storage, RetentionSettings(jobs_days=0)))["uploads"] > 100
        assert await queue.sql("SELECT id FROM vidqueue.files") == [needed]
        assert await queue.violations() == []


BUILDS = """-- concurrently
-- Why.
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS first_of_two ON vidqueue.jobs (title);
CREATE INDEX CONCURRENTLY IF NOT EXISTS second_of_two ON vidqueue.jobs (stage)
    WHERE stage IS NOT NULL;
"""
STANDING = """SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE c.relname LIKE '%of_two' AND i.indisvalid ORDER BY 1"""


@pytest.fixture
def building(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer program that builds two indexes more."""
    steps = [*migrate.known(), Migration("9000_indexes", BUILDS)]
    monkeypatch.setattr(migrate, "known", lambda: steps)


@pytest.mark.usefixtures("building")
async def test_an_index_whose_building_broke_off_is_built_anew_by_the_next_start(
    any_database_url: str, any_queue: Queue
) -> None:
    both = [await any_queue.submit(title="same") for _ in range(2)]
    with pytest.raises(psycopg.errors.UniqueViolation):
        await migrate.migrate(any_database_url)
    assert await any_queue.sql(STANDING) == []
    assert await migrate.pending(any_database_url) == ["9000_indexes"]
    await any_queue.sql("UPDATE vidqueue.jobs SET title = 'other' WHERE id = %s", both[0])
    assert await migrate.migrate(any_database_url) == ["9000_indexes"]
    assert [one["relname"] for one in await any_queue.sql(STANDING)] == ["first_of_two", "second_of_two"]


@pytest.mark.usefixtures("building")
async def test_an_index_that_a_long_transaction_keeps_from_being_built_is_given_up_and_built_later(
    any_database_url: str, any_queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await psycopg.AsyncConnection.connect(any_database_url) as writer:
        await writer.execute("LOCK TABLE vidqueue.jobs IN ROW EXCLUSIVE MODE")
        with monkeypatch.context() as impatient:
            impatient.setattr(migrate, "LOCK_TIMEOUT_S", 0.2)
            with pytest.raises(MigrationError, match="9000_indexes waited"):
                await migrate.migrate(any_database_url)
        await asyncio.wait_for(any_queue.submit(), 5)
    assert await migrate.migrate(any_database_url) == ["9000_indexes"]
    assert len(await any_queue.sql(STANDING)) == 2
