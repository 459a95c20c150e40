"""A full volume under the embedded PostgreSQL: it stops, gets back by itself, and holds what it acknowledged."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psycopg
import pytest

from tests.daemon import Daemon, until
from tests.factory import eventually
from tests.volume import Volume, mounted
from vidqueue.db.embedded import server as embedded
from vidqueue.db.embedded.disk_reserve import FILE, MIB, DiskReserve
from vidqueue.settings.schema import Settings

DISK_RESERVE_MIB = 64
# Less than a new log segment needs, so that the next one stops the server.
ALMOST_NOTHING = 12 * MIB

slow = pytest.mark.slow


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not under pytest's own: another session of the same user closes that one to theirs."""
    with tempfile.TemporaryDirectory(prefix="vidqueue-tests-") as name:
        yield Path(name)


@pytest.fixture
def volume(folder: Path) -> Iterator[Volume]:
    """A volume for a whole data folder."""
    yield from mounted(folder / "data")


@pytest.fixture
def database_volume(folder: Path) -> Iterator[Volume]:
    """A volume for the database alone, so that files of jobs have room."""
    yield from mounted(folder / "data" / "postgres")


@slow
async def test_a_server_that_died_of_a_full_volume_comes_back_with_every_acknowledged_row(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vidqueue.db.embedded.disk_reserve.LOOK_AGAIN_S", 1)
    ballast = volume.folder / "postgres" / FILE
    async with embedded.running(volume.folder, disk_reserve_mib=DISK_RESERVE_MIB) as url:
        await eventually(lambda: asyncio.to_thread(lies, ballast))
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute("CREATE TABLE said (number integer PRIMARY KEY, ballast bytea)")
        volume.fill(leaving=ALMOST_NOTHING)
        acknowledged, refused, away_s = await insert_across_the_outage(url)
        assert not ballast.exists(), "the server came back because it was given up"

        async with await psycopg.AsyncConnection.connect(url) as connection:
            cursor = await connection.execute("SELECT number FROM said")
            rows = {number for (number,) in await cursor.fetchall()}
        assert acknowledged <= rows
        assert rows - acknowledged <= refused, "what was neither acknowledged nor tried is not there"

        volume.make_room()
        await eventually(lambda: asyncio.to_thread(lies, ballast), within_s=30)
    print(f"{len(acknowledged)} acknowledged, {len(rows)} rows, {len(refused)} refused, away for {away_s:.2f} s")


def lies(ballast: Path) -> bool:
    """Whether it is there with real blocks."""
    return ballast.exists() and ballast.stat().st_blocks * 512 >= DISK_RESERVE_MIB * MIB


async def insert_across_the_outage(url: str) -> tuple[set[int], set[int], float]:
    """Insert one row after the other until the server has fallen and taken another hundred."""
    acknowledged: set[int] = set()
    refused: set[int] = set()
    fell_at, back_at, number, since_then = 0.0, 0.0, 0, 0
    async with asyncio.timeout(60):
        while since_then < 100:
            number += 1
            try:
                async with await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=2) as connection:
                    while since_then < 100:
                        await connection.execute("INSERT INTO said VALUES (%s, %s)", (number, os.urandom(16_000)))
                        acknowledged.add(number)
                        since_then += bool(fell_at)
                        back_at = back_at or (time.monotonic() if fell_at else 0)
                        number += 1
            except psycopg.OperationalError:
                refused.add(number)
                fell_at = fell_at or time.monotonic()
                await asyncio.sleep(0.02)
    return acknowledged, refused, back_at - fell_at


@slow
async def test_a_start_on_a_volume_without_a_free_byte_gives_the_ballast_up(volume: Volume) -> None:
    ballast = volume.folder / "postgres" / FILE
    async with embedded.running(volume.folder, disk_reserve_mib=DISK_RESERVE_MIB) as url:
        await eventually(lambda: asyncio.to_thread(lies, ballast))
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute("CREATE TABLE kept AS SELECT 42 AS x")
    volume.fill()
    async with embedded.running(volume.folder, disk_reserve_mib=DISK_RESERVE_MIB) as url:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            cursor = await connection.execute("SELECT x FROM kept")
            assert await cursor.fetchone() == (42,)
        assert not ballast.exists()


