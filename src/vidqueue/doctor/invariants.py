"""Examines whether vidqueue has kept its promises: rows by the views of `vidqueue_report`, files and processes here.

Each invariant gets one check. Some may be broken for a moment while a daemon works (bytes that move, a process that
ends); one that stays broken is a fault in vidqueue.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from uuid import UUID

from vidqueue.db import migrate
from vidqueue.db.migrate import MigrationError
from vidqueue.db.pool import Database
from vidqueue.db.tables import files, invariants, jobs, lanes
from vidqueue.db.tables.invariants import Violation
from vidqueue.db.tables.jobs import FIRST_ID, LAST_ID
from vidqueue.doctor.check import Check
from vidqueue.ops import processes
from vidqueue.ops.data_folder import daemon_of
from vidqueue.settings.schema import Settings
from vidqueue.storage.descriptors import CHUNK
from vidqueue.storage.local import Storage
from vidqueue.worker.lanes import queue_prefix

ADVICE = "This is a fault in vidqueue: please report it with the history of that job."
FILES_ADVICE = (
    "After a restore or a copy of the data folder, put the files back where docs/backup.md says. "
    "Otherwise this is a fault in vidqueue or in the disk: please report it with the history of that job."
)
# How many files, and how many jobs, are looked at together.
PAGE = 500
JOBS = 5000

# What no view can see.
LOOKED_AFTER = {
    "I15": "the files of this data folder are those of the rows, byte for byte",
    "I16": "no process of ours works without a running attempt",
    "I21": "the counters tell how many jobs there are",
}

# What is looked at, how many of them were, and how many there are.
Progress = Callable[[str, int, int], None]


async def examine(url: str, settings: Settings, tell: Progress = lambda what, seen, total: None) -> list[Check]:
    """Every invariant, in the order of its number. Reads all rows, some thousand jobs at a time, and each stored file.

    Raises:
        DatabaseUnfitError, MigrationError: the database does not answer, or is none of this version.
    """
    if missing := await migrate.pending(url):
        raise MigrationError(f"The database lacks {', '.join(missing)}; `vidqueue db migrate` brings it up to date.")
    storage = Storage(settings.data_dir)
    # Some questions look at everything at once: a grown database takes minutes.
    async with Database(url, query_timeout_s=600) as opened:
        checks = await _examine_rows(opened, tell)
        checks.append(await _examine_counters(opened))
        checks.append(await _examine_files(opened, storage, tell))
        checks.append(await _examine_processes(opened, storage))
    return sorted(checks, key=lambda check: int(check.name.removeprefix("I")))


async def _examine_rows(opened: Database, tell: Progress) -> list[Check]:
    async with opened.transaction() as connection:
        known = await invariants.known(connection)
    first, broken = dict[str, Violation](), Counter[str]()
    async for violation in _violations(opened, tell):
        first.setdefault(violation.id, violation)
        broken[violation.id] += violation.broken
    return [_check(id_, invariant, broken[id_], *_told(first.get(id_))) for id_, invariant in known.items()]


async def _violations(opened: Database, tell: Progress) -> AsyncIterator[Violation]:
    """The first violation of each kind between jobs and in each range of jobs, with how many there are."""
    async with opened.transaction() as connection:
        total = sum((await jobs.counts(connection, owner=None)).values())
        for violation in await invariants.between_jobs(connection):
            yield violation
    after, seen = FIRST_ID, 0
    while after != LAST_ID:
        async with opened.transaction() as connection:
            upto = await invariants.end_of_range(connection, after, JOBS)
            found = await invariants.of_jobs(connection, after, upto)
        for violation in found:
            yield violation
        after, seen = upto, min(total, seen + JOBS)
        tell("jobs", seen, total)


def _told(violation: Violation | None) -> list[str]:
    if violation is None:
        return []
    return [f"job {violation.job_id}: {violation.detail}" if violation.job_id else violation.detail]


async def _examine_counters(opened: Database) -> Check:
    """They are wrong where somebody has changed jobs with the triggers switched off."""
    async with opened.transaction() as connection:
        wrong = await invariants.miscounted(connection)
    check = _check("I21", LOOKED_AFTER["I21"], len(wrong), *wrong[:1])
    return replace(check, advice="SELECT vidqueue.recount_jobs() sets them right.") if wrong else check


async def _examine_files(opened: Database, storage: Storage, tell: Progress) -> Check:
    """The bytes of this data folder and the rows that speak of it."""
    first, broken, seen, after = "", 0, 0, FIRST_ID
    async with opened.transaction() as connection:
        total = await files.count_of_node(connection, storage.node)
    while True:
        async with opened.transaction() as connection:
            page = await files.promised(connection, storage.node, after=after, limit=PAGE)
        if not page:
            break
        for file_id, sha256 in page.items():
            if fault := await asyncio.to_thread(_fault_of, storage.path(file_id), sha256):
                first, broken = first or f"file {file_id}: {fault}", broken + 1
            seen += 1
            tell("files", seen, max(seen, total))
        after = max(page)
    unnamed, strays = await _unnamed(opened, storage)
    check = _check("I15", LOOKED_AFTER["I15"], broken + strays, first or f"file {unnamed}: no row")
    return replace(check, advice=FILES_ADVICE) if broken + strays else check


async def _unnamed(opened: Database, storage: Storage) -> tuple[UUID | None, int]:
    """Stored bytes that no row names: the first, and how many."""
    first, number, ids = None, 0, storage.stored_ids()
    while page := await asyncio.to_thread(lambda: list(islice(ids, PAGE))):
        async with opened.transaction() as connection:
            strays = set(page) - await files.which_exist(connection, page)
        first, number = first or min(strays, default=None), number + len(strays)
    return first, number


def _fault_of(path: Path, sha256: str) -> str | None:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        return error.strerror
    return None if digest.hexdigest() == sha256 else "another sha256 than its row has"


async def _examine_processes(opened: Database, storage: Storage) -> Check:
    """Executors and managed peers may wait for work; what an executor started must be gone with the attempt."""
    async with opened.transaction() as connection:
        ours = await lanes.working(connection, storage.node)
    faults, running = [], daemon_of(storage.folder)
    asked = partial(processes.marked, queue_prefix(storage.node), daemon=running.pid if running else os.getpid())
    for pid in sorted(await asyncio.to_thread(lambda: list(asked()))):
        lane, _, peer = (processes.mark_of(pid) or "").partition("/")
        if lane not in ours:
            faults.append(f"process {pid}: its lane {lane} is not online")
        elif not peer and not ours[lane] and (children := processes.children_of(pid)):
            faults.append(f"process {pid}: lane {lane} has no attempt, and it has children {_listed(children)}")
    return _check("I16", LOOKED_AFTER["I16"], len(faults), *faults[:1])


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def _check(name: str, invariant: str, broken: int, first: str = "") -> Check:
    if broken:
        return Check(name, "error", f"{invariant}: {broken} broken; first: {first}", ADVICE)
    return Check(name, "ok", invariant)
