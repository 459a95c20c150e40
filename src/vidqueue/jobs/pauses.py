"""Pause, resume and drain everything, a processor, or a lane; time windows of lanes. Each is one transaction.

They are stored in the database and survive restarts.
"""

from __future__ import annotations

from uuid import UUID

from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import lane_availability, pauses
from vidqueue.db.tables.pauses import Pause, Terms
from vidqueue.errors import VidqueueError
from vidqueue.ops.windows import Windows
from vidqueue.processors import registry


async def read(database: Database) -> list[Pause]:
    """Return all pauses that hold at present."""
    async with database.statement() as connection:
        return await pauses.every(connection)


async def pause(database: Database, processor: str | None, terms: Terms) -> list[Pause]:
    """Begin no job of a processor, or none at all; running jobs go on. Return all pauses.

    Raises:
        VidqueueError: `unknown_processor`.
    """
    if processor is not None and processor not in registry.catalogue():
        raise VidqueueError("unknown_processor", f"There is no processor {processor!r}.")
    async with database.transaction() as connection:
        await pauses.pause(connection, processor, terms)
        return await pauses.every(connection)


async def resume(database: Database, processor: str | None) -> list[Pause]:
    """End the pause of a processor, or that of everything (not those of lanes and processors); return what remains."""
    async with database.transaction() as connection:
        await pauses.resume(connection, processor)
        return await pauses.every(connection)


async def drain(database: Database, terms: Terms) -> list[Pause]:
    """Drain every lane that is online; return all pauses."""
    async with database.transaction() as connection:
        for lane in await pauses.online(connection):
            await pauses.pause_lane(connection, lane, terms, drain=True)
        return await pauses.every(connection)


async def pause_lane(database: Database, name: str, host: str | None, terms: Terms, *, drain: bool) -> list[Pause]:
    """Give a lane no more jobs; with `drain` also stop its executor once its job has ended. Return all pauses.

    Raises:
        VidqueueError: `not_found`; `conflict` if several hosts have a lane of that name.
    """
    async with database.transaction() as connection:
        await pauses.pause_lane(connection, await _lane(connection, name, host), terms, drain=drain)
        return await pauses.every(connection)


async def resume_lane(database: Database, name: str, host: str | None) -> list[Pause]:
    """Let a lane take jobs again; return all pauses.

    Raises:
        VidqueueError: as `pause_lane`.
    """
    async with database.transaction() as connection:
        await pauses.resume_lane(connection, await _lane(connection, name, host))
        return await pauses.every(connection)


async def set_windows(database: Database, name: str, host: str | None, windows: Windows) -> None:
    """Set when a lane works.

    Raises:
        VidqueueError: as `pause_lane`.
    """
    async with database.transaction() as connection:
        await lane_availability.set_windows(connection, await _lane(connection, name, host), windows)


async def free_lane(database: Database, name: str, host: str | None) -> None:
    """Have the executor of a lane stopped as soon as no job runs on it, so that the memory of its models is free.

    Raises:
        VidqueueError: as `pause_lane`.
    """
    async with database.transaction() as connection:
        await lane_availability.request_free(connection, await _lane(connection, name, host))


async def _lane(connection: Connection, name: str, host: str | None) -> UUID:
    found = await pauses.lanes_named(connection, name, host)
    if not found:
        where = f" on {host}" if host else ""
        raise VidqueueError("not_found", f"There is no lane {name!r}{where}.", hint="See the list of lanes.")
    if len(found) > 1:
        hosts = ", ".join(found)
        raise VidqueueError("conflict", f"Several hosts have a lane {name!r}: {hosts}.", hint="Name the host too.")
    return next(iter(found.values()))
