"""Jobs that are submitted at one moment share a commit, and are accepted or refused as each of them would be alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg.errors import CheckViolation

from tests.factory import Queue, eventually
from vidqueue.db.pool import Database
from vidqueue.db.tables import limits, new_jobs
from vidqueue.db.tables.jobs import JobRow, NewJob
from vidqueue.db.tables.limits import OwnerLimits
from vidqueue.errors import VidqueueError
from vidqueue.jobs.submit_queue import SubmitQueue
from vidqueue.services import Services

JOB = NewJob(processor="zoo", input={}, owner="ann", device="cpu")
# What differs between two jobs that were asked for in the same words.
OWN = {"id", "created_at", "run_at", "position", "version"}


async def together(services: Services, *wanted: NewJob) -> list[JobRow | BaseException]:
    """Submit them at one moment; the jobs or what was raised."""
    queue = SubmitQueue(services.database, services.database)
    found = await asyncio.gather(*(queue.add(job) for job in wanted), return_exceptions=True)
    return [one if isinstance(one, BaseException) else one[0] for one in found]


async def commits(services: Services) -> int:
    """Transactions that the jobs were queued in."""
    async with services.database.statement() as connection:
        cursor = await connection.execute("SELECT count(DISTINCT xmin::text) AS commits FROM vidqueue.jobs")
        found: Any = await cursor.fetchone()
    return int(found["commits"])


async def jobs_queued(services: Services) -> int:
    """How many jobs there are."""
    async with services.database.statement() as connection:
        found: Any = await (await connection.execute("SELECT count(*) AS jobs FROM vidqueue.jobs")).fetchone()
    return int(found["jobs"])


async def test_jobs_of_one_moment_share_a_commit_and_keep_their_order(services: Services, queue: Queue) -> None:
    del queue
    found = await together(services, *(replace(JOB, title=str(number)) for number in range(5)))
    assert [one.title for one in found if isinstance(one, JobRow)] == list("01234")
    assert [one.position for one in found if isinstance(one, JobRow)] == [1, 2, 3, 4, 5]
    assert await commits(services) == 1


async def test_a_job_that_shares_a_commit_is_as_one_that_does_not(services: Services, queue: Queue) -> None:
    del queue
    moment = datetime(2100, 1, 1, tzinfo=UTC)
    for job in (
        JOB,
        replace(JOB, input={"text": "ä\u2028", "big": 10**30, "list": [1, {"x": None}]}, title="t", tags=("a", "b")),
        replace(JOB, priority=5, run_at=moment, expires_at=moment, max_attempts=2, timeout_s=7.5, stall_timeout_s=3),
        replace(JOB, lane="cpu0", vram_mb=5, webhook={"url": "http://localhost/x", "events": ["failed"]}),
    ):
        alone, *_ = await together(services, job)
        shared, other = await together(services, job, job)
        assert isinstance(alone, JobRow)
        for one in (shared, other):
            assert isinstance(one, JobRow)
            names = set(JobRow._fields) - (OWN if job.run_at is None else OWN - {"run_at"})
            assert {name: getattr(one, name) for name in names} == {name: getattr(alone, name) for name in names}


async def test_jobs_that_wait_for_a_transaction_of_others_keep_nobody_else_waiting(
    services: Services, queue: Queue
) -> None:
    # The first job of an owner makes the owner, for which the next ones wait.
    await together(services, JOB)
    async with (
        Database(services.database.url, pool_size=2) as few,
        services.database.transaction() as uncommitted,
    ):
        keyed = replace(JOB, idempotency_key="once")
        first, _ = await new_jobs.enqueue(uncommitted, keyed)
        submits = SubmitQueue(few, services.database)
        waiting = [asyncio.create_task(submits.add(keyed)) for _ in range(3)]

        async def they_wait() -> bool:
            return await lock_waits(services) == len(waiting)

        await eventually(they_wait)
        assert (await submits.add(JOB))[1]
        assert not any(task.done() for task in waiting)
    assert {(row.id, is_new) for row, is_new in await asyncio.gather(*waiting)} == {(first, False)}
    del queue


async def lock_waits(services: Services) -> int:
    """How many statements wait for a lock."""
    async with services.database.statement() as connection:
        cursor = await connection.execute("""
            SELECT count(*) AS waits FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND datname = current_database()
        """)
        found: Any = await cursor.fetchone()
    return int(found["waits"])


async def test_a_limit_holds_for_jobs_of_one_moment(services: Services, queue: Queue) -> None:
    del queue
    async with services.database.statement() as connection:
        await limits.set_limits(connection, "ann", OwnerLimits(max_queued=3))
    bob = replace(JOB, owner="bob")
    *anns, first, second = await together(services, JOB, JOB, JOB, JOB, JOB, bob, bob)
    refused = [one.code for one in anns if isinstance(one, VidqueueError)]
    assert refused == ["limit_reached", "limit_reached"]
    assert isinstance(first, JobRow)
    assert isinstance(second, JobRow)


async def test_one_that_cannot_share_is_queued_alone_and_one_that_is_refused_harms_no_other(
    services: Services, queue: Queue
) -> None:
    del queue
    (first,) = await together(services, JOB)
    assert isinstance(first, JobRow)
    refused, *accepted = await together(
        services,
        replace(JOB, input={"number": 1e305}),
        JOB,
        replace(JOB, input={"source": f"vq:jobs/{first.id}/video"}),
        replace(JOB, after=(first.id,)),
        replace(JOB, idempotency_key="once", request_hash="a"),
        replace(JOB, idempotency_key="once", request_hash="a"),
    )
    assert isinstance(refused, VidqueueError)
    assert refused.code == "invalid_params"
    shown = [one for one in accepted if isinstance(one, JobRow)]
    assert [one.depends_on for one in shown] == [[], [first.id], [first.id], [], []]
    assert shown[3].id == shown[4].id


async def test_one_that_the_database_refuses_harms_no_other(services: Services, queue: Queue) -> None:
    del queue
    async with services.database.statement() as connection:
        await connection.execute("ALTER TABLE vidqueue.jobs ADD CONSTRAINT never CHECK (title <> 'never') NOT VALID")
    found = await together(services, replace(JOB, title="never"), JOB, replace(JOB, title="never"), JOB)
    assert [type(one) for one in found] == [CheckViolation, JobRow, CheckViolation, JobRow]
    assert await jobs_queued(services) == 2


async def test_a_failure_of_the_server_is_told_to_everybody(services: Services, queue: Queue) -> None:
    del queue
    async with services.database.statement() as connection:
        await connection.execute(
            "CREATE FUNCTION vidqueue.fail() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = 'disk_full'; END $$;"
            "CREATE TRIGGER fail AFTER INSERT ON vidqueue.jobs EXECUTE FUNCTION vidqueue.fail()"
        )
    found = await together(services, JOB, JOB)
    assert [one.code for one in found if isinstance(one, VidqueueError)] == ["database_unavailable"] * 2


@pytest.mark.parametrize("code", ["54000", "54001", "22003", "XX000"])
async def test_one_whose_values_the_server_cannot_work_on_harms_no_other(
    services: Services, queue: Queue, code: str
) -> None:
    # 54000 is that of a value too large for an index, 54001 that of one nested too deeply.
    async with services.database.statement() as connection:
        await connection.execute(f"""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF new.title = 'never' THEN RAISE 'beyond a limit' USING ERRCODE = '{code}'; END IF; RETURN new; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON vidqueue.jobs FOR EACH ROW EXECUTE FUNCTION refuse();
        """)
    bob = replace(JOB, owner="bob")
    found = await together(services, replace(JOB, title="never"), JOB, bob, JOB, bob)
    assert [type(one) for one in found[1:]] == [JobRow] * 4
    assert isinstance(found[0], psycopg.errors.lookup(code))
    del queue
