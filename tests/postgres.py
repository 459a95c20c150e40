"""A PostgreSQL server that a test owns: it outlives daemons, and can be stopped, killed, frozen and restarted."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.daemon import alive, until
from vidqueue.db.embedded import server as embedded


class Postgres:
    """The embedded server on a folder of its own, started from a thread that lives as long as the server does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = embedded.Server(folder)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.url = self._server.url

    def start(self) -> None:
        """Start it, and return once it takes connections."""
        self._do(self._server.start())

    def stop(self) -> None:
        """Fast shutdown, as `pg_ctl stop`."""
        self._do(self._server.stop())

    def crash(self) -> None:
        """Immediate shutdown, as `pg_ctl stop -m immediate`: every backend dies where it stands."""
        pid = self.postmaster
        os.kill(pid, signal.SIGQUIT)
        until(lambda: not alive(pid), what="the server is down")
        self.stop()  # reaps it

    def close(self) -> None:
        """Stop it for good."""
        if self._is_up():
            thaw(self.processes())
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def accepts_connections_at(self) -> float:
        """Wall time of the first connection that it takes."""

        def taken() -> float | None:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
            except psycopg.OperationalError:
                return None
            return time.time()

        return float(until(taken, within_s=60, what="PostgreSQL takes connections"))

    @property
    def log(self) -> Path:
        """The file that the server writes its log to."""
        return self._folder / "postgres" / "server.log"

    @property
    def postmaster(self) -> int:
        return int((self._folder / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])

    def processes(self) -> list[int]:
        """The postmaster and all its children."""
        command = ["pgrep", "-P", str(self.postmaster)]
        listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return [self.postmaster, *map(int, listing.split())]

    def database(self, name: str) -> str:
        """Address of a new database on this server."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url.replace("@/postgres?", f"@/{name}?")

    def backends(self, condition: str = "true") -> list[int]:
        """Process ids of the daemons' sessions."""
        query = f"SELECT pid FROM pg_stat_activity WHERE application_name = 'vidqueue' AND {condition}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            return [pid for (pid,) in connection.execute(query.encode())]

    def _is_up(self) -> bool:
        return (self._folder / "postgres" / "postmaster.pid").exists() and alive(self.postmaster)

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout=90)


@contextmanager
def own_postgres() -> Iterator[Postgres]:
    """A running server; not under pytest's folders, which another session of the same user closes to the server's."""
    with tempfile.TemporaryDirectory(prefix="vidqueue-tests-") as folder:
        server = Postgres(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.close()


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    """Stops processes with SIGSTOP during the block, or until the block continues them itself."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        thaw(pids)


def thaw(pids: list[int]) -> None:
    """Sends SIGCONT to those processes that still exist."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            continue