@slow
def test_a_daemon_whose_database_volume_ran_full_loses_no_acknowledged_job(database_volume: Volume) -> None:
    ballast = database_volume.folder / FILE
    # The mark would hold the lanes long before the server runs out of room.
    variables = {"VIDQUEUE_DATABASE__DISK_RESERVE_MIB": str(DISK_RESERVE_MIB), "VIDQUEUE_DISK__LOW_WATER_MIB": "0"}
    daemon = Daemon(database_volume.folder.parent, **variables).start()
    try:
        until(lambda: lies(ballast), what="the ballast is laid")
        with Submitter(daemon) as submitter:
            until(lambda: len(submitter.acknowledged) > 10, what="load")
            database_volume.fill(leaving=ALMOST_NOTHING)
            write_until_it_falls(daemon)
            until(lambda: '"embedded_postgres_volume_full"' in daemon.log.read_text(), what="said so in the log")
            count = len(submitter.acknowledged)
            until(lambda: len(submitter.acknowledged) > count + 15, within_s=60, what="jobs are taken again")
            database_volume.make_room()
            until(lambda: lies(ballast), what="the ballast is back")
        states = [daemon.ended(job_id, within_s=90)["state"] for job_id in submitter.acknowledged]
        assert states == ["succeeded"] * len(states)
        assert set(submitter.answers) <= {202, 503, 507}
        assert daemon.violations() == []
        print(f"answers to submits: {submitter.answers}")
    finally:
        daemon.stop()


class Submitter:
    """Submits jobs for the time of a block and remembers what was answered."""

    def __init__(self, daemon: Daemon) -> None:
        self._url = daemon.url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._submit_until_told)
        self.acknowledged: list[str] = []
        self.answers: dict[int, int] = {}

    def __enter__(self) -> Submitter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _submit_until_told(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=30) as http:
            while not self._stop.wait(0.02):
                answer = http.post("/v1/jobs", json={"processor": "zoo", "input": {"act": "work"}})
                self.answers[answer.status_code] = self.answers.get(answer.status_code, 0) + 1
                if answer.status_code == 202:
                    self.acknowledged.append(answer.json()["id"])


def write_until_it_falls(daemon: Daemon) -> None:
    """Fill the log of the database."""
    megabyte = "SELECT pg_logical_emit_message(true, 'filler', repeat('x', 1000000))"
    with pytest.raises(psycopg.OperationalError):
        daemon.sql(";".join([megabyte] * 40))


async def test_a_server_that_does_not_start_for_another_reason_keeps_its_ballast(folder: Path) -> None:
    ballast, settings = folder / "postgres" / FILE, folder / "postgres" / "postgresql.conf"
    async with embedded.running(folder, disk_reserve_mib=DISK_RESERVE_MIB) as url:
        await eventually(lambda: asyncio.to_thread(lies, ballast))
        laid = ballast.stat().st_ino
        good = settings.read_text()
        settings.write_text("nonsense\n")
        os.kill(int((folder / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0]), signal.SIGKILL)
        log = folder / "postgres" / "server.log"
        await eventually(lambda: asyncio.to_thread(lambda: log.read_text().count("syntax error") >= 3))
        assert ballast.stat().st_ino == laid
        settings.write_text(good)
        await eventually(lambda: answers(url))


async def answers(url: str) -> bool:
    try:
        async with await psycopg.AsyncConnection.connect(url, connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False


@pytest.mark.parametrize("wanted", [0, 32])
async def test_a_ballast_of_another_size_is_replaced(folder: Path, wanted: int) -> None:
    (folder / FILE).write_bytes(b"half of one, left by a crash")
    keeping = asyncio.create_task(DiskReserve(folder, wanted).keep())

    async def as_wanted() -> bool:
        return (folder / FILE).stat().st_size == wanted * MIB if wanted else not (folder / FILE).exists()

    try:
        await eventually(as_wanted)
    finally:
        keeping.cancel()


def test_a_ballast_too_small_to_help_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        Settings(database={"disk_reserve_mib": 16})
