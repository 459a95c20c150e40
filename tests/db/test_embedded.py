"""The embedded server: private, tethered, and started again when it falls."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.daemon import alive, until
from tests.factory import eventually
from vidqueue.db.embedded import server as embedded
from vidqueue.ops import processes


async def test_the_folder_is_private_and_the_server_listens_on_no_port(tmp_path: Path) -> None:
    async with embedded.running(tmp_path) as url:
        assert stat.S_IMODE((tmp_path / "postgres").stat().st_mode) == 0o700
        async with await psycopg.AsyncConnection.connect(url) as connection:
            cursor = await connection.execute("SELECT current_setting('listen_addresses'), current_setting('fsync')")
            assert await cursor.fetchone() == ("", "on")
        pid = postmaster(tmp_path)
    assert not alive(pid)


async def test_a_path_too_long_for_a_socket_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    async with embedded.running(deep) as url, await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("SELECT 1")


async def test_a_server_that_falls_is_started_again_with_its_data(tmp_path: Path) -> None:
    async with embedded.running(tmp_path) as url:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute("CREATE TABLE kept AS SELECT 42 AS x")
        os.kill(fallen := postmaster(tmp_path), signal.SIGKILL)

        async def answers() -> bool:
            try:
                async with await psycopg.AsyncConnection.connect(url, connect_timeout=2) as connection:
                    cursor = await connection.execute("SELECT x FROM kept")
                    return await cursor.fetchone() == (42,)
            except psycopg.OperationalError:
                return False

        await eventually(answers, within_s=60)
        assert postmaster(tmp_path) != fallen


def test_a_server_does_not_outlive_a_killed_owner(tmp_path: Path) -> None:
    code = (
        "import asyncio, pathlib, sys\nfrom vidqueue.db.embedded import server as embedded\n"
        "async def main():\n"
        "    async with embedded.running(pathlib.Path(sys.argv[1])):\n"
        "        print('up', flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(main())"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert owner.stdout is not None
    assert any(line == b"up\n" for line in owner.stdout)
    pid = postmaster(tmp_path)
    owner.kill()
    owner.wait()
    until(lambda: not alive(pid), what="the server went with its owner")
    assert not (tmp_path / "postgres" / "postmaster.pid").exists(), "it shut down cleanly"


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])


async def test_variables_of_libpq_for_another_server_lead_nobody_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {
        "PGPORT": "1", "PGHOSTADDR": "127.0.0.1", "PGSERVICE": "another", "PGTARGETSESSIONATTRS": "standby",
        "PGREQUIREAUTH": "scram-sha-256", "PGCHANNELBINDING": "require", "PGGSSENCMODE": "require",
        "PGREQUIREPEER": "nobody",
        "PGSSLCERTMODE": "require", "PGSSLMODE": "require", "PGOPTIONS": "-c search_path=another",
    }  # fmt: skip
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    async with embedded.running(tmp_path) as url, await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute("SELECT current_setting('search_path'), current_setting('data_directory')")
        assert await cursor.fetchone() == ('"$user", public', str(tmp_path / "postgres"))


async def test_no_process_of_the_server_gets_the_environment_of_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VIDQUEUE_DATABASE__URL", "AWS_SECRET_ACCESS_KEY", "PGOPTIONS", "PGPORT", "PYTHONPATH"):
        monkeypatch.setenv(name, "secret")
    async with embedded.running(tmp_path):
        server = postmaster(tmp_path)
        for pid in {server, *processes.children_of(server)}:
            raw = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"secret" not in raw
