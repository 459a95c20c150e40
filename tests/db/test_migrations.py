"""Migrations apply once, whole, in order, and refuse what they do not understand."""

from __future__ import annotations

import asyncio
import time
from importlib import resources

import psycopg
import pytest
from structlog.testing import capture_logs

from tests.factory import Queue
from vidqueue.db import migrate
from vidqueue.db.fitness import DatabaseUnfitError, require_fit
from vidqueue.db.migrate import Migration, MigrationError
from vidqueue.db.tables import jobs
from vidqueue.db.tables.jobs import JobFilter


async def test_an_empty_database_gets_every_migration_and_a_second_run_gets_none(empty_database_url: str) -> None:
    assert await migrate.migrate(empty_database_url) == [step.name for step in migrate.known()]
    assert await migrate.migrate(empty_database_url) == []
    assert await migrate.pending(empty_database_url) == []


async def test_five_daemons_starting_at_once_apply_each_migration_once(empty_database_url: str) -> None:
    applied = await asyncio.gather(*(migrate.migrate(empty_database_url) for _ in range(5)))
    assert sorted(len(names) for names in applied) == [0, 0, 0, 0, len(migrate.known())]


async def test_an_edited_applied_file_is_refused(any_database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(any_database_url) as connection:
        await connection.execute("UPDATE vidqueue.migrations SET checksum = 'x' WHERE name = '0002_queue'")
    with pytest.raises(MigrationError, match="edited: 0002_queue"):
        await migrate.migrate(any_database_url)


async def test_a_database_newer_than_the_program_is_refused(any_database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(any_database_url) as connection:
        await connection.execute("INSERT INTO vidqueue.migrations VALUES ('9999_future', 'x')")
    with pytest.raises(MigrationError, match="newer than this program: it has 9999_future"):
        await migrate.migrate(any_database_url)
    with pytest.raises(MigrationError):
        await migrate.pending(any_database_url)


async def test_a_migration_that_fails_half_way_leaves_nothing(
    any_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Migration("9000_broken", "CREATE TABLE vidqueue.half (x int); SELECT 1/0;")
    steps = [*migrate.known(), broken]
    monkeypatch.setattr(migrate, "known", lambda: steps)
    with pytest.raises(psycopg.errors.DivisionByZero):
        await migrate.migrate(any_database_url)
    assert await migrate.pending(any_database_url) == ["9000_broken"]
    async with await psycopg.AsyncConnection.connect(any_database_url) as connection:
        cursor = await connection.execute("SELECT to_regclass('vidqueue.half')")
        assert await cursor.fetchone() == (None,)


ADDS_A_COLUMN = "ALTER TABLE vidqueue.jobs ADD COLUMN added int"


async def test_a_migration_that_waits_for_a_table_lets_others_pass_and_comes_through_in_the_end(
    any_database_url: str, any_queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [*migrate.known(), Migration("9000_wide", ADDS_A_COLUMN)]
    monkeypatch.setattr(migrate, "known", lambda: steps)
    async with await psycopg.AsyncConnection.connect(any_database_url) as reader:
        await reader.execute("SELECT count(*) FROM vidqueue.jobs")  # and stays in its transaction
        migrating = asyncio.create_task(migrate.migrate(any_database_url))
        slowest_s = 0.0
        with capture_logs() as logs:
            while sum(one["event"] == "migration_waits_for_table" for one in logs) < 3:
                assert not migrating.done()
                began = time.monotonic()
                await any_queue.submit()
                slowest_s = max(slowest_s, time.monotonic() - began)
        # Not the two seconds and more for which the migration has waited by now.
        assert slowest_s < migrate.TABLE_LOCK_MS / 1000 + 0.5
        await reader.rollback()
        assert await migrating == ["9000_wide"]


async def test_a_migration_that_never_gets_its_table_gives_up_and_leaves_nothing(
    any_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [*migrate.known(), Migration("9000_wide", f"CREATE TABLE vidqueue.half (x int); {ADDS_A_COLUMN}")]
    monkeypatch.setattr(migrate, "known", lambda: steps)
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT_S", 0.2)
    async with await psycopg.AsyncConnection.connect(any_database_url) as reader:
        await reader.execute("SELECT count(*) FROM vidqueue.jobs")
        with pytest.raises(MigrationError, match=r"9000_wide waited 0\.2 s for a table"):
            await migrate.migrate(any_database_url)
        cursor = await reader.execute("SELECT to_regclass('vidqueue.half')")
        assert await cursor.fetchone() == (None,)


async def test_a_program_that_finds_another_one_migrating_for_too_long_says_so(
    any_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT_S", 0.2)
    async with await psycopg.AsyncConnection.connect(any_database_url) as other:
        await other.execute("SELECT pg_advisory_lock(%s, %s)", migrate.LOCK)
        with pytest.raises(MigrationError, match="Another program has been migrating"):
            await migrate.migrate(any_database_url)


@pytest.mark.parametrize("depth", [120, 400, 14_000])
async def test_a_list_shows_jobs_whose_input_was_stored_before_its_depth_was_bounded(
    any_database_url: str, any_queue: Queue, depth: int
) -> None:
    job_id, other = await any_queue.submit(), await any_queue.submit()
    deep = '{"a": ' + "[" * depth + "]" * depth + "}"
    (step,) = (one for one in migrate.known() if one.name == "0180_shallow_inputs")
    async with await psycopg.AsyncConnection.connect(any_database_url) as connection:
        await connection.execute("UPDATE vidqueue.jobs SET input = %s WHERE id = %s", (deep, job_id))
        await connection.execute("DELETE FROM vidqueue.migrations WHERE name = %s", (step.name,))
    assert await migrate.migrate(any_database_url) == [step.name]
    async with any_queue.database.transaction() as connection:
        shown = {job.id: job.input for job in await jobs.page(connection, JobFilter(owner="local"))}
    assert shown[job_id] == {"replaced": "The input was nested in more than 100 levels."}
    assert "replaced" not in shown[other]


async def test_a_fit_server_tells_its_version(any_database_url: str) -> None:
    assert int(await require_fit(any_database_url)) >= 14


def test_the_installed_procrastinate_has_the_schema_that_our_migrations_begin_with() -> None:
    """When this fails after an upgrade, write a migration with what the package's own migrations add."""
    theirs = resources.files("procrastinate.sql").joinpath("schema.sql").read_text(encoding="utf-8")
    assert migrate.known()[0].text == f"CREATE SCHEMA IF NOT EXISTS procrastinate;\n{theirs}"


async def test_another_text_in_the_package_is_no_edited_migration(
    any_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate.known.cache_clear()
    real = resources.files

    def upgraded(package: str) -> object:
        assert package != "procrastinate.sql", "the schema is ours, whatever the package has"
        return real(package)

    monkeypatch.setattr(migrate, "files", upgraded)
    assert await migrate.pending(any_database_url) == []
    migrate.known.cache_clear()


async def test_a_server_that_goes_away_during_the_migration_is_one_that_does_not_answer(any_database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(any_database_url, autocommit=True) as other:
        # The program waits for its turn, so that the connection can be taken from it.
        await other.execute("SELECT pg_advisory_lock(%s, %s)", migrate.LOCK)
        migrating = asyncio.create_task(migrate.migrate(any_database_url))
        lost = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_try_advisory_lock%'"
        while not (await (await other.execute(lost)).fetchone() or migrating.done()):
            await asyncio.sleep(0.02)
        with pytest.raises(DatabaseUnfitError, match="does not answer"):
            await migrating
