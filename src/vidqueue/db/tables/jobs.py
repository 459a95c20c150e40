"""Rows of vidqueue.jobs as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from vidqueue.db.pool import Connection, execute, row, rows, rows_as
from vidqueue.job import Device, State

FIRST_ID, LAST_ID = UUID(int=0), UUID(int=(1 << 128) - 1)
CLOCK_SLACK_S = 1.0  # the id of a job and its created_at are read from the clock one after the other


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A checked request, ready to be queued. UTC, seconds, MiB; None leaves it to the processor."""

    processor: str
    input: dict[str, Any]
    owner: str
    device: Device
    vram_mb: int = 0
    title: str | None = None
    tags: tuple[str, ...] = ()
    priority: int = 0
    run_at: datetime | None = None
    expires_at: datetime | None = None
    max_attempts: int | None = None
    timeout_s: float | None = None
    stall_timeout_s: float | None = None
    lane: str | None = None
    labels: tuple[str, ...] = ()
    idempotency_key: str | None = None
    request_hash: str | None = None
    webhook: dict[str, Any] | None = None
    after: tuple[UUID, ...] = ()
    keep_s: float | None = None
    cache: bool = True
    forget_uploads: bool = False


class JobRow(NamedTuple):
    """A job. `wait_reason` only while it waits, `position` only in a line, or a later one if `position_is_bound`.

    The fields are the columns of its queries, in their order. A tuple is made in a twentieth of the time of a frozen
    dataclass.
    """

    id: UUID
    batch_id: UUID | None
    processor: str
    state: State
    owner: str
    title: str | None
    source: str | None
    tags: list[str]
    priority: int
    input: dict[str, Any]
    progress: float
    stage: str | None
    message: str | None
    fps: float | None
    speed: float | None
    eta_s: float | None
    attempt: int
    failures: int
    max_attempts: int
    timeout_s: float
    stall_timeout_s: float
    lane: str | None
    wanted_lane: str | None
    labels: list[str]
    device: Device
    error_code: str | None
    error_message: str | None
    error_hint: str | None
    cancel_requested_at: datetime | None
    suspended_at: datetime | None
    suspended_by: str | None
    version: int
    run_at: datetime
    expires_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    keep_s: float | None
    kept_until: datetime | None
    cached: bool
    depends_on: list[UUID]
    outputs: list[dict[str, Any]]
    position: int | None
    position_is_bound: bool
    wait_reason: str | None
    opens_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs a list shows; None does not narrow. `after` is the last id of the page before it."""

    owner: str | None = None
    states: list[str] | None = None
    processor: str | None = None
    tag: str | None = None
    batch: UUID | None = None
    text: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    after: UUID | None = None
    limit: int = 50
    from_oldest: bool = False  # for a tag only


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """Jobs of one processor that finished in the last 24 hours; medians in seconds, over the newest that ran."""

    processor: str
    succeeded: int
    failed: int
    canceled: int
    median_wait_s: float | None
    median_run_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """How many jobs of one processor wait for one kind of lane."""

    processor: str
    device: Device
    jobs: int


async def get(connection: Connection, job_id: UUID, *, owner: str | None = None) -> JobRow | None:
    """One job, or None where this owner has none of that id."""
    found = await rows_as(job_row, connection, "jobs", "get", id=job_id, owner=owner)
    return found[0] if found else None


async def get_many(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, JobRow]:
    """Those of these jobs that exist, of all owners, by id."""
    wanted = list(dict.fromkeys(ids))
    if len(wanted) == 1:
        # Counts only the jobs before this one.
        found = await rows_as(job_row, connection, "jobs", "get", id=wanted[0], owner=None)
    else:
        found = await rows_as(job_row, connection, "jobs", "page_of_ids", ids=wanted)
    return {one.id: one for one in found}


async def state(connection: Connection, job_id: UUID, *, owner: str | None = None) -> State | None:
    """The state of a job, or None where this owner has none of that id."""
    found = await row(connection, "jobs", "state", id=job_id, owner=owner)
    return State(found["state"]) if found else None


async def page(connection: Connection, wanted: JobFilter) -> list[JobRow]:
    """One page, newest first. A tag together with a processor reads all jobs that have the tag."""
    query, values = list_of(wanted)
    return await rows_as(job_row, connection, "jobs", query, **values)


async def search_end(connection: Connection, wanted: JobFilter) -> UUID | None:
    """The job that a search for a text got to with this page; None if it has looked at all."""
    query, values = list_of(wanted)
    assert query == "page_with_text"
    unlimited = {key: value for key, value in values.items() if key != "limit"}
    found = await row(connection, "jobs", "search_end", **unlimited)
    return found["id"] if found else None


def list_of(wanted: JobFilter) -> tuple[str, dict[str, Any]]:
    """The query that has an index for this filter, and its values."""
    values: dict[str, Any] = {
        **{name: getattr(wanted, name) for name in ("owner", "limit", "created_after", "created_before")},
        "from": _first_id_at(wanted.created_after, -CLOCK_SLACK_S) if wanted.created_after else FIRST_ID,
        "before": wanted.after or LAST_ID,
    }
    if wanted.created_before:
        values["before"] = min(values["before"], _first_id_at(wanted.created_before, CLOCK_SLACK_S))
    states = wanted.states or list(State)
    if wanted.text is not None:
        more: dict[str, Any] = {"states": states, "processor": wanted.processor, "tag": wanted.tag, "text": wanted.text}
        return "page_with_text", {**values, **more}
    if wanted.batch is not None:
        more = {"states": states, "batch": wanted.batch, "processor": wanted.processor, "tag": wanted.tag}
        return "page_of_batch", {**values, **more}
    if wanted.tag is not None:
        more = {"states": states, "tag": wanted.tag, "processor": wanted.processor, "after": wanted.after or FIRST_ID}
        return "page_of_tag_oldest" if wanted.from_oldest else "page_of_tag", {**values, **more}
    if wanted.processor is not None:
        return "page_of_processor", {**values, "states": states, "processor": wanted.processor}
    if wanted.states is not None:
        return "page_in_states", {**values, "states": states}
    return "page", values


async def request_cancel(connection: Connection, ids: list[UUID], *, owner: str | None) -> None:
    """Cancel waiting jobs and ask running ones to stop; any other is left as it is."""
    await execute(connection, "jobs", "request_cancel", ids=ids, owner=owner)


async def retry(connection: Connection, ids: list[UUID], *, owner: str | None) -> None:
    """Queue failed or canceled jobs once more; any other is left as it is."""
    await execute(connection, "jobs", "retry", ids=ids, owner=owner)


async def expire(connection: Connection, *, message: str, hint: str) -> list[UUID]:
    """Fail up to a hundred jobs that still wait at their deadline; their ids."""
    return [found["id"] for found in await rows(connection, "jobs", "expire", message=message, hint=hint)]


async def failed_dependency(connection: Connection, job_id: UUID) -> UUID | None:
    """A job whose output this one needs, and which will not come."""
    found = await row(connection, "jobs", "failed_dependency", id=job_id)
    return found["id"] if found else None


async def patch(
    connection: Connection,
    job_id: UUID,
    *,
    owner: str | None,
    version: int | None,
    changes: dict[str, Any],
) -> bool:
    """Change priority, title or tags; False where the job is not there or not at `version` any more."""
    values = {"priority": changes.get("priority"), "title": changes.get("title"), "tags": changes.get("tags")}
    found = await row(
        connection, "jobs", "patch", id=job_id, owner=owner, version=version, set_title="title" in changes, **values
    )
    return found is not None


async def lock(connection: Connection, job_id: UUID) -> None:
    """Lock a job until the end of the transaction."""
    await execute(connection, "jobs", "lock", id=job_id)


async def lock_dependents(connection: Connection, job_id: UUID) -> None:
    """Lock the jobs that depend on a locked job."""
    await execute(connection, "jobs", "lock_dependents", id=job_id)


async def with_locked_dependents(connection: Connection, ids: list[UUID]) -> list[UUID]:
    """Those of these locked jobs whose dependents could be locked too; nobody is waited for."""
    return [found["id"] for found in await rows(connection, "jobs", "with_locked_dependents", ids=ids)]


async def unneeded(connection: Connection, ids: list[UUID]) -> set[UUID]:
    """The finished ones among locked jobs that nothing unfinished needs."""
    return {found["id"] for found in await rows(connection, "jobs", "unneeded", ids=ids)}


async def delete_many(connection: Connection, ids: list[UUID]) -> set[UUID]:
    """Delete jobs with their attempts, logs, events and output rows; the batches that they were members of."""
    await execute(connection, "jobs", "forget_events", ids=ids)
    found = await rows(connection, "jobs", "delete_many", ids=ids)
    return {one["batch_id"] for one in found if one["batch_id"] is not None}


async def counts(connection: Connection, *, owner: str | None) -> dict[str, int]:
    """Number of jobs in each state, with zeros."""
    found = {one["state"]: one["jobs"] for one in await rows(connection, "jobs", "counts", owner=owner)}
    return {state.value: found.get(state.value, 0) for state in State}


async def recent(connection: Connection, *, owner: str | None) -> list[Recent]:
    """The last 24 hours per processor."""
    return [Recent(**found) for found in await rows(connection, "jobs", "recent", owner=owner)]


async def waiting(connection: Connection) -> list[Waiting]:
    """The jobs that wait for a lane, of all owners, in groups; those that cannot run yet do not count."""
    return [Waiting(**found) for found in await rows(connection, "jobs", "waiting")]


async def of_key(connection: Connection, owner: str, key: str) -> tuple[UUID, str | None] | None:
    """The job that an idempotency key has made, and the fingerprint of the request that made it."""
    found = await row(connection, "jobs", "of_key", owner=owner, key=key)
    return (found["id"], found["request_hash"]) if found else None


def job_row(job_id: UUID, batch_id: UUID | None, processor: str, state: str, *others: Any) -> JobRow:
    """The columns of a query that shows jobs as a row."""
    return JobRow(job_id, batch_id, processor, State(state), *others)


def _first_id_at(moment: datetime, slack_s: float) -> UUID:
    """The lowest id that can be made at this time: a UUIDv7 begins with the milliseconds since 1970."""
    milliseconds = int((moment.timestamp() + slack_s) * 1000)
    return UUID(int=min(max(0, milliseconds), (1 << 48) - 1) << 80)
