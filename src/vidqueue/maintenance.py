"""What nobody asks for and everybody relies on: orphans are given back, expired leases rescued, stray bytes swept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from uuid import UUID

import structlog

from vidqueue.database import Database
from vidqueue.errors import VidqueueError
from vidqueue.finish import finish
from vidqueue.job import Interrupted, Ticket
from vidqueue.storage import Storage
from vidqueue.store import attempts, files, lanes

RESCUE_EVERY_S = 5.0
SWEEP_PAGE = 1000

log = structlog.get_logger(__name__)


async def recover(database: Database, storage: Storage, node: UUID) -> int:
    """Give back what the last daemon on this data folder left in hand, and how many that were.

    The lock on the folder is ours, so that daemon is dead, and its executors were tethered to it: no lease has to
    run out first.
    """
    orphans = await give_back(database, storage, node, "the daemon was killed and started again")
    await asyncio.to_thread(storage.clear_scratch)
    return orphans


async def give_back(database: Database, storage: Storage, node: UUID, reason: str) -> int:
    """Take the lanes of a data folder off the list and interrupt what is open on them; how many attempts that were."""
    async with database.transaction() as connection:
        await lanes.node_offline(connection, node)
        open_ = await attempts.open_of_node(connection, node)
    for ticket in open_:
        await finish(database, storage, ticket, Interrupted(reason))
    return len(open_)


async def rescue_forever(database: Database, storage: Storage) -> None:
    """Give back attempts whose lease ran out, on any host; safe in any number of daemons."""
    while True:
        await asyncio.sleep(RESCUE_EVERY_S)
        try:
            for ticket in await _expired(database):
                log.warning("lease_expired", job_id=str(ticket.job_id), attempt=ticket.attempt)
                await finish(database, storage, ticket, Interrupted("its lane stopped renewing the lease"))
        except VidqueueError as error:
            log.warning("rescue_waits_for_database", error=error.message)


async def sweep(database: Database, storage: Storage) -> int:
    """Remove stored bytes that no row names, left by a crash between rename and commit; how many that were."""
    removed = 0
    ids = storage.stored_ids(old=True)
    while page := _page(ids):
        async with database.transaction() as connection:
            known = await files.which_exist(connection, page)
        for file_id in set(page) - known:
            storage.delete(file_id)
            removed += 1
    return removed


async def _expired(database: Database) -> list[Ticket]:
    async with database.transaction() as connection:
        return await attempts.expired(connection)


def _page(ids: Iterator[UUID]) -> list[UUID]:
    return list(islice(ids, SWEEP_PAGE))
