"""Examines whether vidqueue has kept its promises: rows by the views of `vidqueue_report`, files and processes here.

Each invariant gets one check. Some may be broken for a moment while a daemon works (bytes that move, a process that
ends); one that stays broken is a fault in vidqueue.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

from vidqueue.db import migrate, pool
from vidqueue.db.migrate import MigrationError
from vidqueue.db.pool import Database
from vidqueue.db.tables import files, lanes
from vidqueue.doctor.checks import Check
from vidqueue.ops import processes
from vidqueue.settings.schema import Settings
from vidqueue.storage.local import CHUNK, Storage
from vidqueue.worker.lanes import queue_prefix

ADVICE = "This is a fault in vidqueue: please report it with the history of that job."
PAGE = 500

# What no view can see.
LOOKED_AFTER = {
    "I15": "the files of this data folder are those of the rows, byte for byte",
    "I16": "no process of ours works without a running attempt",
}

# Told of as (files seen, files in all).
Progress = Callable[[int, int], None]


async def examine(url: str, settings: Settings, tell: Progress = lambda seen, total: None) -> list[Check]:
    """Every invariant, in the order of its number. Reads each stored file once, to compare its sha256.

    Raises:
        DatabaseUnfitError, MigrationError: the database does not answer, or is none of this version.
    """
    if missing := await migrate.pending(url):
        raise MigrationError(f"The database lacks {', '.join(missing)}; `vidqueue db migrate` brings it up to date.")
    storage = Storage(settings.data_dir)
    # The views walk over everything: a grown database takes minutes.
    async with Database(url, query_timeout_s=600) as opened:
        checks = await _examine_rows(opened)
        checks.append(await _examine_files(opened, storage, tell))
        checks.append(await _examine_processes(opened, storage.node))
    return sorted(checks, key=lambda check: int(check.name.removeprefix("I")))


async def _examine_rows(opened: Database) -> list[Check]:
    async with opened.transaction() as connection:
        known = await pool.rows(connection, "system", "invariants")
        broken = await pool.rows(connection, "system", "violations")
    first = {one["id"]: one for one in reversed(broken)}
    return [_of_rows(one["id"], one["invariant"], first.get(one["id"])) for one in known]


def _of_rows(name: str, invariant: str, first: dict[str, Any] | None) -> Check:
    if first is None:
        return _check(name, invariant, 0)
    return _check(name, invariant, first["broken"], f"job {first['job_id']}: {first['detail']}")


async def _examine_files(opened: Database, storage: Storage, tell: Progress) -> Check:
    """The bytes of this data folder and the rows that speak of it."""
    faults, seen, after = [], set[UUID](), UUID(int=0)
    stored = set(await asyncio.to_thread(lambda: list(storage.stored_ids())))
    while True:
        async with opened.transaction() as connection:
            page = await files.promised(connection, storage.node, after=after, limit=PAGE)
        if not page:
            break
        for file_id, sha256 in page.items():
            if fault := await asyncio.to_thread(_fault_of, storage.path(file_id), sha256):
                faults.append(f"file {file_id}: {fault}")
            seen.add(file_id)
            tell(len(seen), len(stored | seen))
        after = max(page)
    faults += [f"file {file_id}: no row" for file_id in await _unnamed(opened, stored - seen)]
    return _check("I15", LOOKED_AFTER["I15"], len(faults), *faults[:1])


async def _unnamed(opened: Database, ids: set[UUID]) -> set[UUID]:
    async with opened.transaction() as connection:
        return ids - await files.which_exist(connection, list(ids))


def _fault_of(path: Path, sha256: str) -> str | None:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        return error.strerror
    return None if digest.hexdigest() == sha256 else "another sha256 than its row has"


async def _examine_processes(opened: Database, node: UUID) -> Check:
    """An executor may wait for work; what it started must be gone with the attempt."""
    async with opened.transaction() as connection:
        ours = await lanes.working(connection, node)
    faults = []
    for pid in sorted(await asyncio.to_thread(lambda: list(processes.marked(queue_prefix(node))))):
        lane = processes.mark_of(pid)
        if lane not in ours:
            faults.append(f"process {pid}: its lane {lane} is not online")
        elif not ours[lane] and (children := processes.children_of(pid)):
            faults.append(f"process {pid}: lane {lane} has no attempt, and it has children {_listed(children)}")
    return _check("I16", LOOKED_AFTER["I16"], len(faults), *faults[:1])


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def _check(name: str, invariant: str, broken: int, first: str = "") -> Check:
    if broken:
        return Check(name, "error", f"{invariant}: {broken} broken; first: {first}", ADVICE)
    return Check(name, "ok", invariant)
