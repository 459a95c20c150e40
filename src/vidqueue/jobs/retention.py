"""Retention: removes finished jobs and uploads beyond the age, count or size limits, in small batches.

`removal` keeps what is still needed. Any number of daemons may run it: each skips rows that another one has locked.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import structlog

from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import files, reports, retention
from vidqueue.db.tables.retention import BEGINNING, Aged, By, Cutoffs, History, Used
from vidqueue.errors import VidqueueError
from vidqueue.jobs import removal
from vidqueue.jobs.early_outputs import remove_discarded
from vidqueue.jobs.reconcile import reconcile
from vidqueue.jobs.removal import LINES, FilesOf
from vidqueue.jobs.size_walk import SizeWalk, enough
from vidqueue.jobs.uploads import remove_expired
from vidqueue.settings.sections import RetentionSettings
from vidqueue.storage.local import Storage

EVERY_S = 300.0
# Rows per transaction, and the pause between transactions: dispatch and finish need the database too.
BATCH = 200
PAUSE_S = 0.05
GIB = 1 << 30

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Round:
    """One round of pruning: its database, storage and settings, and the counts of what it removed."""

    database: Database
    storage: Storage
    settings: RetentionSettings
    gone: Counter[str] = field(default_factory=Counter)


async def keep_tidy(database: Database, storage: Storage, settings: RetentionSettings) -> None:
    """Reconcile once, then prune and count usage every few minutes; errors are logged, and the next round goes on."""
    reconciled = False
    while True:
        try:
            if not reconciled:
                await reconcile(database, storage)
                reconciled = True
            await remove_discarded(database, storage)
            await remove_expired(database, storage)
            await prune(database, storage, settings)
            await settle_usage(database)
        except VidqueueError as error:
            log.warning("retention_waits_for_database", error=error.message)
        except OSError as error:
            log.error("retention_cannot_read_folder", error=str(error))
        await asyncio.sleep(EVERY_S)


async def settle_usage(database: Database) -> int:
    """Count the usage of each hour that is over, or that has changed since; return how many there were."""
    settled = 0
    while True:
        async with database.transaction() as connection:
            if not await reports.settle_usage(connection):
                return settled
        settled += 1
        await asyncio.sleep(PAUSE_S)


async def prune(database: Database, storage: Storage, settings: RetentionSettings) -> Counter[str]:
    """Remove what exceeds the limits of the settings; return the counts of what was removed, by kind."""
    this = Round(database, storage, settings)
    try:
        if settings.max_files_gib:
            await _prune_to_size(this, int(settings.max_files_gib * GIB))
        await _prune_expiring(this)
        cutoffs, by_count = await _limits(this)
        await _prune_jobs(this, "kept_until", cutoffs.now)
        if before := max(filter(None, (cutoffs.jobs, by_count)), default=None):
            await _prune_jobs(this, "jobs", before)
        if cutoffs.jobs is not None:
            await _prune_aged(this, "schedule_runs", cutoffs.jobs)
            await _prune_aged(this, "audit", cutoffs.jobs)
        if cutoffs.logs is not None:
            await _prune_history(this, "logs", cutoffs.logs)
        if cutoffs.events is not None:
            await _prune_history(this, "events", cutoffs.events)
            await _prune_aged(this, "events_of_no_job", cutoffs.events)
        if cutoffs.uploads is not None:
            await _prune_uploads(this, cutoffs.uploads)
    finally:
        if this.gone.total():
            log.info("pruned", **this.gone)
    return this.gone


async def _limits(this: Round) -> tuple[Cutoffs, datetime | None]:
    """Return the cutoff times by age, and the time up to which finished jobs exceed `max_jobs`."""
    settings = this.settings
    ages = settings.model_dump(include={"jobs_days", "logs_days", "events_days", "uploads_days"})
    async with this.database.transaction() as connection:
        cutoffs = await retention.cutoffs(connection, **ages)
        by_count = await retention.beyond_count(connection, settings.max_jobs) if settings.max_jobs else None
    return cutoffs, by_count


async def _prune_to_size(this: Round, most: int) -> None:
    """Remove the least recently used, until the files of this data folder have at most `most` bytes."""
    async with this.database.transaction() as connection:
        excess = await retention.bytes_here(connection, this.storage.node) - most
    walk = SizeWalk(this.storage.node)
    while excess > 0:
        async with this.database.transaction() as connection:
            candidates = await walk.next(connection, limit=BATCH)
        # Some may still be needed; then others are removed instead.
        while excess > 0 and (chosen := enough(candidates, excess)):
            candidates = candidates[len(chosen) :]
            excess -= await _remove_listed_uploads(this, [used for used in chosen if used.what == "upload"])
            excess -= await _remove_listed_jobs(this, [used for used in chosen if used.what == "job"])
        if walk.over:
            return
        await asyncio.sleep(PAUSE_S)


async def _remove_listed_jobs(this: Round, listed: list[Used]) -> int:
    """Remove those of these jobs that are not needed; return how many bytes that freed."""
    sizes = {used.last.id: used.size for used in listed}
    removed, whole = FilesOf(), not sizes
    while not whole:
        async with this.database.transaction() as connection:
            locked = await retention.lock_listed(connection, list(sizes), this.storage.node)
            removed, whole = await _remove_some(this, connection, locked)
        await _remove_bytes_of(this, removed)
    return sum(sizes[job_id] for job_id in removed)


async def _remove_listed_uploads(this: Round, listed: list[Used]) -> int:
    if not listed:
        return 0
    sizes = {used.last.id: used.size for used in listed}
    async with this.database.transaction() as connection:
        locked = await files.lock(connection, list(sizes))
        unused = await files.unused(connection, list(locked), since=max(used.last.at for used in listed))
        await files.delete_many(connection, list(unused))
    await removal.remove_bytes(this.storage, unused)
    this.gone["uploads"] += len(unused)
    return sum(sizes[file_id] for file_id in unused)


async def _prune_history(this: Round, what: History, before: datetime) -> None:
    while True:
        async with this.database.transaction() as connection:
            ids = await retention.lock_history(connection, what, before, limit=BATCH)
            lines = await retention.forget(connection, what, ids, limit=LINES)
            if lines < LINES:
                await retention.pruned(connection, what, ids)
        this.gone[what] += lines
        if len(ids) < BATCH and lines < LINES:
            return
        await asyncio.sleep(PAUSE_S)


async def _prune_aged(this: Round, what: Aged, before: datetime) -> None:
    while True:
        async with this.database.transaction() as connection:
            gone = await retention.forget_aged(connection, what, before, limit=LINES)
        this.gone[what] += gone
        if gone < LINES:
            return
        await asyncio.sleep(PAUSE_S)


async def _prune_jobs(this: Round, by: By, before: datetime) -> None:
    after, node = BEGINNING, this.storage.node
    while True:
        async with this.database.transaction() as connection:
            locked = await retention.lock_jobs(connection, by, before, after, node=node, limit=BATCH)
            removed, whole = await _remove_some(this, connection, [place.id for place in locked])
        if whole:
            await _remove_bytes_of(this, removed)
            if len(locked) < BATCH:
                return
            after = locked[-1]
        await asyncio.sleep(PAUSE_S)


async def _remove_some(this: Round, connection: Connection, locked: list[UUID]) -> tuple[FilesOf, bool]:
    removed = await removal.remove_some(connection, locked)
    this.gone.update(removed.history)
    return removed.files, removed.whole


async def _remove_bytes_of(this: Round, removed: FilesOf) -> None:
    await removal.remove_bytes(this.storage, [file_id for ids in removed.values() for file_id in ids])
    this.gone["jobs"] += len(removed)


async def _prune_expiring(this: Round) -> None:
    """Remove uploads whose jobs asked for that, once the last of these has succeeded or is removed."""
    after, node = BEGINNING, this.storage.node
    while True:
        async with this.database.transaction() as connection:
            locked = await retention.lock_expiring(connection, after, node=node, limit=BATCH)
            left = await files.left(connection, [place.id for place in locked])
            await files.delete_many(connection, list(left))
        await removal.remove_bytes(this.storage, left)
        this.gone["uploads"] += len(left)
        if len(locked) < BATCH:
            return
        after = locked[-1]
        await asyncio.sleep(PAUSE_S)


async def _prune_uploads(this: Round, before: datetime) -> None:
    after, node = BEGINNING, this.storage.node
    while True:
        async with this.database.transaction() as connection:
            locked = await retention.lock_uploads(connection, before, after, node=node, limit=BATCH)
            unused = await files.unused(connection, [place.id for place in locked], since=before)
            await files.delete_many(connection, list(unused))
            await files.tell_published(connection, [place.id for place in locked])
        await removal.remove_bytes(this.storage, unused)
        this.gone["uploads"] += len(unused)
        if len(locked) < BATCH:
            return
        after = locked[-1]
        await asyncio.sleep(PAUSE_S)
