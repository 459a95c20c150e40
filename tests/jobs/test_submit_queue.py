"""Jobs that are submitted at one moment share a commit, and are accepted or refused as each of them would be alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.errors import CheckViolation

from tests.factory import Queue, eventually
from vidqueue.db.pool import Database
from vidqueue.db.tables import jobs, limits, new_jobs
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


async def test_jobs_of_one_moment_share_a_statement_and_keep_their_order(
    services: Services, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    del queue
    sent, execute = [], psycopg.AsyncCursor.execute

    async def counting(self: Any, query: Any, *values: Any, **how: Any) -> Any:
        # Others ask on their own connections meanwhile, such as the event feed.
        if "vidqueue.jobs" in str(query) or "vidqueue.accept" in str(query):
            sent.append(str(query))
        return await execute(self, query, *values, **how)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", counting)
    found = await together(services, *(replace(JOB, title=str(number)) for number in range(5)))
    assert len(sent) == 1
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


@pytest.mark.parametrize("shared", [False, True], ids=["a line for each device", "one line"])
async def test_jobs_are_answered_as_they_are_read_afterwards(any_queue: Queue, shared: bool) -> None:
    here, elsewhere = uuid4(), uuid4()
    await any_queue.lane(node=here, takes=("cpu", "gpu") if shared else ("cpu",))
    if not shared:
        await any_queue.lane("gpu0", "gpu", node=here, vram_mb=8000)
    mine = await stored(any_queue, here)
    theirs = await stored(any_queue, elsewhere)
    # Older ones have their places between the new ones.
    for priority in (20, 5, 5, -5, -20):
        await any_queue.submit(owner="ann", priority=priority)
        await any_queue.submit(owner="bob", priority=priority, device="gpu")
    # The time of one has come since the last dispatch.
    due = await any_queue.submit(priority=-1)
    unnoticed = "SET LOCAL session_replication_role = replica; UPDATE vidqueue.jobs SET ready = false WHERE id ="
    await any_queue.sql(f"{unnoticed} '{due}'")
    soon = datetime.now(UTC) + timedelta(days=1)
    asked = [
        *(replace(JOB, priority=priority) for priority in (10, 0, 0, -10)),
        *(replace(JOB, priority=priority, device="gpu") for priority in (10, 0, -10)),
        replace(JOB, input={"video": f"vq:files/{mine}"}, tags=("a",)),
        replace(JOB, input={"video": f"vq:files/{theirs}", "more": [f"vq:files/{mine}"]}),
        replace(JOB, input={"clips": ["/srv/one.mp4", "HTTPS://host/two.mp4"], "text": "vq"}, run_at=soon),
        replace(JOB, run_at=datetime(2000, 1, 1, tzinfo=UTC), lane="cpu0"),
        replace(JOB, processor="none", lane="cpu7"),
        replace(JOB, device="gpu", vram_mb=9000),
    ]
    async with any_queue.database.statement() as connection:
        answered = await new_jobs.enqueue_together(connection, asked)
        ids = [one.id for one in answered if one is not None]
        read = await jobs.get_many(connection, ids)
        (alone,) = await new_jobs.enqueue_together(connection, [JOB])
        assert alone
        assert alone == await jobs.get(connection, alone.id)
    assert [read[job_id] for job_id in ids] == answered
    assert {one.wait_reason for one in answered if one} >= {"busy", "file_elsewhere", "scheduled", "no_lane"}
    assert [one.source for one in answered[7:10] if one] == ["clip.mp4", "clip.mp4", "one.mp4"]


async def test_beyond_the_first_thousand_a_job_is_told_a_bound_of_its_position(queue: Queue) -> None:
    await queue.lane()
    async with queue.database.statement() as connection:
        for _ in range(10):
            first, *_ = await new_jobs.enqueue_together(connection, [JOB] * 100)
        *_, last = await new_jobs.enqueue_together(connection, [replace(JOB, priority=1), JOB])
    assert [(one.position, one.position_is_bound) for one in (first, last) if one] == [(901, False), (1000, True)]


async def test_the_row_of_a_job_that_names_a_file_is_written_once(queue: Queue) -> None:
    file_id = await stored(queue, uuid4())
    await queue.submit(input={"video": f"vq:files/{file_id}"})
    (written,) = await queue.sql("SELECT ctid::text AS place, node IS NOT NULL AS is_placed FROM vidqueue.jobs")
    assert written == {"place": "(0,1)", "is_placed": True}


async def stored(queue: Queue, node: UUID) -> UUID:
    """A file of a data folder."""
    (file,) = await queue.sql(f"""
        INSERT INTO vidqueue.files (owner, node, name, media_type, size, sha256)
        VALUES ('ann', '{node}', 'clip.mp4', 'video/mp4', 1, repeat('0', 64)) RETURNING id
    """)
    return UUID(str(file["id"]))
