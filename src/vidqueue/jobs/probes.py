"""Probes uploaded files for their media facts: few at a time, owners in turn, and no upload waits long for its probe.

Facts that are found after the upload was answered are written into the row of the file.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import structlog

from vidqueue.db.pool import Database
from vidqueue.db.tables import files
from vidqueue.db.tables.files import FileRow
from vidqueue.errors import VidqueueError
from vidqueue.limits import Limits
from vidqueue.media.probe import probe
from vidqueue.ops.threads import ThreadPool
from vidqueue.storage.local import Storage

AT_ONCE = 2
# A request is answered after this time without facts.
ANSWER_WITHIN_S = 2.0
# Of the inputs of one request; more would keep the probes from the uploads of others.
_MOST_EXAMINED = 20

Facts = dict[str, Any]

log = structlog.get_logger(__name__)


class Turns:
    """A semaphore that serves owners in turn, so that many requests of one owner do not delay those of others."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def slot(self, owner: str) -> AsyncIterator[None]:
        """Acquire a slot for the block."""
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
                # This owner's next turn comes after all other owners'.
                self._waiting[owner] = line
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Probes:
    """Runs the probes of one process, in threads of their own because a probe blocks its thread."""

    def __init__(self, database: Database, storage: Storage, limits: Limits) -> None:
        self._database = database
        self._storage = storage
        self._limits = limits
        self._turns = Turns(AT_ONCE)
        self._threads = ThreadPool("probe", size=AT_ONCE)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._running: dict[UUID, asyncio.Task[Facts]] = {}

    def begin(self, file_id: UUID, *, owner: str) -> asyncio.Task[Facts]:
        """Return a task that returns the facts of a stored file, or raises a VidqueueError that says why it has none.

        It is a new one, unless one is running for the file.
        """
        if (running := self._running.get(file_id)) is not None:
            return running
        task = self._running[file_id] = self._keep(asyncio.create_task(self._probe(file_id, owner)))
        task.add_done_callback(lambda _: self._running.pop(file_id))
        return task

    async def damaged(self, wanted: Collection[FileRow]) -> dict[UUID, VidqueueError]:
        """Return the errors of files that cannot be decoded, as far as few and short probes can tell."""
        probing = {file.id: self.begin(file.id, owner=file.owner) for file in list(wanted)[:_MOST_EXAMINED]}
        for file_id, task in probing.items():
            self.write_later(task, file_id)
        if probing:
            await asyncio.wait(probing.values(), timeout=ANSWER_WITHIN_S)
        ended = {file_id: task for file_id, task in probing.items() if task.done() and not task.cancelled()}
        return {
            file_id: error
            for file_id, task in ended.items()
            # Other codes say what the probe cannot do; a processor may read more formats than it does.
            if isinstance(error := task.exception(), VidqueueError) and error.code == "media_damaged"
        }

    async def answer(self, probing: asyncio.Task[Facts]) -> Facts:
        """Wait for the facts as long as an upload waits for its answer.

        Raises:
            VidqueueError: `probe_pending`, or why there are no facts.
        """
        await asyncio.wait([probing], timeout=ANSWER_WITHIN_S)
        if not probing.done():
            raise VidqueueError("probe_pending", "The file is being examined.")
        return probing.result()

    def write_later(self, probing: asyncio.Task[Facts], file_id: UUID) -> None:
        """Write the facts into the row of the file when the probe ends."""
        self._keep(asyncio.create_task(self._write(probing, file_id)))

    def close(self) -> None:
        """Cancel all probes; their files get no facts."""
        for task in self._tasks:
            task.cancel()

    def _keep(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Retrieves the exception: asyncio would log it if the client has left.
            task.exception()

    async def _probe(self, file_id: UUID, owner: str) -> Facts:
        canceled = threading.Event()
        async with self._turns.slot(owner):
            try:
                facts = await self._threads.run(probe, self._storage.path(file_id), self._limits, canceled)
                return facts.as_json()
            except asyncio.CancelledError:
                # A thread cannot be canceled; the jailed process it waits for can.
                canceled.set()
                raise

    async def _write(self, probing: asyncio.Task[Facts], file_id: UUID) -> None:
        try:
            facts = await probing
            async with self._database.statement() as connection:
                await files.set_facts(connection, file_id, facts)
        except VidqueueError as error:
            log.info("file_without_facts", file=str(file_id), code=error.code, error=error.message)
