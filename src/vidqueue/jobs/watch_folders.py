"""Watch folders: a file that is complete becomes a job, once for its content; outputs are copied to a folder.

A folder is looked through every few seconds, because network shares tell of no changes. A file is complete when it has
looked the same for `settle_s`. Its content is taken and its job queued in one transaction.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog
from pydantic import ValidationError

from vidqueue.db.pool import Database
from vidqueue.db.tables import new_jobs, watch_folders
from vidqueue.db.tables.watch_folders import Signature, Watched, WatchedRow
from vidqueue.errors import DATABASE_BUSY, VidqueueError
from vidqueue.jobs.inputs import Inputs
from vidqueue.jobs.submit import JobRequest, checked
from vidqueue.jobs.watch_outputs import copy_all
from vidqueue.jobs.watch_walk import Walk, digest
from vidqueue.ops import failpoints
from vidqueue.ops.supervise import supervise
from vidqueue.ops.threads import ThreadPool
from vidqueue.ops.watchdog import Heartbeat, Watchdog
from vidqueue.processors import registry
from vidqueue.processors.media import media_places, schema_of
from vidqueue.settings.entries import CONFIGURED_OWNER, WatchFolderSettings
from vidqueue.storage.local import Storage

DELIVERED_AT_ONCE = 20
SHOWN = 1000
# A refusal that is not the file's: it is tried again.
NOT_ITS_FAULT = DATABASE_BUSY | {
    "input_unreachable", "storage_unreachable", "no_space", "unknown_processor", "limit_reached",
}  # fmt: skip

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """How a file has looked, and since when (monotonic)."""

    signature: Signature
    since: float


def check(folder: WatchFolderSettings) -> str:
    """Check the template of a folder, and return the parameter that takes the file.

    Raises:
        VidqueueError: `invalid_request`, `unknown_processor`, `invalid_params`, with the name of the folder.
    """
    try:
        request = JobRequest.model_validate(folder.job)
        processor = registry.find(request.processor)
        places = (place for place in media_places(schema_of(processor.Params)) if place.isidentifier())
        parameter = folder.parameter or next(places, None)
        if parameter is None:
            raise VidqueueError(
                "invalid_params", f"{processor.name} has no parameter for a file; name one in `parameter`."
            )
        registry.parse(processor, {**request.input, parameter: "/a/file.mp4"})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise VidqueueError("invalid_request", f"watch_folders: {folder.name}: job: {fault['msg']}") from None
    except VidqueueError as error:
        raise VidqueueError(error.code, f"watch_folders: {folder.name}: {error.message}") from None
    return parameter


@dataclass(slots=True)
class Watcher:
    """Watches one folder. Any number of daemons may watch the same one."""

    folder: WatchFolderSettings
    database: Database
    inputs: Inputs
    storage: Storage
    heartbeat: Heartbeat
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, Seen] = field(default_factory=dict)
    _known: dict[str, Signature] | None = None
    _out: ThreadPool = field(init=False)

    def __post_init__(self) -> None:
        self._out = ThreadPool(f"outputs of watch folder {self.folder.name}", size=1)

    async def run(self) -> None:
        """Watch for ever; a folder or database that is away is waited for."""
        while True:
            self.heartbeat()
            try:
                await self.look()
                await self.deliver()
            except VidqueueError as error:
                log.warning("watch_folder_waits", folder=self.folder.name, error=error.message)
            except OSError as error:
                log.warning("watch_folder_unreadable", folder=self.folder.name, error=str(error))
            await asyncio.sleep(self.folder.every_s)

    async def look(self) -> None:
        """Look through the folder once, and submit a job for each new file that is complete."""
        top, known = self.folder.path, await self._known_paths()
        threads = await self.inputs.roots.threads_of(top)
        walk = Walk(top, self.folder.recursive, tuple(self.folder.include), self.folder.outputs)
        found = await walk.run(threads, self.heartbeat)
        await self._forget([path for path in known if path not in found])
        for path in sorted(self._complete(found), key=lambda path: (found[path].changed_ns, path)):
            self.heartbeat()
            sha256 = await digest(top / path, found[path], threads, self.heartbeat)
            if sha256 is not None:
                await self._take(Watched(folder=self.folder.name, path=path, sha256=sha256, signature=found[path]))

    async def deliver(self) -> None:
        """Copy the outputs of jobs that have succeeded."""
        if self.folder.outputs is None:
            return
        while True:
            async with self.database.statement() as connection:
                wanted = await watch_folders.to_deliver(
                    connection, self.folder.name, self.storage.node, limit=DELIVERED_AT_ONCE
                )
            for one in wanted:
                copying = asyncio.ensure_future(self._out.run(copy_all, self.storage, one, self.folder.outputs))
                # A copy of a large file, or to a slow share, may take longer than a task may be silent.
                while not (await asyncio.wait([copying], timeout=5))[0]:
                    self.heartbeat()
                copied = copying.result()
                async with self.database.statement() as connection:
                    await watch_folders.delivered(connection, self.folder.name, one.sha256)
                log.info(
                    "outputs_delivered", folder=self.folder.name, job_id=str(one.job_id), files=list(map(str, copied))
                )
            if len(wanted) < DELIVERED_AT_ONCE:
                return

    async def _known_paths(self) -> dict[str, Signature]:
        if self._known is None:
            async with self.database.statement() as connection:
                self._known = await watch_folders.known_paths(connection, self.folder.name)
        return self._known

    def _complete(self, found: dict[str, Signature]) -> list[str]:
        """The new files that have looked the same for long enough."""
        assert self._known is not None
        now, new = self.clock(), {}
        for path, signature in found.items():
            if self._known.get(path) == signature:
                continue
            before = self._seen.get(path)
            new[path] = before if before is not None and before.signature == signature else Seen(signature, now)
        self._seen = new
        return [path for path, seen in new.items() if now - seen.since >= self.folder.settle_s]

    async def _forget(self, gone: list[str]) -> None:
        if not gone:
            return
        assert self._known is not None
        async with self.database.statement() as connection:
            await watch_folders.forget_paths(connection, self.folder.name, gone)
        for path in gone:
            del self._known[path]

    async def _take(self, file: Watched) -> None:
        assert self._known is not None
        try:
            await self._submit(file)
        except VidqueueError as refusal:
            if refusal.code in NOT_ITS_FAULT:
                raise
            async with self.database.transaction() as connection:
                if await watch_folders.take(connection, file):
                    reason = f"{refusal.code}: {refusal.message}"[:2000]
                    await watch_folders.became(connection, file, error=reason)
                await watch_folders.know_path(connection, file)
            log.warning("watched_file_refused", folder=file.folder, path=file.path, error=refusal.message)
        self._known[file.path] = file.signature
        self._seen.pop(file.path, None)

    async def _submit(self, file: Watched) -> None:
        new = await checked(self._request(file), inputs=self.inputs, owner=CONFIGURED_OWNER)
        job_id = None
        async with self.database.transaction() as connection:
            if await watch_folders.take(connection, file):
                job_id, _ = await new_jobs.enqueue(connection, new)
                await watch_folders.became(connection, file, job_id=job_id)
            await watch_folders.know_path(connection, file)
            await failpoints.reach("submit.before_commit")
        await failpoints.reach("submit.committed")
        log.info("watched_file", folder=file.folder, path=file.path, job_id=str(job_id) if job_id else None)

    def _request(self, file: Watched) -> JobRequest:
        given: dict[str, Any] = {"title": file.path[-500:], **self.folder.job}
        parameters = {**given.get("input", {}), check(self.folder): str(self.folder.path / file.path)}
        return JobRequest.model_validate({**given, "input": parameters})


@contextmanager
def watching(
    folders: Sequence[WatchFolderSettings], database: Database, inputs: Inputs, storage: Storage, watchdog: Watchdog
) -> Iterator[None]:
    """Watch the folders of a configuration for the block.

    Raises:
        VidqueueError: as `check`.
    """
    for folder in folders:
        check(folder)
    with ExitStack() as stack:
        for folder in folders:
            heartbeat = watchdog.register(f"watch folder {folder.name}")
            watcher = Watcher(folder, database, inputs, storage, heartbeat)
            stack.callback(supervise(watcher.run, f"watch_folder_{folder.name}").cancel)
        yield


async def newest(database: Database, folder: str) -> list[WatchedRow]:
    """Return what became of the newest files of a folder."""
    async with database.statement() as connection:
        return await watch_folders.newest(connection, folder, limit=SHOWN)
