"""Reconciles stored bytes with rows: removes bytes that no row names, and marks rows whose bytes are gone.

A crash leaves the first, a restored backup the second. It looks at one data folder, while everything else runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from uuid import UUID

import structlog

from vidqueue.db.pool import Database
from vidqueue.db.tables import files
from vidqueue.storage.local import Storage

# All candidates of a page are open at the same time, and a process may have 1,024 files open.
PAGE = 200
# The log reports progress after each so many files.
LOG_EVERY = 50_000
FIRST = UUID(int=0)

log = structlog.get_logger(__name__)


async def reconcile(database: Database, storage: Storage) -> None:
    """Make the rows and the bytes of this data folder agree."""
    # A folder that cannot be listed stops neither the check of the rows nor the pruning.
    removed = 0
    try:
        removed = await remove_orphans(database, storage)
    except OSError as error:
        log.error("stored_files_not_listed", error=str(error))
    missing = await mark_missing(database, storage)
    if removed:
        log.info("orphaned_files_removed", files=removed)
    if missing:
        log.error("files_lost", files=missing, hint="restore them from a backup and restart the daemon")


async def remove_orphans(database: Database, storage: Storage) -> int:
    """Remove stored bytes without a row, left by a crash between rename and commit; return how many were removed."""
    removed, seen = 0, 0
    ids = storage.stored_ids()
    while page := await storage.long_threads.run(_page, ids):
        seen = _log_progress("stored_files_compared", seen, len(page))
        async with database.transaction() as connection:
            await files.claim(connection, page, storage.node)
            known = await files.which_exist(connection, page)
        candidates = await storage.long_threads.run(storage.old, set(page) - known)
        removed += await _remove_unnamed(database, storage, candidates)
    return removed


async def _remove_unnamed(database: Database, storage: Storage, candidates: set[UUID]) -> int:
    """Remove those that still have no row once they are locked: their writer may have committed one and unlocked."""
    if not candidates:
        return 0
    async with storage.lock_unlocked(candidates) as locked:
        async with database.transaction() as connection:
            orphans = set(locked) - await files.which_exist(connection, locked)
        return await storage.long_threads.run(_remove, storage, orphans)


def _remove(storage: Storage, orphans: set[UUID]) -> int:
    """Remove these bytes, log those that cannot be removed, and return how many were removed."""
    removed = 0
    for file_id in orphans:
        try:
            storage.delete(file_id)
            removed += 1
        except OSError as error:
            log.error("file_not_removed", file=str(file_id), error=str(error))
    return removed


async def mark_missing(database: Database, storage: Storage) -> int:
    """Mark files of this folder whose bytes are missing, unmark those that are back; return how many are missing."""
    missing, seen, after = 0, 0, FIRST
    while True:
        async with database.transaction() as connection:
            page = await files.of_node(connection, storage.node, after=after, limit=PAGE)
        if not page:
            return missing
        seen = _log_progress("file_rows_compared", seen, len(page))
        there = await storage.long_threads.run(_check, storage, page)
        lost = [file_id for file_id, is_there in there.items() if not is_there]
        async with database.transaction() as connection:
            await files.mark(connection, list(there), missing=lost)
        missing, after = missing + len(lost), max(page)


def _check(storage: Storage, page: dict[UUID, int]) -> dict[UUID, bool]:
    """Return for each of these files whether its bytes exist, without those that cannot be checked."""
    found = {}
    for file_id, size in page.items():
        try:
            found[file_id] = storage.has(file_id, size)
        except OSError as error:
            log.error("file_not_checked", file=str(file_id), error=str(error))
    return found


def _log_progress(what: str, before: int, more: int) -> int:
    """Return how many were compared, and log it after each `LOG_EVERY`."""
    seen = before + more
    if seen // LOG_EVERY > before // LOG_EVERY:
        log.info(what, files=seen)
    return seen


def _page(ids: Iterator[UUID]) -> list[UUID]:
    return list(islice(ids, PAGE))
