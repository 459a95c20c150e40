"""`vidqueue keys`: API keys, created and revoked directly in the database, so that the first one needs no key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from uuid import UUID

from cyclopts import App, Parameter

from vidqueue.cli.durations import seconds_of
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import LOOK, SOURCE, Look, Source
from vidqueue.cli.terminal import Screen

if TYPE_CHECKING:
    from vidqueue.db.pool import Database
    from vidqueue.db.tables.keys import KeyRow

app = App(name="keys", help="Create, list and revoke API keys.")

RoleName = Literal["read", "submit", "operate", "admin"]
T = TypeVar("T")


@app.command
def create(
    *,
    owner: str,
    role: RoleName = "submit",
    name: str = "",
    expires: str | None = None,
    source: Source = SOURCE,
    look: Look = LOOK,
) -> int:
    """Create an API key and print it. It is shown only once.

    From the first key on, every request needs one; clients send it as `Authorization: Bearer <key>`, the command line
    reads it from $VIDQUEUE_API_KEY.

    Args:
        owner: Owner of everything that is created with the key. Owners see only their own jobs and files.
        role: read: see what the owner has. submit: also submit, change and delete it. operate: see and change the jobs
            of everybody, pause and drain. admin: also keys, limits and secrets.
        name: A description of the key, such as the machine that uses it.
        expires: Lifetime of the key, such as 90d or 12h. Without it, the key is valid until it is revoked.
        source: The configuration to read.
        look: The format of the output.
    """
    from vidqueue.jobs import keys
    from vidqueue.principal import Role

    lasts_s = None if expires is None else seconds_of(expires)
    created = _in_database(
        source, lambda database: keys.create(database, owner=owner, role=Role(role), name=name, expires_in_s=lasts_s)
    )
    screen = Screen(look)
    if screen.json:
        screen.object({**_object(created.row), "key": created.secret})
    else:
        screen.write(created.secret)
        screen.say("This key is not shown again. From now on, every request to this daemon needs a key.")
    return Exit.OK


@app.command(name="list")
def list_keys(*, source: Source = SOURCE, look: Look = LOOK) -> int:
    """List the keys, newest first, including revoked ones."""
    from vidqueue.jobs import keys

    found, screen = _in_database(source, keys.every), Screen(look)
    if screen.json:
        for row in found:
            screen.object(_object(row))
    else:
        lines = [
            (str(row.id), row.owner, row.role, row.name, f"{row.prefix}…", _time(row.used_at), _condition(row))
            for row in found
        ]
        screen.table(
            ("ID", "OWNER", "ROLE", "NAME", "KEY", "LAST USED", ""),
            lines,
            empty="There are no keys: every local user is accepted.",
        )
    return Exit.OK


@app.command
def revoke(
    key: Annotated[str, Parameter(name="ID")],
    *,
    delete: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    source: Source = SOURCE,
) -> int:
    """Revoke a key. It is refused within a second, and event streams that were opened with it end.

    Args:
        key: The key, as `keys list` shows it.
        delete: Delete it as well. Once no key is left, requests from this machine need none again.
        source: The configuration to read.
    """
    from vidqueue.jobs import keys

    try:
        key_id = UUID(key)
    except ValueError:
        raise CommandError(f"{key!r} is not the id of a key.", exit=Exit.USAGE, hint="See `keys list`.") from None

    async def act(database: Database) -> None:
        await keys.revoke(database, key_id)
        if delete:
            await keys.remove(database, key_id)

    _in_database(source, act)
    return Exit.OK


def _in_database(source: Source, act: Callable[[Database], Awaitable[T]]) -> T:
    """Run an act on the database of the daemon, embedded or not.

    Raises:
        CommandError: the database cannot be reached, or refuses.
    """
    from vidqueue.cli.database import reachable
    from vidqueue.cli.settings import load_beside_daemon
    from vidqueue.db.embedded.programs import EmbeddedError
    from vidqueue.db.migrate import MigrationError, migrate
    from vidqueue.db.pool import Database
    from vidqueue.errors import VidqueueError
    from vidqueue.ops import logs

    settings = load_beside_daemon(source).settings
    logs.configure("warning", settings.log.format)

    async def run() -> T:
        async with reachable(settings) as address:
            # The first key is made before the first start of a daemon that listens to others.
            await migrate(address)
            async with Database(address, pool_size=2) as database:
                return await act(database)

    try:
        return asyncio.run(run())
    except VidqueueError as error:
        exits = {"not_found": Exit.NOT_FOUND, "conflict": Exit.ERROR}
        raise CommandError(error.message, exit=exits.get(error.code, Exit.UNAVAILABLE), hint=error.hint) from None
    except (EmbeddedError, MigrationError, TimeoutError) as error:
        hint = "Run `vidqueue doctor` for details."
        raise CommandError.of(error, exit=Exit.UNAVAILABLE, hint=hint) from None


def _object(row: KeyRow) -> dict[str, Any]:
    return {name: str(value) if value is not None else None for name, value in asdict(row).items()}


def _condition(row: KeyRow) -> str:
    if row.revoked_at:
        return f"revoked {_time(row.revoked_at)}"
    return f"until {_time(row.expires_at)}" if row.expires_at else ""


def _time(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M}Z" if moment else "never"
