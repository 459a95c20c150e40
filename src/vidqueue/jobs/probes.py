"""Probes uploaded files for their media facts: few at a time, in turn between owners, and no upload waits long for one.

Facts that come later than the answer to the upload are written into the row of the file.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import structlog

from vidqueue.db.pool import Database
from vidqueue.db.tables import files
from vidqueue.errors import VidqueueError
from vidqueue.limits import Limits
from vidqueue.media.probe import probe
from vidqueue.storage.local import Storage

AT_ONCE = 2
# An upload is answered after this time without facts.
PATIENCE_S = 2.0

Facts = dict[str, Any]

log = structlog.get_logger(__name__)


class Turns:
    """A semaphore that gives each owner a turn: one who asks for many keeps nobody else waiting for all of them."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def of(self, owner: str) -> AsyncIterator[None]:
        """One of the slots, for the time of the block."""
        if self._free:
            self._free -= 1
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(owner, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._pass_on()
                raise
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            owner, line = self._waiting.popitem(last=False)
            turn = line.popleft()
            if line:
                # At the end, behind all other owners.
                self._waiting[owner] = line
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Probes:
    """The probes of one process. Threads of their own: a probe holds one for as long as it takes."""

    def __init__(self, database: Database, storage: Storage, limits: Limits) -> None:
        self._database = database
        self._storage = storage
        self._limits = limits
        self._turns = Turns(AT_ONCE)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="probe")
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, file_id: UUID, *, owner: str) -> asyncio.Task[Facts]:
        """A task that returns the facts of a stored file, or raises a VidqueueError that says why there are none."""
        return self._keep(asyncio.create_task(self._probe(file_id, owner)))

    def write_later(self, probing: asyncio.Task[Facts], file_id: UUID) -> None:
        """Write the facts into the row of the file once they are there."""
        self._keep(asyncio.create_task(self._write(probing, file_id)))

    def close(self) -> None:
        """Stop every probe; files whose facts were not found by then have none."""
        for task in self._tasks:
            task.cancel()
        self._threads.shutdown(wait=False)

    def _keep(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # The client may have left before it could be told of a failure; asyncio would complain.
            task.exception()

    async def _probe(self, file_id: UUID, owner: str) -> Facts:
        canceled = threading.Event()
        async with self._turns.of(owner):
            work = asyncio.get_running_loop().run_in_executor(
                self._threads, probe, self._storage.path(file_id), self._limits, canceled
            )
            try:
                return (await work).as_json()
            except asyncio.CancelledError:
                # A thread cannot be canceled; the jail it waits for can.
                canceled.set()
                raise

    async def _write(self, probing: asyncio.Task[Facts], file_id: UUID) -> None:
        try:
            facts = await probing
            async with self._database.statement() as connection:
                await files.set_facts(connection, file_id, facts)
        except VidqueueError as error:
            log.info("file_without_facts", file=str(file_id), code=error.code, error=error.message)
