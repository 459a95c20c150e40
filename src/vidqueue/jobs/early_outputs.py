"""Early outputs: publishes outputs while their attempt runs, and removes the bytes of those that are taken back.

An early output is public at once, and belongs to an attempt that may still fail: the database takes it back then, in
the transaction that ends the attempt, and notes the file for whoever has its data folder.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from vidqueue.db.pool import Database
from vidqueue.db.tables import outputs
from vidqueue.errors import DATABASE_BUSY, VidqueueError
from vidqueue.job import AttemptRef, OutputDraft
from vidqueue.jobs.publish import Publication, adopt, discard
from vidqueue.ops import failpoints
from vidqueue.storage.local import Storage

RETRY_S = 0.5
# How many files are removed between two statements.
PAGE = 500

log = structlog.get_logger(__name__)


async def publish_early(
    database: Database, storage: Storage, ref: AttemptRef, draft: OutputDraft, *, workspace: Path, processor: str
) -> bool:
    """Publish one output of a running attempt; waits for the database as long as it takes.

    Returns False if the attempt is not the job's any more, or is being canceled; nothing is left of the output then.

    Raises:
        VidqueueError: the output is not what the processor said, or the disk is full.
        BaseException: whatever interrupted it. The bytes are removed: an attempt that is interrupted here does not
            succeed, and a row that was committed all the same is taken back when it ends.
    """
    publications: list[Publication] = []
    published = False
    try:
        await adopt(storage, [draft], workspace, publications)
        await failpoints.reach("output.renamed")
        published = await _commit_until_it_lands(database, ref, publications[0], processor, storage)
        await failpoints.reach("output.committed")
    finally:
        for one in publications:
            storage.release(one.stored.id)
        if not published:
            storage.cleaning.submit(discard, storage, [one.stored.id for one in publications])
    return published


async def _commit_until_it_lands(
    database: Database, ref: AttemptRef, publication: Publication, processor: str, storage: Storage
) -> bool:
    while True:
        try:
            async with database.statement() as connection:
                return await outputs.publish(connection, ref, publication.row(processor, storage.node))
        except VidqueueError as error:
            if error.code not in DATABASE_BUSY or database.abandoned:
                raise
            log.warning("early_output_waits_for_database", error=error.message)
            await asyncio.sleep(RETRY_S)


async def remove_discarded(database: Database, storage: Storage) -> int:
    """Remove the bytes of files that were taken back in this data folder; return how many there were."""
    removed = 0
    while True:
        async with database.statement() as connection:
            page = await outputs.discarded(connection, storage.node, limit=PAGE)
        if not page:
            return removed
        await storage.long_threads.run(discard, storage, page)
        async with database.statement() as connection:
            await outputs.forget_discarded(connection, page)
        removed += len(page)
