"""Reconciles stored bytes with rows: removes bytes that no row names, and marks rows whose bytes are gone.

A crash leaves the first, a restored backup the second. It looks at one data folder, while everything else runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from uuid import UUID

import structlog

from vidqueue.db.pool import Database
from vidqueue.db.tables import files
from vidqueue.storage.local import Storage

# Each candidate for removal is held open; a process may have 1,024 files open.
PAGE = 200
# Of a large folder the log tells how far it is.
TELL_EVERY = 50_000
FIRST = UUID(int=0)

log = structlog.get_logger(__name__)


async def reconcile(database: Database, storage: Storage) -> None:
    """Make the rows and the bytes of this data folder agree."""
    # A folder that cannot be listed keeps neither the rows from being looked at nor the pruning.
    removed = 0
    try:
        removed = await remove_strays(database, storage)
    except OSError as error:
        log.error("stray_bytes_not_listed", error=str(error))
    missing = await mark_missing(database, storage)
    if removed:
        log.info("stray_bytes_removed", files=removed)
    if missing:
        log.error("files_lost", files=missing, hint="put them back from a backup and restart the daemon")


async def remove_strays(database: Database, storage: Storage) -> int:
    """Remove stored bytes that no row names, left by a crash between rename and commit; how many that were."""
    removed, seen = 0, 0
    ids = storage.stored_ids()
    while page := await asyncio.to_thread(_page, ids):
        seen = _tell("stored_files_compared", seen, len(page))
        async with database.transaction() as connection:
            await files.claim(connection, page, storage.node)
            known = await files.which_exist(connection, page)
        removed += await _remove_unnamed(database, storage, storage.old(set(page) - known))
    return removed


async def _remove_unnamed(database: Database, storage: Storage, candidates: set[UUID]) -> int:
    """Asked again once they are in hand: their writer may have committed the row and let go since."""
    if not candidates:
        return 0
    with storage.taken(candidates) as taken:
        async with database.transaction() as connection:
            strays = set(taken) - await files.which_exist(connection, taken)
        return await asyncio.to_thread(_remove, storage, strays)


def _remove(storage: Storage, strays: set[UUID]) -> int:
    """Remove these bytes; how many went, for one that cannot be removed is passed over."""
    removed = 0
    for file_id in strays:
        try:
            storage.delete(file_id)
            removed += 1
        except OSError as error:
            log.error("bytes_not_removed", file=str(file_id), error=str(error))
    return removed


async def mark_missing(database: Database, storage: Storage) -> int:
    """Mark the files of this folder whose bytes are gone, unmark those that are back; how many are gone."""
    missing, seen, after = 0, 0, FIRST
    while True:
        async with database.transaction() as connection:
            page = await files.of_node(connection, storage.node, after=after, limit=PAGE)
        if not page:
            return missing
        seen = _tell("file_rows_compared", seen, len(page))
        there = await asyncio.to_thread(_look, storage, page)
        lost = [file_id for file_id, is_there in there.items() if not is_there]
        async with database.transaction() as connection:
            await files.mark(connection, list(there), missing=lost)
        missing, after = missing + len(lost), max(page)


def _look(storage: Storage, page: dict[UUID, int]) -> dict[UUID, bool]:
    """Whether the bytes of these files are there; a file that cannot be looked at is left out."""
    found = {}
    for file_id, size in page.items():
        try:
            found[file_id] = storage.holds(file_id, size)
        except OSError as error:
            log.error("bytes_not_looked_at", file=str(file_id), error=str(error))
    return found


def _tell(what: str, before: int, more: int) -> int:
    """How many were looked at, with a line in the log for each `TELL_EVERY`."""
    seen = before + more
    if seen // TELL_EVERY > before // TELL_EVERY:
        log.info(what, files=seen)
    return seen


def _page(ids: Iterator[UUID]) -> list[UUID]:
    return list(islice(ids, PAGE))
