"""Finish: ends an attempt and moves its job to the next state, in one transaction, behind the fence.

Every attempt ends here, whoever ends it: its own lane, a drain, or the reaper. A lane that goes on gets its next
attempt in the same transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog

from vidqueue.db.pool import Database
from vidqueue.db.tables import attempts, files
from vidqueue.db.tables.attempts import Begun, Ended, Ending
from vidqueue.errors import DATABASE_BUSY, VidqueueError
from vidqueue.job import (
    AttemptRef,
    Canceled,
    Failed,
    Failure,
    Interrupted,
    Outcome,
    RetryState,
    State,
    Succeeded,
    Usage,
    Verdict,
    Waiting,
    verdict,
)
from vidqueue.jobs.early_outputs import remove_discarded
from vidqueue.jobs.finish_queue import FinishQueue
from vidqueue.jobs.publish import Publication, discard, publish
from vidqueue.ops import failpoints
from vidqueue.sanitize import sanitize_text
from vidqueue.storage.local import Storage

RETRY_S = 0.5
# The decision after a success or a cancel does not depend on the retries that are used up.
_ANY_RETRIES = RetryState(0, 0, 1)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Finished:
    """The job moved to `state`; `next` is the attempt that the lane goes on with, if it does."""

    state: State
    next: Begun | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The attempt's fence is outdated: the job was given to another lane, and nothing was written.

    `next` is the attempt that a COMMIT without an answer had opened for the lane, where that is why.
    """

    next: Begun | None = None


@dataclass(frozen=True, slots=True)
class Continuation:
    """The lane that goes on with its next attempt, and for how long the lease of that one holds (seconds)."""

    lane: UUID
    lease_s: float


async def finish(  # noqa: PLR0913 - one act, however much belongs to it
    database: Database,
    storage: Storage,
    ref: AttemptRef,
    outcome: Outcome,
    *,
    workspace: Path | None = None,
    processor: str = "",
    early: Collection[str] = (),
    continuation: Continuation | None = None,
    usage: Usage | None = None,
    together: FinishQueue | None = None,
    moved: Callable[[], object] | None = None,
) -> Finished | Refused:
    """End an attempt; waits for the database as long as it takes.

    The outputs move from the workspace into storage first and become public with the commit, or not at all; their files
    are named after the `processor`. `early` has the names of those that are public already. An attempt that does not
    succeed takes them back with the commit. `usage` is written whether or not the fence still holds. `together` has the
    other attempts that end at this moment. `moved` is called in the thread that has moved the outputs.

    Raises:
        VidqueueError: `database_unavailable`, only once the process has given the database up.
    """
    publications: list[Publication] = []
    try:
        outcome = await publish(storage, outcome, workspace, publications, early=early, then=moved)
        outputs = [publication.row(processor, storage.node) for publication in publications]
        more = {"outputs": outputs, "usage": (usage or Usage()).row()}
        ended = await _commit_until_it_lands(database, ref, outcome, more, continuation, together)
        # If the commit raised, nothing is deleted: it may still take effect. `reconcile` removes files without rows.
        if ended.state is not State.SUCCEEDED:
            await _discard_unpublished(database, storage, publications)
            await _remove_taken_back(database, storage)
    finally:
        for publication in publications:
            storage.release(publication.stored.id)
    result = Refused(ended.next) if ended.state is None else Finished(ended.state, ended.next)
    _tell(outcome, result)
    return result


def _tell(outcome: Outcome, result: Finished | Refused) -> None:
    state = result.state.value if isinstance(result, Finished) else "refused"
    if isinstance(outcome, Failed):
        log.warning("attempt_failed", code=outcome.failure.code, error=outcome.failure.message, job_state=state)
    else:
        log.info("attempt_ended", outcome=type(outcome).__name__.lower(), job_state=state)


async def _commit_until_it_lands(
    database: Database,
    ref: AttemptRef,
    outcome: Outcome,
    more: dict[str, Any],
    continuation: Continuation | None,
    together: FinishQueue | None,
) -> Ended:
    unwritable = Failed(Failure.of("internal_error", "The outcome of the attempt could not be written."))
    # First with the lane's next attempt; without it if the database rejects the statement.
    goes_on, unclear = continuation, False
    while True:
        try:
            await failpoints.reach("finish.before")
            ended = await _commit(database, ref, outcome, more, goes_on, together)
            await failpoints.reach("finish.committed")
            return await _resumed(database, continuation) if unclear and ended.state is None and continuation else ended
        except VidqueueError as error:
            if error.code not in DATABASE_BUSY:
                raise
            if database.abandoned:
                raise
            log.warning("finish_waits_for_database", error=error.message)
            unclear = True
            await asyncio.sleep(RETRY_S)
        except Exception:
            if goes_on is not None:
                # Perhaps it is the next job that cannot be begun; this one must not suffer for it.
                log.exception("next_attempt_refused_by_database")
                goes_on, unclear = None, True
                continue
            # An outcome that the database rejects once is always rejected; without a substitute the attempt would be
            # repeated for ever.
            if outcome == unwritable:
                raise
            log.exception("finish_refused_by_database")
            outcome, more, unclear = unwritable, more | {"outputs": []}, True


