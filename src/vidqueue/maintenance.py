"""What nobody asks for and everybody relies on: bytes that no row names are swept away."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from uuid import UUID

from vidqueue.database import Database
from vidqueue.storage import Storage
from vidqueue.store import files

SWEEP_PAGE = 1000


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


def _page(ids: Iterator[UUID]) -> list[UUID]:
    return list(islice(ids, SWEEP_PAGE))
