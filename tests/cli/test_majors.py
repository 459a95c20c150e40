"""An embedded database of another major version: it is told, nothing is changed, and a backup carries it over."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.conftest import other_postgres
from tests.daemon import Daemon
from vidqueue.db.embedded import server as embedded


@pytest.mark.parametrize(("made_by", "way_out"), [("15", "--programs FOLDER"), ("99", "that ran on it last")])
def test_a_folder_of_another_major_version_is_refused_and_left_as_it_is(
    alone: CommandLine, tmp_path: Path, made_by: str, way_out: str
) -> None:
    folder = tmp_path / "data" / "postgres"
    folder.mkdir(parents=True)
    (folder / "PG_VERSION").write_text(f"{made_by}\n")
    ran = alone("db", "migrate", "--data-dir", str(tmp_path / "data"))
    assert ran.code == 69
    assert f"was made by PostgreSQL {made_by}" in ran.err
    assert way_out in ran.err
    assert "Traceback" not in ran.err
    assert [path.name for path in folder.iterdir()] == ["PG_VERSION"]


@pytest.mark.long
@pytest.mark.skipif(not other_postgres(), reason="no other PostgreSQL is installed")
def test_a_backup_carries_a_database_of_an_older_major_version_over(alone: CommandLine, tmp_path: Path) -> None:
    programs, data = other_postgres()[0], tmp_path / "data"

    async def made_by_the_older() -> str:
        async with embedded.running(data, programs=programs) as url:
            before = Daemon(data, VIDQUEUE_DATABASE__URL=url)
            await asyncio.to_thread(before.start)
            job_id = before.submit(act="work")
            await asyncio.to_thread(before.ended, job_id)
            await asyncio.to_thread(before.stop)
            return job_id

    job_id = asyncio.run(made_by_the_older())
    where = ("--data-dir", str(data))
    assert alone("serve", *where).code == 69
    dumped = alone("db", "dump", "before.tar", "--programs", str(programs), *where)
    assert dumped.code == 0, dumped.err
    (data / "postgres").rename(data / "postgres.older")
    restored = alone("db", "restore", "before.tar", *where)
    assert restored.code == 0, restored.err
    after = Daemon(data).start()
    try:
        assert after.job(job_id)["state"] == "succeeded"
        assert after.ended(after.submit(act="work"))["state"] == "succeeded"
        assert after.violations() == []
    finally:
        after.stop()
