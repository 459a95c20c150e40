"""Fixtures: real PostgreSQL servers, databases of one's own, and the open services. PostgreSQL is never faked."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio
import uvloop

from tests.factory import Queue
from vidqueue.db import migrate
from vidqueue.db.embedded import server as embedded
from vidqueue.db.event_feed import EventFeed
from vidqueue.db.pool import Database
from vidqueue.jobs.inputs import Inputs
from vidqueue.ops.watchdog import Watchdog
from vidqueue.services import Services
from vidqueue.settings.schema import Settings
from vidqueue.storage.local import Storage

ZOO = Path(__file__).parent / "zoo"
# They begin first, so that no worker is left alone with one of them at the end.
LONGEST = (
    "test_storm", "compat/test_videos_servers", "processors/test_cases", "test_daemon", "worker/test_lanes",
    "jobs/test_model", "faults/test_outage", "processors/test_export", "processors/test_corpus",
    "faults/test_failpoints", "faults/test_reaper", "faults/test_crowd", "cli/test_machine", "cli/test_usage",
    "faults/test_cancel", "ops/test_systemd", "dashboard/test_browser", "cli/test_targets", "cli/test_backup",
    "processors/test_managed_peers", "worker/test_lane_health", "worker/test_lane_availability", "sdk/test_page",
    "cli/test_jobs", "cli/test_selection", "sdk/test_try", "sdk/test_reload", "test_acceptance", "test_wheel",
    "processors/test_cog_old", "processors/test_cog", "cli/test_walk", "test_webhooks", "db/test_large_migration",
)  # fmt: skip
TEMPLATE = "vidqueue_template"
IN_MEMORY, ROOM = Path("/dev/shm"), 4 << 30

# The zoo is a package installed from outside: found by its entry point, in this process and in every child.
sys.path.insert(0, str(ZOO))
os.environ["PYTHONPATH"] = os.pathsep.join([str(ZOO), *filter(None, [os.environ.get("PYTHONPATH")])])
# The tests run on the event loop of the daemon.
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
# A shell that starts the tests in the background lets them ignore SIGINT, and every child would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for name in [name for name in os.environ if name.startswith("VIDQUEUE_") and not name.startswith("VIDQUEUE_TEST_")]:
    del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the workers of pytest-xdist take one file after the other."""
    places = {Path(__file__).parent / f"{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(LONGEST)))


def other_postgres() -> list[Path]:
    """Program folders of PostgreSQL versions that the machine has besides ours."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    folders = {path.resolve().parent for path in [*found, *([Path(on_path)] if on_path else [])]}
    return sorted(folders)


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[Path]:
    """A folder for servers, not under pytest's own: another session of the same user closes that one to theirs.

    It is in memory if there is room: a database for each test then costs a third of the CPU.
    """
    in_memory = IN_MEMORY if IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > ROOM else None
    with tempfile.TemporaryDirectory(prefix="vidqueue-tests-", dir=in_memory) as folder:
        yield Path(folder)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server_url(postgres_folder: Path) -> AsyncIterator[str]:
    """The embedded PostgreSQL 18, for the whole session."""
    async with embedded.running(postgres_folder / "embedded") as url:
        await _make_template(url)
        yield url


@pytest.fixture
def server_log(server_url: str, postgres_folder: Path) -> Path:
    """The log that the embedded PostgreSQL writes."""
    del server_url
    return postgres_folder / "embedded" / "postgres" / "server.log"


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=["18", *map(str, other_postgres())])
async def any_server_url(request: pytest.FixtureRequest, server_url: str, postgres_folder: Path) -> AsyncIterator[str]:
    """Each PostgreSQL there is: the embedded one, and every other major of the machine."""
    if request.param == "18":
        yield server_url
        return
    # A new folder each time: pytest may end and begin this fixture more than once in a session.
    folder = Path(tempfile.mkdtemp(dir=postgres_folder))
    server = embedded.Server(folder, programs=Path(request.param))
    await server.start()
    await _make_template(server.url)
    yield server.url
    await server.stop()


async def _make_template(url: str) -> None:
    """Migrate a database to copy, on a server that need not survive a loss of power: most tests begin with a copy."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for setting in ("fsync = off", "full_page_writes = off", "max_wal_size = '256MB'"):
            await connection.execute(f"ALTER SYSTEM SET {setting}".encode())
        await connection.execute("SELECT pg_reload_conf()")
        await connection.execute(f'CREATE DATABASE "{TEMPLATE}"')
    await migrate.migrate(in_database(url, TEMPLATE))


def in_database(url: str, name: str) -> str:
    """The same server, another database."""
    return url.replace("@/postgres?", f"@/{name}?")


def fresh(url: str, template: str) -> Iterator[str]:
    """A copy of the template for the time of a fixture."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        # The default strategy writes the whole copy to the WAL too.
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
    yield in_database(url, name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def database_url(server_url: str) -> Iterator[str]:
    """A migrated database of one's own."""
    yield from fresh(server_url, TEMPLATE)


@pytest.fixture
def any_database_url(any_server_url: str) -> Iterator[str]:
    """A migrated database of one's own, on each PostgreSQL of the machine."""
    yield from fresh(any_server_url, TEMPLATE)


@pytest.fixture
def empty_database_url(any_server_url: str) -> Iterator[str]:
    """An empty database of one's own, on each PostgreSQL of the machine."""
    yield from fresh(any_server_url, "template0")


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The pool on a migrated database."""
    async with Database(database_url) as opened:
        yield opened


@pytest_asyncio.fixture
async def any_database(any_database_url: str) -> AsyncIterator[Database]:
    """The pool on a migrated database, on each PostgreSQL of the machine."""
    async with Database(any_database_url) as opened:
        yield opened


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a data folder of their own and short times."""
    values: dict[str, Any] = {
        "data_dir": tmp_path / "data",
        "inputs": {"roots": [tmp_path]},
        "running": {"lease_s": 3},
        "api": {"port": 0},
    }
    return Settings(**values)


@pytest_asyncio.fixture
async def services(settings: Settings, database: Database) -> AsyncIterator[Services]:
    """All services open, without lanes."""
    watchdog = Watchdog()
    async with EventFeed(database, watchdog) as event_feed:
        storage = Storage(settings.data_dir)
        yield Services(settings, database, event_feed, storage, Inputs(database, storage, settings), watchdog)


@pytest_asyncio.fixture
async def queue(database: Database) -> Queue:
    """Short words for what tests do to the queue."""
    return await Queue.prepared(database)


@pytest_asyncio.fixture
async def any_queue(any_database: Database) -> Queue:
    """Short words for what tests do to the queue, on each PostgreSQL of the machine."""
    return await Queue.prepared(any_database)


@pytest.fixture
def no_orphans() -> Iterator[None]:
    """Fails when a test leaves an executor behind; an ffmpeg cannot outlive its executor."""
    yield
    listing = subprocess.run(["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    ours = f"--parent {os.getpid()} "
    left = [line for line in listing.splitlines() if "vidqueue.worker.executor.child" in line and ours in line]
    assert not left, f"left behind: {left}"
