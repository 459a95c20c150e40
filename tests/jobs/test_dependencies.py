"""Jobs that wait for others: counted right whatever ends at once, and whatever a refused lane does meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

import pytest

from tests.factory import Queue
from vidqueue.db.pool import Database
from vidqueue.db.tables import jobs
from vidqueue.job import AttemptRef, Canceled, OutputDraft, Succeeded
from vidqueue.jobs import control, removal
from vidqueue.jobs.finish import Continuation, Refused, finish
from vidqueue.storage.local import Storage
from vidqueue.storage.workspaces import Workspaces


async def test_a_job_whose_parents_succeed_at_once_is_ready(any_queue: Queue, tmp_path: Path) -> None:
    storage, lanes = Storage(tmp_path), [await any_queue.lane(f"cpu{number}") for number in range(4)]
    for _ in range(5):
        parents = [await any_queue.submit() for _ in lanes]
        videos = [f"vq:jobs/{parent}/text" for parent in parents]
        child = await any_queue.submit(input={"videos": videos})
        refs = [await any_queue.dispatch(lane) for lane in lanes]
        await asyncio.gather(*(_succeed(any_queue.database, storage, ref) for ref in refs))
        (row,) = await any_queue.sql("SELECT unmet, ready FROM vidqueue.jobs WHERE id = %s", child)
        assert row == {"unmet": 0, "ready": True}
        await any_queue.sql("DELETE FROM vidqueue.jobs WHERE id = %s", child)


async def _succeed(database: Database, storage: Storage, ref: AttemptRef | None) -> None:
    assert ref is not None
    async with Workspaces(storage) as workspaces:
        workspace = await workspaces.begin(f"{ref.job_id}")
        path = workspace / "text"
        path.write_text("done")
        outcome = Succeeded((OutputDraft("text", path, "text/plain"),))
        await finish(database, storage, ref, outcome, workspace=workspace)


async def test_a_chain_of_jobs_fails_by_indexes_whatever_the_statistics_say(queue: Queue) -> None:
    """They may have been taken when many jobs depended on one, and say that each job has as many dependents."""
    await queue.sql("ALTER TABLE vidqueue.job_dependencies SET (autovacuum_enabled = off)")
    first = await queue.submit()
    many = "SELECT vidqueue.submit('zoo', '{}') AS id FROM generate_series(1, 1000) ORDER BY 1"
    fan = [row["id"] for row in await queue.sql(many)]
    depend = "INSERT INTO vidqueue.job_dependencies SELECT a, b, false FROM unnest(%s::uuid[], %s::uuid[]) AS t (a, b)"
    await queue.sql(depend, fan, [first] * len(fan))
    await queue.sql("ANALYZE vidqueue.job_dependencies")
    chain = [row["id"] for row in await queue.sql(many)]
    await queue.sql(depend, chain[1:], chain[:-1])
    async with queue.database.transaction() as connection:
        await jobs.request_cancel(connection, [chain[0]], owner=None)
        cursor = await connection.execute(
            "SELECT seq_tup_read, idx_scan FROM pg_stat_xact_user_tables WHERE relname = 'job_dependencies'"
        )
        read = await cursor.fetchone()
    assert read is not None
    assert read["seq_tup_read"] == 0
    assert read["idx_scan"] >= len(chain) - 1
    (states,) = await queue.sql("SELECT count(*) AS failed FROM vidqueue.jobs WHERE state = 'failed'")
    assert states["failed"] == len(chain) - 1


async def test_a_lane_that_is_refused_opens_no_attempt_that_nobody_runs(any_queue: Queue, tmp_path: Path) -> None:
    lane = await any_queue.lane()
    await any_queue.submit()
    ref = await any_queue.dispatch(lane)
    assert ref is not None
    await any_queue.sql(
        "UPDATE vidqueue.attempts SET ended_at = now(), outcome = 'interrupted', reason = 'x' WHERE ended_at IS NULL"
    )
    await any_queue.sql("UPDATE vidqueue.jobs SET state = 'queued', fence = NULL WHERE id = %s", ref.job_id)
    late = await finish(
        any_queue.database, Storage(tmp_path), ref, Canceled(), continuation=Continuation(lane, lease_s=30)
    )
    assert late == Refused(None)
    assert await any_queue.sql("SELECT 1 AS open FROM vidqueue.attempts WHERE ended_at IS NULL") == []


@pytest.mark.parametrize("by", ["a person", "retention"])
async def test_a_job_and_the_one_that_depends_on_it_are_deleted_at_once(
    any_queue: Queue, any_database_url: str, tmp_path: Path, by: str
) -> None:
    """Deleting the first writes into the second, whose deletion waits for what the first deletes."""
    first = await any_queue.submit()
    second = await any_queue.submit(input={"video": f"vq:jobs/{first}/text"})
    await control.cancel(any_queue.database, first, owner=None)
    async with Database(any_database_url) as other, other.transaction() as deletes_second:
        await deletes_second.execute("SELECT FROM vidqueue.jobs WHERE id = %s FOR UPDATE", [second])
        deletes_first = asyncio.create_task(_delete(any_queue, first, tmp_path, by=by))
        while not (deletes_first.done() or await _is_anybody_locked_out(any_queue)):
            await asyncio.sleep(0.02)
        await deletes_second.execute("DELETE FROM vidqueue.jobs WHERE id = %s", [second])
    await deletes_first
    left = await any_queue.sql("SELECT id FROM vidqueue.jobs")
    assert [row["id"] for row in left] == ([] if by == "a person" else [first])


async def _delete(queue: Queue, job_id: UUID, folder: Path, *, by: str) -> None:
    if by == "a person":
        await control.delete(queue.database, Storage(folder), job_id, owner=None)
        return
    async with queue.database.transaction() as connection:
        await jobs.lock(connection, job_id)
        free = await jobs.with_locked_dependents(connection, [job_id])
        await removal.remove_rows(connection, await removal.removable(connection, free))


async def _is_anybody_locked_out(queue: Queue) -> bool:
    return bool(await queue.sql("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))


async def test_jobs_that_others_hold_for_long_leave_no_lane_idle(any_queue: Queue, any_database_url: str) -> None:
    """vidqueue.submit() in an open transaction locks what its job depends on: here the first four of the line."""
    lane = await any_queue.lane()
    ids = [await any_queue.submit() for _ in range(6)]
    async with Database(any_database_url) as other, other.transaction() as open_:
        for job_id in ids[:4]:
            await open_.execute("SELECT 1 FROM vidqueue.jobs WHERE id = %s FOR SHARE", [job_id])
        ref = await any_queue.dispatch(lane)
        assert ref is not None
        assert ref.job_id == ids[4]
