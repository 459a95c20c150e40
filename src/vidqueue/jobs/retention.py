"""Retention: what is finished and old enough, or one too many, goes in small batches; `removal` keeps what is needed.

Safe in any number of daemons: a row that another has locked is passed over, and nobody leads.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import structlog

from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import files, retention
from vidqueue.db.tables.retention import BEGINNING, Cutoffs, History
from vidqueue.errors import VidqueueError
from vidqueue.jobs import removal
from vidqueue.jobs.reconcile import reconcile
from vidqueue.settings.schema import RetentionSettings
from vidqueue.storage.local import Storage

EVERY_S = 300.0
# Of one transaction, and the rest between two: dispatch and finish want the database too.
BATCH, LINES = 200, 2000
PAUSE_S = 0.05
GIB = 1 << 30

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Round:
    """One round of pruning: where, by which settings, and what went."""

    database: Database
    storage: Storage
    settings: RetentionSettings
    gone: Counter[str] = field(default_factory=Counter)


async def keep_tidy(database: Database, storage: Storage, settings: RetentionSettings) -> None:
    """Sweep once, then prune every few minutes; where the database is away, the next round does it."""
    swept = False
    while True:
        try:
            if not swept:
                await reconcile(database, storage)
                swept = True
            await prune(database, storage, settings)
        except VidqueueError as error:
            log.warning("retention_waits_for_database", error=error.message)
        except OSError as error:
            log.error("retention_cannot_read_folder", error=str(error))
        await asyncio.sleep(EVERY_S)


async def prune(database: Database, storage: Storage, settings: RetentionSettings) -> Counter[str]:
    """Remove what the settings do not keep; how much of each kind went."""
    this = Round(database, storage, settings)
    try:
        cutoffs, by_count, by_size = await _limits(this)
        if by_size is not None:
            await _prune_uploads(this, by_size, only_here=True)
            await _prune_jobs(this, by_size, only_here=True)
        if before := max(filter(None, (cutoffs.jobs, by_count)), default=None):
            await _prune_jobs(this, before)
        if cutoffs.logs is not None:
            await _prune_history(this, "logs", cutoffs.logs)
        if cutoffs.events is not None:
            await _prune_history(this, "events", cutoffs.events)
        if cutoffs.uploads is not None:
            await _prune_uploads(this, cutoffs.uploads)
    finally:
        if this.gone.total():
            log.info("pruned", **this.gone)
    return this.gone


async def _limits(this: Round) -> tuple[Cutoffs, datetime | None, datetime | None]:
    """The times before which things are too old, jobs too many, and files here too large together."""
    settings = this.settings
    ages = settings.model_dump(include={"jobs_days", "logs_days", "events_days", "uploads_days"})
    async with this.database.transaction() as connection:
        cutoffs = await retention.cutoffs(connection, **ages)
        by_count = await retention.beyond_count(connection, settings.max_jobs) if settings.max_jobs else None
        by_size = None
        if settings.max_files_gib:
            most = int(settings.max_files_gib * GIB)
            by_size = await retention.beyond_size(connection, this.storage.node, most)
    return cutoffs, by_count, by_size


async def _prune_history(this: Round, what: History, before: datetime) -> None:
    while True:
        async with this.database.transaction() as connection:
            ids = await retention.hold_history(connection, what, before, limit=BATCH)
            lines = await retention.forget(connection, what, ids, limit=LINES)
            if lines < LINES:
                await retention.pruned(connection, what, ids)
        this.gone[what] += lines
        if len(ids) < BATCH and lines < LINES:
            return
        await asyncio.sleep(PAUSE_S)


async def _prune_jobs(this: Round, before: datetime, *, only_here: bool = False) -> None:
    after, node = BEGINNING, this.storage.node
    while True:
        async with this.database.transaction() as connection:
            held = await retention.hold_jobs(connection, before, after, node=node, only_here=only_here, limit=BATCH)
            removed = await removal.removable(connection, [place.id for place in held])
            if whole := await _forget_some(connection, list(removed), this.gone):
                await removal.remove_rows(connection, removed)
        if whole:
            await removal.remove_bytes(this.storage, [file_id for ids in removed.values() for file_id in ids])
            this.gone["jobs"] += len(removed)
            if len(held) < BATCH:
                return
            after = held[-1]
        await asyncio.sleep(PAUSE_S)


async def _forget_some(connection: Connection, ids: list[UUID], gone: Counter[str]) -> bool:
    """Delete some of the history of jobs that go, and tell whether that was all: a long job may have 100,000 events."""
    logs = await retention.forget(connection, "logs", ids, limit=LINES)
    events = await retention.forget(connection, "events", ids, limit=LINES)
    gone.update(logs=logs, events=events)
    return logs < LINES and events < LINES


async def _prune_uploads(this: Round, before: datetime, *, only_here: bool = False) -> None:
    after, node = BEGINNING, this.storage.node
    while True:
        async with this.database.transaction() as connection:
            held = await retention.hold_uploads(connection, before, after, node=node, only_here=only_here, limit=BATCH)
            unused = await files.unused(connection, [place.id for place in held], since=before)
            await files.delete_many(connection, list(unused))
            await files.tell_published(connection, [place.id for place in held])
        await removal.remove_bytes(this.storage, unused)
        this.gone["uploads"] += len(unused)
        if len(held) < BATCH:
            return
        after = held[-1]
        await asyncio.sleep(PAUSE_S)
