"""The real queue of the model checks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.jobs.deeds import MILL, SAW
from tests.jobs.model import MAX_LOSSES
from tests.jobs.world import World
from vidqueue import job
from vidqueue.db.pool import Database

# Its asserts show what differs, like those of a test.
pytest.register_assert_rewrite("tests.jobs.machine")


@pytest.fixture
def world(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A queue of one's own that does not wait for the disk: no machine breaks down here."""
    with (
        asyncio.Runner() as runner,
        opened(runner, Database(f"{database_url}&options=-csynchronous_commit%3Doff")) as database,
    ):
        monkeypatch.setattr(job, "MAX_LOSSES", MAX_LOSSES)
        prepared = World(runner, database, tmp_path)
        prepared.run(prepared.prepare([MILL, SAW]))
        yield prepared


@contextmanager
def opened(runner: asyncio.Runner, database: Database) -> Iterator[Database]:
    runner.run(database.__aenter__())
    try:
        yield database
    finally:
        runner.run(database.__aexit__(None, None, None))
