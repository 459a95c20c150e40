"""Migrations apply once, whole, in order, and refuse what they do not understand."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from vidqueue import migrate
from vidqueue.database import require_fit
from vidqueue.migrate import Migration, MigrationError


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
    with pytest.raises(MigrationError, match="newer than this program: it knows 9999_future"):
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


async def test_a_fit_server_tells_its_version(any_database_url: str) -> None:
    assert int(await require_fit(any_database_url)) >= 14
