"""A real pgbouncer between daemon and database: one that swallows notifications is refused, one that does not works."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.daemon import Daemon, until
from vidqueue.db.embedded import server as embedded
from vidqueue.db.embedded.system_user import SYSTEM_USER

PGBOUNCER = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not under pytest's own: another user than ours must come in."""
    with tempfile.TemporaryDirectory(prefix="vidqueue-tests-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def pooled(server: embedded.Server, folder: Path, mode: str) -> Iterator[str]:
    """Address of a pgbouncer in front of the server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\npostgres = host={folder / 'theirs' / embedded.FOLDER} user=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = {mode}\n"
    )
    # It refuses root as PostgreSQL does, and only the server's user comes to the server's socket.
    owner = pwd.getpwnam(SYSTEM_USER) if os.geteuid() == 0 else None
    with (folder / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(
            [str(PGBOUNCER), str(settings)],
            stdout=log, stderr=log, cwd="/",
            user=owner and owner.pw_uid, group=owner and owner.pw_gid, extra_groups=owner and [],
        )  # fmt: skip
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def answers() -> bool:
        assert process.poll() is None, (folder / "pgbouncer.log").read_text()
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        until(answers, what="pgbouncer answers")
        yield url
    finally:
        process.kill()
        process.wait()


async def test_transaction_mode_is_refused_at_the_start_and_said(folder: Path) -> None:
    server = embedded.Server(folder / "theirs")
    await server.start()
    try:
        refused = await asyncio.to_thread(serve_behind, server, folder, "transaction")
    finally:
        await server.stop()
    assert refused.returncode == 69
    assert "LISTEN receives nothing on this connection" in refused.stderr
    assert "a pool in session mode" in refused.stderr


def serve_behind(server: embedded.Server, folder: Path, mode: str) -> subprocess.CompletedProcess[str]:
    with pooled(server, folder, mode) as url:
        variables = {"VIDQUEUE_DATA_DIR": str(folder / "data"), "VIDQUEUE_DATABASE__URL": url}
        return subprocess.run(
            [sys.executable, "-m", "vidqueue", "serve"],
            env=os.environ | variables, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip


async def test_session_mode_carries_jobs_events_and_cancels(folder: Path) -> None:
    server = embedded.Server(folder / "theirs")
    await server.start()
    try:
        await asyncio.to_thread(work_behind, server, folder)
    finally:
        await server.stop()


def work_behind(server: embedded.Server, folder: Path) -> None:
    with pooled(server, folder, "session") as url:
        daemon = Daemon(folder / "data", VIDQUEUE_DATABASE__URL=url).start()
        try:
            # More than five, so that psycopg prepares its statements.
            jobs = [daemon.submit(act="work", seconds=0.1) for _ in range(8)]
            assert {daemon.ended(job_id)["state"] for job_id in jobs} == {"succeeded"}
            stopped = daemon.submit(act="hang")
            until(lambda: daemon.job(stopped)["state"] == "running")
            assert daemon.http.post(f"/v1/jobs/{stopped}/cancel").status_code == 202
            assert daemon.ended(stopped, within_s=8)["state"] == "canceled", "before a renewal would have told"
            with psycopg.connect(url) as connection:
                violations = connection.execute("SELECT * FROM vidqueue_report.invariant_violations").fetchall()
            assert violations == []
        finally:
            daemon.stop()
