"""The numbers of jobs are kept, not counted: whatever happens to jobs, they are right."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from tests.factory import Queue
from vidqueue.db.tables import jobs
from vidqueue.jobs import control

MISCOUNTED = "SELECT * FROM vidqueue.jobs_miscounted"
HOURS_MISCOUNTED = "SELECT * FROM vidqueue.hours_miscounted"
FAIL = (
    "UPDATE vidqueue.jobs SET state = 'failed', error_code = 'x', error_message = 'x', fence = NULL,"
    " finished_at = now() WHERE id = %s"
)
SUBMIT_MANY = (
    "INSERT INTO vidqueue.jobs (processor, input, device) SELECT 'zoo', '{}', 'cpu' FROM generate_series(1, %s)"
)


async def assert_right(queue: Queue) -> None:
    assert await queue.sql(MISCOUNTED) == []
    assert await queue.sql(HOURS_MISCOUNTED) == []
    for owner in ("local", "other", None):
        (true,) = await queue.sql(
            "SELECT jsonb_object_agg(state, jobs) AS jobs FROM (SELECT state, count(*) AS jobs FROM vidqueue.jobs"
            " WHERE %s::text IS NULL OR owner = %s GROUP BY state) x",
            owner,
            owner,
        )
        async with queue.database.transaction() as connection:
            told = await jobs.counts(connection, owner=owner)
        assert {state: number for state, number in told.items() if number} == (true["jobs"] or {})


async def test_counts_follow_jobs_through_everything_that_may_happen_to_them(any_queue: Queue) -> None:
    made = [await any_queue.submit(owner=owner, tags=("a",)) for owner in ("local", "other", "local", "other")]
    await assert_right(any_queue)
    ref = await any_queue.dispatch(await any_queue.lane())
    assert ref is not None
    await assert_right(any_queue)
    await any_queue.sql(FAIL, ref.job_id)
    await assert_right(any_queue)
    await any_queue.sql("UPDATE vidqueue.jobs SET finished_at = now() - interval '9 hours' WHERE id = %s", ref.job_id)
    await assert_right(any_queue)
    await control.retry(any_queue.database, ref.job_id, owner=None)
    await assert_right(any_queue)
    for job_id in made:
        await control.cancel(any_queue.database, job_id, owner=None)
    await assert_right(any_queue)
    await any_queue.sql("DELETE FROM vidqueue.jobs WHERE id = ANY (%s)", made[:3])
    await assert_right(any_queue)
    left = await any_queue.sql("SELECT owner, tag, state, job_id FROM vidqueue.job_tags")
    assert left == [{"owner": "other", "tag": "a", "state": "canceled", "job_id": made[3]}]


async def test_counts_are_right_while_many_changes_are_folded_and_when_hours_are_empty_again(any_queue: Queue) -> None:
    submit = (
        "INSERT INTO vidqueue.jobs (processor, input, device) SELECT 'zoo', '{}', 'cpu' FROM generate_series(1, 300)"
    )
    for _ in range(2):
        await any_queue.sql(submit)
    await assert_right(any_queue)
    await any_queue.sql("UPDATE vidqueue.jobs SET state = 'canceled', finished_at = now() - interval '2 days'")
    await assert_right(any_queue)
    (unfolded,) = await any_queue.sql("SELECT count(*) AS rows FROM vidqueue.job_changes")
    assert unfolded["rows"] < 600, "the changes are added to the counts as they come"
    await any_queue.sql("DELETE FROM vidqueue.jobs")
    await any_queue.sql("DO $$ BEGIN PERFORM vidqueue.fold_job_changes(); END $$")
    assert await any_queue.sql("SELECT * FROM vidqueue.job_hours") == []
    await assert_right(any_queue)


async def test_what_is_rolled_back_is_not_counted_and_an_open_submit_keeps_nobody_waiting(
    any_queue: Queue, any_database_url: str
) -> None:
    async with await psycopg.AsyncConnection.connect(any_database_url) as connection:
        await connection.execute("SELECT vidqueue.submit('zoo', '{}')")
        await asyncio.wait_for(any_queue.submit(), 10)
        await assert_right(any_queue)
        await connection.rollback()
        await connection.execute("SELECT vidqueue.submit('zoo', '{}')")
        # Others go on and are folded; what is committed after them is not lost.
        for _ in range(2):
            await any_queue.sql(SUBMIT_MANY, 600)
        await connection.commit()
    await assert_right(any_queue)


@pytest.mark.parametrize("wrong", ["UPDATE vidqueue.job_counts SET jobs = jobs + 1", "DELETE FROM vidqueue.jobs"])
async def test_counts_that_somebody_made_wrong_are_found_and_set_right(any_queue: Queue, wrong: str) -> None:
    await any_queue.sql(
        "INSERT INTO vidqueue.jobs (processor, input, device, state, finished_at) "
        "SELECT 'zoo', '{}', 'cpu', 'canceled', now() FROM generate_series(1, 600)"
    )
    async with any_queue.database.transaction() as connection:
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(wrong.encode())
    assert await any_queue.sql(MISCOUNTED) != []
    await any_queue.sql("SELECT vidqueue.recount_jobs()")
    await assert_right(any_queue)


async def test_two_who_set_the_counts_right_at_once_add_a_difference_once(
    any_queue: Queue, any_database_url: str
) -> None:
    await any_queue.submit()
    async with any_queue.database.transaction() as connection:
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("UPDATE vidqueue.job_changes SET jobs = jobs + 5")
    async with await psycopg.AsyncConnection.connect(any_database_url) as first:
        await first.execute("SELECT vidqueue.recount_jobs()")
        second = asyncio.create_task(any_queue.sql("SELECT vidqueue.recount_jobs() AS wrong"))
        waits = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while not (second.done() or await any_queue.sql(waits)):
            await asyncio.sleep(0.02)
        await first.commit()
    assert await second == [{"wrong": 0}]
    await assert_right(any_queue)


async def test_a_tag_from_before_tags_were_bounded_holds_up_no_change_of_its_job(any_queue: Queue) -> None:
    job_id = await any_queue.submit()
    async with any_queue.database.transaction() as connection:
        await connection.execute("SET LOCAL session_replication_role = replica")
        long_tag = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 200) n)"
        await connection.execute(f"UPDATE vidqueue.jobs SET tags = ARRAY['short', {long_tag}]".encode())
    ref = await any_queue.dispatch(await any_queue.lane())
    assert ref is not None
    assert ref.job_id == job_id


async def test_what_cannot_run_yet_is_queued_but_does_not_stand_in_the_line(any_queue: Queue) -> None:
    needed = await any_queue.submit()
    scheduled = await any_queue.submit(run_at=datetime.now(UTC) + timedelta(hours=1))
    await any_queue.submit(input={"video": f"vq:jobs/{needed}/text"})
    await assert_right(any_queue)
    async with any_queue.database.transaction() as connection:
        assert [group.jobs for group in await jobs.waiting(connection)] == [1]
        assert (await jobs.counts(connection, owner="local"))["queued"] == 3
    await any_queue.sql("UPDATE vidqueue.jobs SET run_at = now() WHERE id = %s", scheduled)
    async with any_queue.database.transaction() as connection:
        assert [group.jobs for group in await jobs.waiting(connection)] == [2]
    await assert_right(any_queue)
