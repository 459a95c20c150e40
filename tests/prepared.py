"""A folder of the embedded PostgreSQL that is initialised and migrated once, and copied for each daemon of the tests.

A daemon on a new folder spends more than a second of CPU on both.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

from vidqueue.db import migrate
from vidqueue.db.embedded import server as embedded


def copy_into(data_dir: Path) -> None:
    """Give a data folder that has no server yet the one that is prepared."""
    if (data_dir / embedded.FOLDER).exists():
        return
    source = _prepared() / embedded.FOLDER
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Keeps the owner: the server does not run as root.
    subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(data_dir)], check=True)


@functools.cache
def _prepared() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="vidqueue-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # A thread of its own, because the caller may have an event loop.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _prepare(folder)).result()
    return folder


async def _prepare(folder: Path) -> None:
    async with embedded.running(folder) as url:
        await migrate.migrate(url)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            # Tests kill processes and not the machine.
            await connection.execute("ALTER SYSTEM SET fsync = off")
