"""Bulk actions: cancel, retry, delete or reprioritize all jobs that match a filter; each is a row that can be undone.

`bulk_runner` does them in the background, a few hundred jobs in a transaction. Jobs that were submitted after the
request are not touched, and a job whose state does not allow the act is left as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import batches, bulk_actions, jobs
from vidqueue.db.tables.bulk_actions import BulkActionRow, NewBulkAction, VerbName, Work
from vidqueue.errors import VidqueueError
from vidqueue.job import FINAL, State
from vidqueue.jobs import removal
from vidqueue.jobs.removal import FilesOf
from vidqueue.jobs.selection import Selection
from vidqueue.principal import Principal

UNDO_S = 10.0
LONGEST_DELAY_S = 3600.0


@dataclass(frozen=True, slots=True)
class Done:
    """What a step did: how many jobs it changed, and the files to remove; `whole` is False if it must be repeated."""

    changed: int
    files: FilesOf
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Verb:
    """An act on locked jobs, the states in which jobs are for it, and its past participle for messages."""

    states: frozenset[State]
    act: Callable[[Connection, Work, list[UUID]], Awaitable[Done]]
    done: str


class BulkRequest(BaseModel):
    """A request for a bulk action."""

    model_config = ConfigDict(extra="forbid")

    verb: VerbName = Field(description="cancel, retry, priority or delete.")
    jobs: Selection = Field(description="Which jobs; an empty object means all for which the verb makes sense.")
    priority: int | None = Field(None, ge=-1000, le=1000, description="The new priority; only with `priority`.")
    delay_s: float = Field(
        UNDO_S, ge=0, le=LONGEST_DELAY_S, description="Seconds until it begins; it can be undone meanwhile."
    )

    @model_validator(mode="after")
    def _has_priority_for_priority(self) -> Self:
        if (self.verb == "priority") != (self.priority is not None):
            raise ValueError("`priority` belongs to the verb priority, and to no other")
        if self.jobs.is_impossible:
            raise ValueError("a text cannot be searched within a batch")
        return self


async def create(database: Database, request: BulkRequest, principal: Principal) -> BulkActionRow:
    """Create a bulk action, durably; it begins after its delay.

    Raises:
        VidqueueError: `invalid_request` if no job of these states can be meant; `limit_reached`.
    """
    states = VERBS[request.verb].states
    wanted = states & set(request.jobs.state or states)
    if not wanted:
        raise VidqueueError(
            "invalid_request",
            f"No job in these states can be {VERBS[request.verb].done}.",
            hint=f"Leave the state out, or use {', '.join(sorted(states))}.",
        )
    new = NewBulkAction(
        owner=principal.owner,
        scope=principal.scope,
        verb=request.verb,
        priority=request.priority,
        selection=request.jobs.model_dump(mode="json", exclude_none=True, exclude={"state"}),
        states=sorted(wanted),
        delay_s=request.delay_s,
    )
    async with database.transaction() as connection:
        action_id = await bulk_actions.add(connection, new)
        if action_id is None:
            raise VidqueueError("limit_reached", "There are 100 unfinished bulk actions already.", retry_after_s=10)
        return await _require(connection, action_id, None)


async def read(database: Database, action_id: UUID, *, owner: str | None) -> BulkActionRow:
    """Return a bulk action.

    Raises:
        VidqueueError: `not_found`, also for one of another owner.
    """
    async with database.statement() as connection:
        return await _require(connection, action_id, owner)


async def newest(database: Database, *, owner: str | None, limit: int) -> list[BulkActionRow]:
    """Return the newest bulk actions of an owner, or of everybody."""
    async with database.statement() as connection:
        return await bulk_actions.newest(connection, owner=owner, limit=limit)


async def undo(database: Database, action_id: UUID, *, owner: str | None) -> BulkActionRow:
    """End a bulk action: before it has begun nothing is done, later it stops where it is.

    Raises:
        VidqueueError: `not_found`; `conflict` if it has ended.
    """
    async with database.transaction() as connection:
        ended = await bulk_actions.undo(connection, action_id, owner=owner)
        action = await _require(connection, action_id, owner)
    if not ended and action.state not in ("undone", "stopped"):
        raise VidqueueError("conflict", "The bulk action has ended; it cannot be undone.", hint="Act on the jobs anew.")
    return action


async def _require(connection: Connection, action_id: UUID, owner: str | None) -> BulkActionRow:
    action = await bulk_actions.get(connection, action_id, owner=owner)
    if action is None:
        raise VidqueueError("not_found", f"There is no bulk action {action_id}.")
    return action


async def _cancel(connection: Connection, work: Work, locked: list[UUID]) -> Done:
    """Cancel those that wait, and ask those that run to stop."""
    await jobs.request_cancel(connection, locked, owner=work.scope)
    return Done(len(locked), {})


async def _retry(connection: Connection, work: Work, locked: list[UUID]) -> Done:
    """Queue jobs again; one stays as it is if it needs the output of a job that will not come."""
    blocked = await batches.not_retryable(connection, locked) if locked else set()
    free = [job_id for job_id in locked if job_id not in blocked]
    await jobs.retry(connection, free, owner=work.scope)
    return Done(len(free), {})


async def _set_priority(connection: Connection, work: Work, locked: list[UUID]) -> Done:
    assert work.priority is not None
    return Done(await bulk_actions.set_priority(connection, locked, work.priority), {})


async def _delete(connection: Connection, work: Work, locked: list[UUID]) -> Done:
    del work
    removed = await removal.remove_some(connection, locked)
    return Done(len(removed.files), removed.files, removed.whole)


VERBS: dict[VerbName, Verb] = {
    "cancel": Verb(frozenset({State.QUEUED, State.RUNNING}), _cancel, "canceled"),
    "retry": Verb(frozenset({State.FAILED, State.CANCELED}), _retry, "queued again"),
    "priority": Verb(frozenset({State.QUEUED}), _set_priority, "given another priority"),
    "delete": Verb(FINAL, _delete, "deleted"),
}
