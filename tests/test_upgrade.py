"""An upgrade while jobs run: the newer program migrates, the older one finishes what it has in hand and keeps off."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from tests.daemon import Daemon, until
from vidqueue.db import migrate
from vidqueue.db.embedded import server as embedded
from vidqueue.db.migrate import Migration

# What a newer version may do to every table that the older one works on: columns, indexes, a trigger, new tables.
EXPANDS = """
DO $$
DECLARE
    t regclass;
BEGIN
    FOR t IN SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'vidqueue'::regnamespace AND c.relkind = 'r' LOOP
        EXECUTE format('ALTER TABLE %s ADD COLUMN newer text NOT NULL DEFAULT ''x''', t);
        EXECUTE format('CREATE INDEX ON %s (newer)', t);
    END LOOP;
END
$$;
CREATE TABLE vidqueue.newer (job_id uuid REFERENCES vidqueue.jobs (id) ON DELETE CASCADE);
"""


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[embedded.Server]:
    """A server that outlives the daemons."""
    theirs = embedded.Server(tmp_path / "theirs")
    await theirs.start()
    yield theirs
    await theirs.stop()


def _in_hand(daemon: Daemon, *job_ids: str) -> bool:
    return all(daemon.job(job_id)["stage"] == "work" for job_id in job_ids)


async def test_a_newer_program_migrates_while_an_older_one_drains_and_no_job_notices(
    server: embedded.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Daemon(tmp_path / "data", VIDQUEUE_DATABASE__URL=server.url)
    try:
        await asyncio.to_thread(daemon.start)
        # Enough work before, that every statement has been prepared on the older schema.
        for _ in range(8):
            await asyncio.to_thread(daemon.ended, daemon.submit())
        jobs = [daemon.submit(act="work", seconds=8) for _ in range(2)]
        waiting = daemon.submit(act="work")
        await asyncio.to_thread(until, lambda: _in_hand(daemon, *jobs), what="both jobs at work")
        daemon.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(until, lambda: '"drain_started"' in daemon.log.read_text())

        with monkeypatch.context() as newer:
            steps = [*migrate.known(), Migration("9000_newer", EXPANDS)]
            newer.setattr(migrate, "known", lambda: steps)
            assert await migrate.migrate(server.url) == ["9000_newer"]
        assert daemon.process.poll() is None, "the jobs were still running when the database changed"
        assert _in_hand(daemon, *jobs)

        assert await asyncio.to_thread(daemon.process.wait, 60) == 0
        text = daemon.log.read_text()
        assert "task_restarted" not in text
        assert "attempt_fault" not in text
        rows = _rows(server.url, "SELECT id::text, state::text, attempt, failures FROM vidqueue.jobs")
        states = {row[0]: row[1:] for row in rows}
        assert [states[job_id] for job_id in jobs] == [("succeeded", 1, 0)] * 2
        assert states[waiting] == ("queued", 0, 0)
        assert _rows(server.url, "SELECT * FROM vidqueue_report.invariant_violations") == []
    finally:
        daemon.kill()


async def test_an_older_program_does_not_start_on_a_newer_database(server: embedded.Server, tmp_path: Path) -> None:
    await migrate.migrate(server.url)
    _rows(server.url, "INSERT INTO vidqueue.migrations VALUES ('9999_future', 'x') RETURNING 1")
    daemon = Daemon(tmp_path / "data", VIDQUEUE_DATABASE__URL=server.url)
    with pytest.raises(AssertionError, match="the daemon ended with 69"):
        await asyncio.to_thread(daemon.start)
    assert "newer than this program: it has 9999_future" in daemon.log.read_text()


def _rows(url: str, text: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(text.encode()).fetchall()
