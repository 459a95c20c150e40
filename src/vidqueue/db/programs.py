"""PostgreSQL's own programs: psql, pg_dump and pg_restore, run on our database.

A password goes to them in PGPASSWORD and never in an argument, because every user of the machine can read arguments.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from vidqueue.db.connections import CONNECT_OPTIONS
from vidqueue.db.embedded.programs import EmbeddedError, bundled_programs
from vidqueue.db.pool import Connection, row

# What belongs to vidqueue in a database that may hold other people's tables too.
SCHEMAS = ("procrastinate", "vidqueue", "vidqueue_report")


class ProgramError(Exception):
    """A program of PostgreSQL failed; the message has its last output."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command line and the environment that it needs."""

    words: list[str]
    environment: dict[str, str]


def command(program: str, url: str, arguments: Sequence[str] = ()) -> Command:
    """Return the command line that runs a program on the database at `url`.

    The bundled programs come first: pg_dump refuses a server that is newer than itself, and theirs is the newest.

    Raises:
        EmbeddedError: the program is neither on PATH nor bundled.
        ProgramError: `url` is not a valid address.
    """
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ProgramError("database.url is not a valid PostgreSQL URL.") from None
    password = parts.pop("password", None)
    secret = {} if password is None else {"PGPASSWORD": str(password)}
    conninfo = make_conninfo(**{name: str(value) for name, value in parts.items() if value is not None})
    words = [_path_of(program), f"--dbname={conninfo}", *arguments]
    return Command(words, dict(os.environ) | secret)


def dump(url: str, snapshot: str, target: Path) -> None:
    """Write vidqueue's schemas, as they are in a snapshot, in pg_dump's custom format.

    Raises:
        ProgramError: pg_dump failed.
    """
    chosen = [f"--schema={name}" for name in SCHEMAS]
    options = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}", f"--file={target}"]
    _run(command("pg_dump", url, [*options, *chosen]))


def restore(url: str, dump: Path) -> None:
    """Restore a dump into a database without vidqueue's schemas, in one transaction: whole or not at all.

    Raises:
        ProgramError: pg_restore or psql failed.
    """
    script = [_path_of("pg_restore"), "--no-owner", "--no-privileges", "--file=-", str(dump)]
    options = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
    asked = command("psql", url, options)
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(script, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said) as reading,
        subprocess.Popen(asked.words, env=asked.environment, stdin=subprocess.PIPE, stderr=said) as writing,
    ):
        assert reading.stdout is not None
        assert writing.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            _copy_script(reading.stdout, writing.stdin)
        reading.stdout.close()
        # psql commits at the end of its input: a script that is not whole must not come to its end.
        if (failed := reading.wait()) != 0:
            writing.kill()
        with contextlib.suppress(BrokenPipeError):
            writing.stdin.close()
        if writing.wait() != 0 or failed:
            said.seek(0)
            raise ProgramError(f"The dump cannot be restored:\n{said.read().decode('utf-8', 'replace').strip()}")


def _copy_script(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy SQL without the one setting of its opening that servers before PostgreSQL 17 do not know."""
    for line in source:
        if line.startswith(b"SET transaction_timeout"):
            break
        target.write(line)
    shutil.copyfileobj(source, target, 1 << 20)


@asynccontextmanager
async def snapshot(url: str) -> AsyncIterator[tuple[Connection, str]]:
    """Yield a connection in a read-only transaction and the name by which pg_dump can read the same snapshot."""
    # A connection of its own: those of a pool are closed when they have been silent for the time that a dump takes.
    connect = psycopg.AsyncConnection.connect(url, autocommit=True, row_factory=dict_row, **CONNECT_OPTIONS)
    async with await connect as connection:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        found = await row(connection, "system", "export_snapshot")
        assert found is not None
        yield connection, found["name"]


def _path_of(program: str) -> str:
    try:
        return str(bundled_programs() / program)
    except EmbeddedError:
        if (found := shutil.which(program)) is None:
            raise
        return found


def _run(asked: Command) -> None:
    done = subprocess.run(
        asked.words, env=asked.environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise ProgramError(f"{Path(asked.words[0]).name} failed:\n{said}")
