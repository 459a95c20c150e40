"""Each kind of list has a query of its own; all of them show what a filter in plain Python would."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from tests.factory import Queue
from vidqueue.db.tables import events, jobs
from vidqueue.db.tables.jobs import JobFilter, JobRow
from vidqueue.jobs import control

OWNERS, PROCESSORS, TAGS, STATES = ("local", "other"), ("zoo", "rare"), ("a", "b"), ("queued", "canceled", "running")


async def stocked(queue: Queue) -> list[JobRow]:
    """Jobs of two owners, of two processors, with tags, some of them canceled and one running; newest first."""
    made = []
    for number, (owner, processor, tags) in enumerate(product(OWNERS, PROCESSORS, ((), ("a",), ("a", "b")))):
        for _ in range(3):
            made.append(await queue.submit(owner=owner, processor=processor, tags=tags))
        if number % 2:
            await control.cancel(queue.database, made[-1], owner=owner)
    await queue.dispatch(await queue.lane())
    # By id, as lists are: servers older than 18 give ids of one millisecond in no order.
    return [await queue.job(job_id) for job_id in sorted(made, reverse=True)]


async def listed(queue: Queue, limit: int = 4, **wanted: Any) -> list[JobRow]:
    """Everything that a filter finds, page by page."""
    found: list[JobRow] = []
    while True:
        async with queue.database.transaction() as connection:
            after = found[-1].id if found else None
            page = await jobs.page(connection, JobFilter(**wanted, after=after, limit=limit))
        found += page
        if len(page) < limit:
            return found


async def test_lists_by_owner_state_processor_and_tag_show_what_fits(any_queue: Queue) -> None:
    everything = await stocked(any_queue)
    state_lists = [None, ["queued"], ["canceled", "running"], ["failed"]]
    for owner, processor, tag, states in product((None, *OWNERS), (None, *PROCESSORS), (None, *TAGS), state_lists):
        expected = [
            job
            for job in everything
            if owner in (None, job.owner)
            and processor in (None, job.processor)
            and (tag is None or tag in job.tags)
            and (states is None or job.state in states)
        ]
        found = await listed(any_queue, owner=owner, processor=processor, tag=tag, states=states)
        assert found == expected, (owner, processor, tag, states)


@pytest.mark.parametrize("more", [{}, {"states": ["queued"]}, {"processor": "zoo"}, {"tag": "a"}])
async def test_lists_by_time_take_the_time_of_the_row(any_queue: Queue, more: dict[str, Any]) -> None:
    everything = await stocked(any_queue)
    of_kind = await listed(any_queue, **more)
    middle = everything[len(everything) // 2].created_at
    after = [job for job in of_kind if job.created_at >= middle]
    before = [job for job in of_kind if job.created_at < middle]
    assert await listed(any_queue, created_after=middle, **more) == after
    assert await listed(any_queue, created_before=middle, **more) == before
    assert await listed(any_queue, created_after=middle, created_before=middle + timedelta(microseconds=1), **more) == [
        job for job in of_kind if job.created_at == middle
    ]


async def test_times_beyond_every_job_are_no_fault(any_queue: Queue) -> None:
    everything = await stocked(any_queue)
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert await listed(any_queue, created_after=first, created_before=last) == everything
    assert await listed(any_queue, created_before=first) == []
    assert await listed(any_queue, created_after=last) == []


async def test_events_are_read_by_owner_and_by_job(any_queue: Queue) -> None:
    everything = await stocked(any_queue)
    async with any_queue.database.transaction() as connection:
        whole = await events.after(connection, 0)
        middle = whole[len(whole) // 2].number
        theirs = await events.after(connection, middle, owner="other")
        of_job = await events.after(connection, 0, job_id=everything[0].id)
        of_anothers_job = await events.after(connection, 0, job_id=everything[0].id, owner="local")
        two = await events.after(connection, middle, owner="other", limit=2)
    assert theirs == [event for event in whole if event.owner == "other" and event.number > middle]
    assert of_job == [event for event in whole if event.job_id == everything[0].id]
    assert (of_anothers_job, two) == ([], theirs[:2])


async def test_a_page_looks_at_the_lanes_once_for_jobs_that_wait_alike_and_tells_each_its_own_reason(
    any_queue: Queue,
) -> None:
    lanes = 20
    for number in range(lanes):
        await any_queue.lane(f"cpu{number}")
    kinds: list[dict[str, Any]] = [{}, {"owner": "other"}, {"lane": "nowhere"}, {"processor": "unknown"}]
    for number in range(60):
        await any_queue.submit(**kinds[number % len(kinds)])
    await any_queue.submit(run_at=datetime.now(UTC) + timedelta(hours=1))
    await any_queue.submit(after=(await any_queue.submit(),))
    read = (
        "SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::int AS rows "
        "FROM pg_stat_xact_user_tables WHERE relname = 'lanes'"
    )
    async with any_queue.database.transaction() as connection:
        found = await jobs.page(connection, JobFilter(limit=100))
        (told,) = await (await connection.execute(read)).fetchall()
    expected = await any_queue.sql("SELECT id, vidqueue.wait_reason(j) AS reason FROM vidqueue.jobs j")
    assert {job.id: job.wait_reason for job in found} == {one["id"]: one["reason"] for one in expected}
    assert {"busy", "no_lane", "no_processor", "scheduled", "dependency"} == {job.wait_reason for job in found}
    assert told["rows"] <= 12 * lanes
