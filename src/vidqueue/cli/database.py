"""`vidqueue db`: address, migrations and psql for the database, embedded or external."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import LOOK, SOURCE, Look, Source
from vidqueue.cli.settings import load_beside_daemon
from vidqueue.cli.terminal import Screen
from vidqueue.ops import data_folder

if TYPE_CHECKING:
    from vidqueue.settings.schema import Settings

app = App(name="db", help="Address, migrations, backup, restore and psql of the database.")
app.command("vidqueue.cli.backup:dump", name="dump", help="Write the database and the stored files into one archive.")
app.command("vidqueue.cli.backup:restore", name="restore", help="Restore an archive into an empty database.")


@app.command
def url(*, source: Source = SOURCE) -> int:
    """Print the address of the database, with its password if it has one, for psql and other programs.

    The embedded database accepts connections while a daemon runs on its data folder.
    """
    Screen(Look()).write(url_of(load_beside_daemon(source).settings))
    return Exit.OK


@app.command
def migrate(*, source: Source = SOURCE, look: Look = LOOK) -> int:
    """Apply the migrations that the database lacks. `vidqueue serve` does the same when it starts."""
    from vidqueue.ops import logs

    settings, screen = load_beside_daemon(source).settings, Screen(look)
    logs.configure(settings.log.level, settings.log.format)
    applied = asyncio.run(_migrate(settings))
    if screen.json:
        screen.object({"applied": applied})
    for name in [] if screen.json else applied or ["The database is up to date."]:
        screen.write(name)
    return Exit.OK


@app.command
def reader(
    role: Annotated[str, Parameter(name="ROLE")],
    *,
    password_file: Path | None = None,
    source: Source = SOURCE,
    look: Look = LOOK,
) -> int:
    """Create a role that can read only the reports (the schema vidqueue_report), or renew its grants.

    Args:
        role: Name of the role.
        password_file: File whose first line becomes the role's password. Without one it has none, or keeps its own.
        source: The configuration to read.
        look: The format of the output.
    """
    from vidqueue.db.embedded.programs import EmbeddedError
    from vidqueue.db.fitness import DatabaseUnfitError
    from vidqueue.db.reader import ReaderError, make_reader

    settings, screen = load_beside_daemon(source).settings, Screen(look)
    password = _first_line(password_file) if password_file else None

    async def make() -> bool:
        async with reachable(settings) as address:
            return await make_reader(address, role, password)

    try:
        is_new = asyncio.run(make())
    except ReaderError as error:
        raise CommandError.of(error) from None
    except (DatabaseUnfitError, EmbeddedError, TimeoutError) as error:
        raise CommandError.of(error, exit=Exit.UNAVAILABLE) from None
    if screen.json:
        screen.object({"role": role, "created": is_new})
    else:
        screen.write(f"{role} {'can' if is_new else 'can still'} read vidqueue_report, and nothing else.")
    return Exit.OK


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").split("\n", 1)[0]
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"The password cannot be read: {error}", exit=Exit.USAGE) from None


@app.command
def psql(*arguments: str, source: Source = SOURCE) -> int:
    """Open psql on the database.

    Args:
        arguments: Arguments for psql; put `--` before the first.
        source: The configuration to read.
    """
    from vidqueue.db import programs

    asked = programs.command("psql", url_of(load_beside_daemon(source).settings), arguments)
    # The system's psql has line editing and the pager that the user knows.
    words = [shutil.which("psql") or asked.words[0], *asked.words[1:]]
    os.execve(words[0], words, asked.environment)  # noqa: S606 - no shell is wanted


def url_of(settings: Settings) -> str:
    """Address of the configured database, or of the embedded one.

    Raises:
        CommandError: the data folder belongs to a database whose address is not known here, or another user can listen
            where the embedded one should.
    """
    from vidqueue.db.embedded import server as embedded
    from vidqueue.db.embedded.programs import EmbeddedError

    given = settings.database.url
    if given:
        return given.get_secret_value()
    _require_known(settings)
    try:
        return embedded.url_of(settings.data_dir)
    except EmbeddedError as error:
        raise CommandError.of(error, exit=Exit.UNAVAILABLE) from None


@asynccontextmanager
async def reachable(settings: Settings, *, alone: bool = False, programs: Path | None = None) -> AsyncIterator[str]:
    """Address of a running database. An embedded one is started for the block unless a daemon already runs it.

    With `alone` the data folder is locked for the block, so that no daemon starts on it, and may belong to another
    database. `programs` is a folder of PostgreSQL's programs, for an embedded database of another major version than
    the bundled ones.

    Raises:
        CommandError: `alone`, and a daemon runs on the data folder; the data folder belongs to another database; the
            database does not answer, or refuses something.
        EmbeddedError: the embedded server does not start.
    """
    with database_errors():
        async with _started(settings, alone=alone, programs=programs) as address:
            if not alone:
                await _require_own(address, settings.data_dir)
            yield address


@asynccontextmanager
async def _started(settings: Settings, *, alone: bool, programs: Path | None) -> AsyncIterator[str]:
    from vidqueue.db.embedded import server as embedded

    external = settings.database.url is not None
    if external and not alone:
        yield url_of(settings)
        return
    if not alone:
        _require_known(settings)
    with data_folder.locked(settings.data_dir) as ours:
        if alone and not ours:
            raise CommandError(f"A daemon runs on {settings.data_dir}.", exit=Exit.BUSY, hint="Stop it first.")
        if external or not ours:
            yield url_of(settings)  # the daemon that holds the folder keeps the embedded server running
            return
        reserve = settings.database.disk_reserve_mib
        async with embedded.running(settings.data_dir, programs=programs, disk_reserve_mib=reserve) as address:
            yield address


def _require_known(settings: Settings) -> None:
    """Refuse to make an embedded database in a data folder whose database is a server that is not named here.

    A service has the address as a credential of systemd, which a command beside it sees only while the daemon runs. The
    new database would be empty, and so would a backup of it.
    """
    from vidqueue.db.embedded import server as embedded

    if data_folder.database_of(settings.data_dir) and not embedded.exists(settings.data_dir):
        raise CommandError(
            f"{settings.data_dir} belongs to a database whose address this command does not know.",
            exit=Exit.CONFIG,
            hint="Name its file, as root if need be: VIDQUEUE_DATABASE__URL_FILE=/etc/vidqueue/database_url.",
        )


async def _require_own(address: str, data_dir: Path) -> None:
    from vidqueue.db.installation import installation_of

    expected = data_folder.database_of(data_dir)
    if expected and await installation_of(address) not in (None, "", expected):
        raise CommandError(
            f"{data_dir} belongs to another database than this one.",
            exit=Exit.CONFIG,
            hint="Give the configuration of the daemon on this folder, with --config or VIDQUEUE_DATABASE__URL_FILE.",
        )


@contextmanager
def database_errors() -> Iterator[None]:
    """Report what a database refuses to a command as a message, whichever command it is."""
    from vidqueue.db.fitness import DatabaseUnfitError, refusals

    try:
        with refusals():
            yield
    except DatabaseUnfitError as error:
        hint = "Run `vidqueue doctor` for details."
        raise CommandError.of(error, exit=Exit.UNAVAILABLE, hint=hint) from None


async def _migrate(settings: Settings) -> list[str]:
    from vidqueue.db.embedded.programs import EmbeddedError
    from vidqueue.db.fitness import DatabaseUnfitError, require_fit
    from vidqueue.db.migrate import MigrationError
    from vidqueue.db.migrate import migrate as apply_missing

    try:
        async with reachable(settings) as address:
            await require_fit(address)
            return await apply_missing(address)
    except MigrationError as error:
        raise CommandError.of(error) from None
    except (DatabaseUnfitError, EmbeddedError, TimeoutError) as error:
        hint = "Run `vidqueue doctor` for details."
        raise CommandError.of(error, exit=Exit.UNAVAILABLE, hint=hint) from None
