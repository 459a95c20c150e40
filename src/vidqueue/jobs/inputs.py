"""Inputs of jobs: checks a media reference at submit and resolves it to a local file when the job runs.

It is checked both times, because a file may change in between.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

from vidqueue.db.pool import Database
from vidqueue.db.tables import files
from vidqueue.db.tables.files import FileRow
from vidqueue.errors import VidqueueError
from vidqueue.jobs import webhooks
from vidqueue.jobs.fetches import Fetches
from vidqueue.jobs.probes import Probes
from vidqueue.jobs.roots import Roots, short
from vidqueue.media.kinds import HEAD, check_kind
from vidqueue.media.source import check_source
from vidqueue.ops.addresses import is_url
from vidqueue.processors.media import Kind, file_of, output_of, suffix_of
from vidqueue.settings.schema import Settings
from vidqueue.storage.local import Storage

_DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,")

_PATHS_AT_ONCE = 32

_Rows = dict[tuple[str, Kind], FileRow]


@dataclass(frozen=True, slots=True)
class StagedInput:
    """The local file of a reference, and the sha256 of its bytes; None for one under `inputs.roots`."""

    path: Path
    sha256: str | None = None


class Inputs:
    """Checks and resolves media references."""

    def __init__(self, database: Database, storage: Storage, settings: Settings) -> None:
        self._database = database
        self._storage = storage
        self.roots = Roots(settings.inputs.roots)
        self.fetches = Fetches(database, storage, settings)
        self.probes = Probes(database, storage, settings.job_limits)
        self.receivers = webhooks.guard_of(settings.webhooks)

    def check_receiver(self, receiver: webhooks.Receiver) -> None:
        """Check whom a job wants to be told.

        Raises:
            VidqueueError: `invalid_url`, `address_forbidden`.
        """
        webhooks.check(receiver, self.receivers)

    async def check(self, reference: str, *, owner: str, kind: Kind = "any") -> None:
        """Check a reference before the job is queued; `kind` is what the parameter takes.

        Raises:
            VidqueueError: one of the codes for inputs, or of those of `check_kind`.
        """
        if reference.startswith("/"):
            await self.roots.find(reference, partial(_check_content, kind=kind))
        elif file_id := file_of(reference):
            await self._check_stored(await self._file(file_id, owner), kind)
        elif output := output_of(reference):
            # It may be published later: its job may still be running. Submit checks that the job exists.
            async with self._database.statement() as connection:
                found = await files.output(connection, *output, owner=owner)
            if found is not None:
                await self._check_stored(found, kind)
        elif _DATA.match(reference):
            check_kind(kind, None, _decode(reference)[:HEAD])
        elif is_url(reference):
            self.fetches.check(reference)
        else:
            raise VidqueueError("unsupported_input", f"{short(reference)} is not a reference that vidqueue supports.")

    async def check_many(
        self, wanted: Iterable[tuple[str, Kind]], *, owner: str, examine: bool = False
    ) -> dict[tuple[str, Kind], VidqueueError]:
        """Check many references with few statements; return the errors of those that are refused.

        With `examine`, files are probed whose facts are not known, which may take seconds.
        """
        sorted_out = _SortedOut(wanted)
        found: _Rows = {}
        refused: dict[tuple[str, Kind], VidqueueError] = {}
        if sorted_out.stored or sorted_out.outputs:
            async with self._database.statement() as connection:
                stored, outputs = sorted_out.stored.values(), sorted_out.outputs.values()
                rows = await files.get_many(connection, stored, owner=owner) if stored else {}
                made = await files.outputs(connection, outputs, owner=owner) if outputs else {}
            for one, file_id in sorted_out.stored.items():
                if file_id in rows:
                    found[one] = rows[file_id]
                else:
                    refused[one] = _no_file(file_id)
            # An output that does not exist yet may still be published.
            found |= {one: made[pair] for one, pair in sorted_out.outputs.items() if pair in made}
        here, others = await self._storage.threads.run(self._present, found)
        refused |= others
        if examine:
            refused |= await self._damaged({one: found[one] for one in here - others.keys()})
        for reference, kind in [*(found.keys() - here), *sorted_out.others]:
            try:
                await self.check(reference, owner=owner, kind=kind)
            except VidqueueError as error:
                refused[reference, kind] = error
        return refused | await self._refused_paths(sorted_out.paths)

    def _present(self, wanted: _Rows) -> tuple[set[tuple[str, Kind]], dict[tuple[str, Kind], VidqueueError]]:
        """Those whose bytes are here, and the errors of those of them that are of another kind."""
        here = {one for one, file in wanted.items() if self._storage.has(file.id, file.size)}
        return here, {one: error for one in here if (error := self._other_kind(wanted[one], one[1]))}

    async def _damaged(self, wanted: _Rows) -> dict[tuple[str, Kind], VidqueueError]:
        """The errors of damaged files, whose probe found no facts or has not ended yet."""
        unknown = {one: file for one, file in wanted.items() if file.facts is None and one[1] != "any"}
        if not unknown:
            return {}
        errors = await self.probes.damaged({file.id: file for file in unknown.values()}.values())
        return {one: errors[file.id] for one, file in unknown.items() if file.id in errors}

    def _other_kind(self, file: FileRow, kind: Kind) -> VidqueueError | None:
        head = b""
        if file.facts is None and kind != "any":
            with suppress(OSError), self._storage.path(file.id).open("rb") as content:
                head = content.read(HEAD)
        try:
            check_kind(kind, file.facts, head)
        except VidqueueError as error:
            return error
        return None

    async def _refused_paths(self, wanted: Iterable[tuple[str, Kind]]) -> dict[tuple[str, Kind], VidqueueError]:
        refused, left = {}, iter(wanted)

        async def check_some() -> None:
            for path, kind in left:
                try:
                    await self.check(path, owner="", kind=kind)
                except VidqueueError as error:
                    refused[path, kind] = error

        # Many at once: those in one root wait for its threads, and not for another root. All of a thousand at once, for
        # several clients, would be more than the event loop can take in one turn.
        await asyncio.gather(*(check_some() for _ in range(_PATHS_AT_ONCE)))
        return refused

    async def stage(self, reference: str, *, owner: str, copy: Path) -> StagedInput:
        """Return the local file of a reference. URLs: see `fetches`.

        A file in storage gets another name, `copy` with the extension of the name that it was stored under, because
        many programs go by it; bytes given inline are written there.

        Raises:
            VidqueueError: one of the codes for inputs.
        """
        if reference.startswith("/"):
            return StagedInput(await self.roots.find(reference))
        if file_id := file_of(reference):
            return await self.staged(await self._file(file_id, owner), copy)
        if output := output_of(reference):
            return await self.staged(await self._output(*output, owner), copy)
        if match := _DATA.match(reference):
            target, content = copy.with_name(copy.name + suffix_of("", match[1])), _decode(reference)
            await self._storage.threads.run(_written, content, target)
            return StagedInput(target, hashlib.sha256(content).hexdigest())
        raise VidqueueError("unsupported_input", f"{short(reference)} is not a reference that vidqueue supports.")

    async def staged(self, file: FileRow, copy: Path) -> StagedInput:
        """Return a path of a stored file whose extension is that of its name.

        Raises:
            VidqueueError: `file_elsewhere`, `file_lost`.
        """
        path = await self.locate(file)
        suffix = suffix_of(file.name, file.media_type)
        if suffix:
            path = await self._storage.threads.run(_linked, path, copy.with_name(copy.name + suffix))
        return StagedInput(path, file.sha256)

    async def _check_stored(self, file: FileRow, kind: Kind) -> None:
        await self.locate(file)
        if error := await self._storage.threads.run(self._other_kind, file, kind):
            raise error

    async def _file(self, file_id: UUID, owner: str) -> FileRow:
        async with self._database.statement() as connection:
            found = await files.get(connection, file_id, owner=owner)
        if found is None:
            raise _no_file(file_id)
        return found

    async def _output(self, job_id: UUID, name: str, owner: str) -> FileRow:
        async with self._database.statement() as connection:
            found = await files.output(connection, job_id, name, owner=owner)
        if found is None:
            raise VidqueueError("input_not_found", f"Job {job_id} has no output {name!r}.")
        return found

    async def locate(self, file: FileRow) -> Path:
        """Return the path of a file's bytes on this host.

        Raises:
            VidqueueError: `file_elsewhere`, `file_lost`.
        """
        if await self._storage.threads.run(self._storage.has, file.id, file.size):
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


class _SortedOut:
    """References by what has to be asked to check them; each with the kind of media that is wanted."""

    def __init__(self, wanted: Iterable[tuple[str, Kind]]) -> None:
        self.paths: set[tuple[str, Kind]] = set()
        self.stored: dict[tuple[str, Kind], UUID] = {}
        self.outputs: dict[tuple[str, Kind], tuple[UUID, str]] = {}
        self.others: set[tuple[str, Kind]] = set()
        for one in wanted:
            if one[0].startswith("/"):
                self.paths.add(one)
            elif file_id := file_of(one[0]):
                self.stored[one] = file_id
            elif output := output_of(one[0]):
                self.outputs[one] = output
            else:
                self.others.add(one)


def _check_content(path: Path, kind: Kind) -> None:
    if kind != "any":
        with check_source(path).opened() as descriptor:
            head = os.pread(descriptor, HEAD, 0)
        check_kind(kind, None, head)


def _linked(path: Path, link: Path) -> Path:
    """A further name of the file. It is the same file and no symbolic link: those are not opened as inputs."""
    link.parent.mkdir(exist_ok=True)
    try:
        link.hardlink_to(path)
    except FileExistsError:
        link.unlink()
        link.hardlink_to(path)
    except OSError:  # another file system: the file keeps its name
        return path
    return link


def _written(content: bytes, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def _no_file(file_id: UUID) -> VidqueueError:
    return VidqueueError("input_not_found", f"There is no file {file_id}.")


def _decode(reference: str) -> bytes:
    try:
        return base64.b64decode(reference.partition(",")[2], validate=True)
    except binascii.Error as error:
        raise VidqueueError("unsupported_input", f"The data: input is not base64: {error}.") from None
