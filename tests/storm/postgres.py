"""The PostgreSQL of a storm: started, killed, and started again at will, with short queries on the side."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from tests.daemon import alive, until
from vidqueue import embedded


class Postgres:
    """The embedded server, driven from threads. It is tethered to a thread that lives as long as the storm."""

    def __init__(self, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="postgres", daemon=True)
        self._thread.start()
        self._server = embedded.Server(folder)
        self._pid_file = folder / embedded.FOLDER / "postmaster.pid"
        self.url = self._server.url

    def start(self) -> None:
        """Start it, for the first time or again, and wait until it takes connections."""
        self._do(self._server.start())

    def stop(self) -> None:
        """Fast shutdown."""
        self._do(self._server.stop())

    def crash(self) -> None:
        """What `pg_ctl stop -m immediate` does: no checkpoint, no good-bye."""
        postmaster = self.postmaster()
        os.kill(postmaster, signal.SIGQUIT)
        until(lambda: not alive(postmaster), what="PostgreSQL is down")

    def close(self) -> None:
        """Stop it and its thread."""
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def postmaster(self) -> int:
        """Its process id."""
        return int(self._pid_file.read_text().split("\n", 1)[0])

    def sql(self, text: LiteralString, *values: Any) -> list[dict[str, Any]]:
        """Run a statement in a transaction of its own and return its rows.

        Raises:
            psycopg.Error: the server is away, or refuses.
        """
        options: dict[str, Any] = {"connect_timeout": 5, "options": "-c statement_timeout=20000"}
        with psycopg.connect(self.url, row_factory=dict_row, application_name="storm", **options) as connection:
            cursor = connection.execute(text, values or None)
            return cursor.fetchall() if cursor.description else []

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(90)
