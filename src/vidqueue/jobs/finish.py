"""Finish: what an attempt came to becomes what the job is, in one transaction, behind the fence.

Every attempt ends here, whoever ends it: its own lane, a drain, or a rescue.
"""

from __future__ import annotations

import asyncio
import mimetypes
import re
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import structlog

from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import attempts, files
from vidqueue.db.tables.attempts import Held
from vidqueue.db.tables.files import NewFile
from vidqueue.errors import DATABASE_BUSY, VidqueueError
from vidqueue.job import (
    AttemptRef,
    Canceled,
    Failed,
    Failure,
    Interrupted,
    Outcome,
    OutputDraft,
    State,
    Succeeded,
    verdict,
)
from vidqueue.ops import failpoints
from vidqueue.sanitize import sanitize_text
from vidqueue.storage.local import Storage, Stored

RETRY_S = 0.5
# As the table `outputs` has it.
OUTPUT_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Finished:
    """The job moved to `state`."""

    state: State


@dataclass(frozen=True, slots=True)
class Refused:
    """The fence was not ours any more: the job was given away, and nothing was written."""


@dataclass(frozen=True, slots=True)
class Publication:
    """An output whose bytes lie in storage and whose row is not written yet."""

    draft: OutputDraft
    stored: Stored


async def finish(
    database: Database, storage: Storage, ref: AttemptRef, outcome: Outcome, *, workspace: Path | None = None
) -> Finished | Refused:
    """End an attempt; waits for the database as long as it takes.

    The outputs move from the workspace into storage first and become public with the commit, or not at all.

    Raises:
        VidqueueError: `database_unavailable`, only once the process has given the database up.
    """
    publications: list[Publication] = []
    try:
        outcome = await _adopted(database, storage, outcome, workspace, publications)
        result = await _commit_until_it_lands(database, storage.node, ref, outcome, publications)
        # Not where that raised: a COMMIT without an answer may still happen, and the sweep will know.
        await _discard_unpublished(database, storage, publications)
    finally:
        for publication in publications:
            storage.release(publication.stored.id)
    log.info("attempt_ended", outcome=type(outcome).__name__.lower(), result=result)
    return result


async def _adopted(
    database: Database, storage: Storage, outcome: Outcome, workspace: Path | None, publications: list[Publication]
) -> Outcome:
    """What `_adopt` says; a fault in the middle of it leaves no bytes, because no COMMIT was tried yet."""
    try:
        return await _adopt(storage, outcome, workspace, publications)
    except BaseException:
        await _discard_unpublished(database, storage, publications)
        raise


async def _adopt(
    storage: Storage, outcome: Outcome, workspace: Path | None, publications: list[Publication]
) -> Outcome:
    """Move the outputs of a success into storage, one more publication each; a lie about them makes it a failure."""
    if not isinstance(outcome, Succeeded):
        return outcome
    try:
        _check_names(outcome.outputs)
        assert workspace is not None
        for draft in outcome.outputs:
            stored = await asyncio.to_thread(storage.adopt, draft.path, workspace)
            publications.append(Publication(draft, stored))
            await failpoints.reach("publish.renamed")
    except VidqueueError as error:
        return Failed(Failure.from_error(error))
    except OSError as error:
        return Failed(Failure.of("internal_error", f"An output cannot be stored: {error}"))
    return outcome


def _check_names(outputs: tuple[OutputDraft, ...]) -> None:
    if not outputs:
        raise VidqueueError("bad_output", "The processor returned no output.")
    names = [draft.name for draft in outputs]
    for name in names:
        if not OUTPUT_NAME.fullmatch(name) or names.count(name) > 1:
            raise VidqueueError("bad_output", f"The output name {name!r} is not allowed, or there twice.")


async def _commit_until_it_lands(
    database: Database, node: UUID, ref: AttemptRef, outcome: Outcome, publications: list[Publication]
) -> Finished | Refused:
    unwritable = Failed(Failure.of("internal_error", "The outcome of the attempt could not be written."))
    while True:
        try:
            async with database.transaction() as connection:
                result = await _commit(connection, node, ref, outcome, publications)
                await failpoints.reach("finish.before_commit")
            await failpoints.reach("finish.committed")
            return result
        except VidqueueError as error:
            if error.code not in DATABASE_BUSY:
                raise
            if database.abandoned:
                raise
            log.warning("finish_waits_for_database", error=error.message)
            await asyncio.sleep(RETRY_S)
        except Exception:
            # What the database refuses once it refuses always; an attempt that cannot end would run again for ever.
            if outcome == unwritable:
                raise
            log.exception("finish_refused_by_database")
            outcome, publications = unwritable, []


async def _commit(
    connection: Connection, node: UUID, ref: AttemptRef, outcome: Outcome, publications: list[Publication]
) -> Finished | Refused:
    held = await attempts.hold(connection, ref)
    if held is None:
        return Refused()
    if held.cancel_requested:
        # Whoever was told "canceled" shall not find it succeeded, nor see it tried again.
        outcome = Canceled()
    decided = verdict(outcome, held.tries)
    await attempts.end(connection, ref, outcome)
    if decided.state is State.SUCCEEDED:
        for publication in publications:
            await files.publish(
                connection, ref.job_id, ref.attempt, publication.draft.name, _row(publication, held, node)
            )
    await attempts.settle(connection, ref, decided, message=_message(outcome, decided.state))
    return Finished(decided.state)


def _message(outcome: Outcome, state: State) -> str | None:
    """What a job that waits again says of its last attempt."""
    if state is not State.QUEUED:
        return None
    match outcome:
        case Interrupted(reason):
            return f"Interrupted: {reason}"
        case Failed(failure):
            return f"Tried again after: {failure.message}"
        case _:
            return None


def _row(publication: Publication, held: Held, node: UUID) -> NewFile:
    draft, stored = publication.draft, publication.stored
    # The file on disk has our name; people get one that opens in a player.
    suffix = draft.path.suffix or mimetypes.guess_extension(draft.media_type) or ""
    return NewFile(
        id=stored.id,
        owner=held.owner,
        name=sanitize_text(f"{held.processor}-{draft.name}{suffix}"[-255:]),
        media_type=draft.media_type,
        size=stored.size,
        sha256=stored.sha256,
        node=node,
        facts=draft.facts,
    )


async def _discard_unpublished(database: Database, storage: Storage, publications: list[Publication]) -> None:
    """Remove bytes that no row names. Asked of the database, because a lost COMMIT may have happened all the same."""
    if not publications:
        return
    ids = [publication.stored.id for publication in publications]
    try:
        async with database.transaction() as connection:
            public = await files.which_exist(connection, ids)
    except VidqueueError:
        return  # the sweep at the next start will judge them
    for file_id in set(ids) - public:
        storage.delete(file_id)
