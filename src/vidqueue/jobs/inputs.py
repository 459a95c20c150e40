"""Inputs of jobs: checks a media reference at submit and resolves it to a local file when the job runs.

It is checked both times, because a file may change in between.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import re
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

from vidqueue.db.pool import Database
from vidqueue.db.tables import files
from vidqueue.db.tables.files import FileRow
from vidqueue.errors import VidqueueError
from vidqueue.jobs.fetches import Fetches
from vidqueue.media.source import check_source
from vidqueue.ops.addresses import is_url
from vidqueue.settings.schema import Settings
from vidqueue.storage.local import Storage

_FILE = re.compile(r"vq:files/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_OUTPUT = re.compile(r"vq:jobs/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/([a-z][a-z0-9_.-]{0,63})")
_DATA = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,")


class Inputs:
    """Checks and resolves media references."""

    def __init__(self, database: Database, storage: Storage, settings: Settings) -> None:
        self._database = database
        self._storage = storage
        self._roots = [Path(os.path.realpath(root)) for root in settings.inputs.roots]
        self.fetches = Fetches(database, storage, settings)

    async def check(self, reference: str, *, owner: str) -> None:
        """Check a reference before the job is queued.

        Raises:
            VidqueueError: one of the codes for inputs.
        """
        if reference.startswith("/"):
            # In a thread: a folder may hang (a dead NFS server), and the event loop renews all leases.
            await asyncio.to_thread(self._local, reference)
        elif match := _FILE.fullmatch(reference):
            await self._stored(UUID(match[1]), owner)
        elif match := _OUTPUT.fullmatch(reference):
            await self._check_output(UUID(match[1]), match[2], owner)
        elif _DATA.match(reference):
            _decode(reference)
        elif is_url(reference):
            self.fetches.check(reference)
        else:
            raise VidqueueError("unsupported_input", f"{_short(reference)} is not a reference that vidqueue supports.")

    async def check_many(self, references: Iterable[str], *, owner: str) -> dict[str, VidqueueError]:
        """Check many references with few statements; return the errors of those that are refused."""
        paths, stored, outputs, others = set(), {}, {}, set()
        for reference in references:
            if reference.startswith("/"):
                paths.add(reference)
            elif match := _FILE.fullmatch(reference):
                stored[reference] = UUID(match[1])
            elif match := _OUTPUT.fullmatch(reference):
                outputs[reference] = (UUID(match[1]), match[2])
            else:
                others.add(reference)
        found: dict[str, FileRow] = {}
        refused: dict[str, VidqueueError] = {}
        if stored or outputs:
            async with self._database.statement() as connection:
                rows = await files.get_many(connection, stored.values(), owner=owner)
                made = await files.outputs(connection, outputs.values(), owner=owner)
            found = {name: rows[file_id] for name, file_id in stored.items() if file_id in rows}
            refused = {name: _no_file(file_id) for name, file_id in stored.items() if file_id not in rows}
            # An output that does not exist yet may still be published.
            found |= {name: made[pair] for name, pair in outputs.items() if pair in made}
        here = await asyncio.to_thread(self._present, found)
        for reference in [*(found.keys() - here), *others]:
            try:
                await self.check(reference, owner=owner)
            except VidqueueError as error:
                refused[reference] = error
        return refused | await asyncio.to_thread(self._refused_paths, paths)

    def _present(self, wanted: dict[str, FileRow]) -> set[str]:
        return {reference for reference, file in wanted.items() if self._storage.has(file.id, file.size)}

    def _refused_paths(self, paths: Iterable[str]) -> dict[str, VidqueueError]:
        refused = {}
        for path in paths:
            try:
                self._local(path)
            except VidqueueError as error:
                refused[path] = error
        return refused

    async def stage(self, reference: str, *, owner: str, inline: Path) -> Path:
        """Return the local file of a reference; bytes given inline are written to `inline`. URLs: see `fetches`.

        Raises:
            VidqueueError: one of the codes for inputs.
        """
        if reference.startswith("/"):
            return await asyncio.to_thread(self._local, reference)
        if match := _FILE.fullmatch(reference):
            return await self._stored(UUID(match[1]), owner)
        if match := _OUTPUT.fullmatch(reference):
            return await self._output(UUID(match[1]), match[2], owner)
        if _DATA.match(reference):
            await asyncio.to_thread(inline.write_bytes, _decode(reference))
            return inline
        raise VidqueueError("unsupported_input", f"{_short(reference)} is not a reference that vidqueue supports.")

    def _local(self, reference: str) -> Path:
        # Another process may replace files by links, or make a loop of links, while they are resolved.
        try:
            path = Path(os.path.realpath(reference))
            if not any(path.is_relative_to(root) for root in self._roots):
                named = ", ".join(map(str, self._roots)) or "none configured"
                raise VidqueueError("input_forbidden", f"{_short(reference)} is outside inputs.roots ({named}).")
            check_source(path)
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise VidqueueError("input_not_found", f"{_short(reference)} cannot be opened: {reason}.") from None
        return path

    async def _stored(self, file_id: UUID, owner: str) -> Path:
        async with self._database.statement() as connection:
            found = await files.get(connection, file_id, owner=owner)
        if found is None:
            raise _no_file(file_id)
        return await self.locate(found)

    async def _check_output(self, job_id: UUID, name: str, owner: str) -> None:
        """Check an output if it exists: its job may still be running. Submit checks that the job exists."""
        async with self._database.statement() as connection:
            found = await files.output(connection, job_id, name, owner=owner)
        if found is not None:
            await self.locate(found)

    async def _output(self, job_id: UUID, name: str, owner: str) -> Path:
        async with self._database.statement() as connection:
            found = await files.output(connection, job_id, name, owner=owner)
        if found is None:
            raise VidqueueError("input_not_found", f"Job {job_id} has no output {name!r}.")
        return await self.locate(found)

    async def locate(self, file: FileRow) -> Path:
        """Return the path of a file's bytes on this host.

        Raises:
            VidqueueError: `file_elsewhere`, `file_lost`.
        """
        if await asyncio.to_thread(self._storage.has, file.id, file.size):
            return self._storage.path(file.id)
        if file.node == self._storage.node or file.missing_at is not None:
            raise VidqueueError("file_lost", f"The bytes of file {file.id} ({file.name}) are gone.")
        if file.node is None:
            # The daemon of its data folder has not started since data folders have ids.
            message = (
                f"The bytes of file {file.id} ({file.name}) are not here, and no daemon has reported that it has them."
            )
            raise VidqueueError("file_elsewhere", message)
        async with self._database.statement() as connection:
            host = await files.host_of(connection, file.node)
        place = f"in the data folder of {host}" if host else "in another data folder"
        raise VidqueueError("file_elsewhere", f"The bytes of file {file.id} ({file.name}) are {place}, not here.")


def _no_file(file_id: UUID) -> VidqueueError:
    return VidqueueError("input_not_found", f"There is no file {file_id}.")


def _decode(reference: str) -> bytes:
    try:
        return base64.b64decode(reference.partition(",")[2], validate=True)
    except binascii.Error as error:
        raise VidqueueError("unsupported_input", f"The data: input is not base64: {error}.") from None


def _short(reference: str) -> str:
    return repr(reference if len(reference) <= 200 else reference[:200] + "…")