async def _commit(
    database: Database,
    ref: AttemptRef,
    outcome: Outcome,
    more: dict[str, Any],
    continuation: Continuation | None,
    together: FinishQueue | None,
) -> Ended:
    lane, lease_s = (continuation.lane, continuation.lease_s) if continuation else (None, 0.0)
    if isinstance(outcome, Succeeded | Canceled):
        # The hot path: one statement, which is one transaction.
        ending = Ending(ref, _ending(outcome, verdict(outcome, _ANY_RETRIES)) | more, lane, lease_s)
        if together is not None and (ended := await together.finish(ending)) is not None:
            return ended
        async with database.statement() as connection:
            return await attempts.finish(connection, ending)
    async with database.transaction() as connection:
        tries = await attempts.lock(connection, ref)
        if tries is None:
            return Ended(None, None)
        facts = _ending(outcome, verdict(outcome, tries)) | more
        return await attempts.finish(connection, Ending(ref, facts, lane, lease_s))


async def _resumed(database: Database, continuation: Continuation) -> Ended:
    """Return the lane's open attempt: a COMMIT whose answer was lost may have ended the last one and opened it."""
    async with database.statement() as connection:
        return Ended(None, await attempts.resume(connection, continuation.lane, lease_s=continuation.lease_s))


def _ending(outcome: Outcome, decided: Verdict) -> dict[str, Any]:
    """Return the attempt's outcome and the verdict over its job as vidqueue.finish() takes them."""
    ending: dict[str, Any] = {
        "state": decided.state.value,
        "burned": int(decided.burned),
        "crashed": int(decided.crashed),
        "lost": decided.lost,
        "delay_s": decided.delay_s,
        "message": _message(outcome, decided.state),
    }
    if decided.state is State.FAILED:
        ending["job_error"] = _error(decided.failure)
    match outcome:
        case Succeeded(metrics=metrics, key=key, source=source):
            result = {"result": {"key": key, "source_id": str(source) if source else None}} if key else {}
            return ending | result | {"outcome": "succeeded", "metrics": metrics}
        case Failed(failure=failure, metrics=metrics):
            return ending | {"outcome": "failed", "error": _error(failure), "metrics": metrics}
        case Canceled():
            return ending | {"outcome": "canceled"}
        case Interrupted(reason=reason):
            return ending | {"outcome": "interrupted", "reason": sanitize_text(reason)}
        case Waiting(reason=reason, message=message):
            told = f"{reason}: {sanitize_text(message)[:2000]}"
            waiting_for = reason if decided.state is State.QUEUED else None
            return ending | {
                "outcome": "waiting", "reason": told, "waiting_for": waiting_for, "waited_s": decided.waited_s
            }  # fmt: skip


def _error(failure: Failure | None) -> dict[str, str]:
    assert failure is not None
    message, hint, detail = failure.message[:2000], failure.hint[:1000], failure.detail[:8000]
    texts = {"code": failure.code, "message": message, "hint": hint, "detail": detail}
    return {name: sanitize_text(text) for name, text in texts.items()}


def _message(outcome: Outcome, state: State) -> str | None:
    """Return the message of a job that is queued again, about its last attempt."""
    if state is not State.QUEUED:
        return None
    match outcome:
        case Interrupted(reason):
            return sanitize_text(f"Interrupted: {reason}")
        case Failed(failure):
            return sanitize_text(f"Tried again after: {failure.message}")
        case Waiting(message=message):
            return sanitize_text(message[:2000])
        case _:
            return None


async def _remove_taken_back(database: Database, storage: Storage) -> None:
    """Remove the files of outputs that the attempt had published early; reconciliation removes those that remain."""
    with contextlib.suppress(VidqueueError):
        await remove_discarded(database, storage)


async def _discard_unpublished(database: Database, storage: Storage, publications: list[Publication]) -> None:
    """Remove bytes that no row names. The database is asked, because a COMMIT may have happened without an answer."""
    if not publications:
        return
    ids = [publication.stored.id for publication in publications]
    try:
        async with database.statement() as connection:
            public = await files.which_exist(connection, ids)
    except VidqueueError:
        return  # reconcile at the next start will judge them
    await storage.long_threads.run(discard, storage, [file_id for file_id in ids if file_id not in public])
