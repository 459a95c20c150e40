"""Attempts that end at one moment end in one transaction, and each as if it were alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.factory import Queue, eventually
from vidqueue.db.tables import attempts
from vidqueue.db.tables.attempts import Ended, Ending
from vidqueue.job import AttemptRef, OutputDraft, State, Succeeded
from vidqueue.jobs.finish import Continuation, Finished, finish
from vidqueue.jobs.finish_queue import FinishQueue
from vidqueue.storage.local import Storage

Running = tuple[AttemptRef, UUID]


async def running(queue: Queue, count: int) -> list[Running]:
    """Attempts, each on a lane of its own."""
    found = []
    for number in range(count):
        await queue.submit()
        lane = await queue.lane(f"cpu{number}")
        ref = await queue.dispatch(lane)
        assert ref is not None
        found.append((ref, lane))
    return found


def ending(ref: AttemptRef, lane: UUID | None = None, file_id: UUID | None = None) -> Ending:
    output = {
        "name": "text", "id": str(file_id or uuid4()), "filename": "zoo-text.txt", "media_type": "text/plain",
        "size": 4, "sha256": "0" * 64, "facts": {}, "node": str(uuid4()),
    }  # fmt: skip
    facts = {"outcome": "succeeded", "state": "succeeded", "outputs": [output], "usage": {"cpu_s": 0.5}}
    return Ending(ref, facts, lane, 30)


async def end_together(queue: Queue, endings: Sequence[Ending]) -> list[Ended | None]:
    async with queue.database.statement() as connection:
        return await attempts.finish_together(connection, endings)


async def transactions(queue: Queue, refs: Sequence[AttemptRef]) -> set[str]:
    """The transactions that have ended these attempts."""
    query = "SELECT xmin::text FROM vidqueue.attempts WHERE job_id = ANY (%s) AND ended_at IS NOT NULL"
    return {one["xmin"] for one in await queue.sql(query, [ref.job_id for ref in refs])}


async def states(queue: Queue, refs: Sequence[AttemptRef]) -> list[State]:
    return [(await queue.job(ref.job_id)).state for ref in refs]


async def test_attempts_end_in_one_transaction_and_each_lane_gets_its_next(any_queue: Queue) -> None:
    begun = await running(any_queue, 3)
    further = await any_queue.submit()
    refs = [ref for ref, _ in begun]
    ended = await end_together(any_queue, [ending(ref, lane if ref != refs[2] else None) for ref, lane in begun])
    assert [one.state if one else None for one in ended] == [State.SUCCEEDED] * 3
    following = [one.next.ref.job_id for one in ended if one and one.next]
    assert following == [further]
    assert await states(any_queue, refs) == [State.SUCCEEDED] * 3
    assert len(await transactions(any_queue, refs)) == 1
    usage = await any_queue.sql("SELECT cpu_s, wait_s IS NULL AS unknown FROM vidqueue.attempt_usage")
    assert usage == [{"cpu_s": 0.5, "unknown": False}] * 3
    assert await any_queue.violations() == []


async def test_what_another_transaction_has_locked_or_given_away_is_left_out(
    any_queue: Queue, any_database_url: str
) -> None:
    begun = await running(any_queue, 5)
    free, locked, renewed, given_away, canceled = (ref for ref, _ in begun)
    await any_queue.sql(
        "UPDATE vidqueue.jobs SET cancel_requested_at = now() WHERE id = %s RETURNING id", canceled.job_id
    )
    given_away = AttemptRef(given_away.job_id, given_away.attempt, given_away.fence + 1000)
    async with await psycopg.AsyncConnection.connect(any_database_url) as other:
        await other.execute("SELECT FROM vidqueue.jobs WHERE id = %s FOR UPDATE", [locked.job_id])
        await other.execute("SELECT FROM vidqueue.attempts WHERE job_id = %s FOR UPDATE", [renewed.job_id])
        endings = [ending(ref) for ref in (free, locked, renewed, given_away, canceled)]
        ended = await asyncio.wait_for(end_together(any_queue, endings), 5)
    assert [one.state if one else None for one in ended] == [State.SUCCEEDED, None, None, None, None]
    assert await states(any_queue, [locked, renewed, given_away, canceled]) == [State.RUNNING] * 4


@pytest.mark.parametrize(
    "sql",
    [
        """UPDATE vidqueue.jobs SET webhook = '{"url": "https://example.com/"}' WHERE state = 'running'""",
        "INSERT INTO vidqueue.owner_limits (owner, max_running) VALUES ('somebody', 5)",
        "INSERT INTO vidqueue.processor_limits (processor, max_running) VALUES ('zoo', 5)",
        """INSERT INTO vidqueue.webhooks (owner, url) VALUES ('local', 'https://example.com/')""",
    ],
    ids=["own webhooks", "limit of an owner", "limit of a processor", "webhook"],
)
async def test_attempts_whose_ends_touch_rows_that_others_may_lock_are_left_out(queue: Queue, sql: str) -> None:
    begun = await running(queue, 2)
    await queue.sql(sql)
    assert await end_together(queue, [ending(ref) for ref, _ in begun]) == [None, None]
    assert await states(queue, [ref for ref, _ in begun]) == [State.RUNNING] * 2


async def test_an_attempt_whose_job_has_dependents_is_left_out(queue: Queue) -> None:
    refs = [ref for ref, _ in await running(queue, 2)]
    depend = "INSERT INTO vidqueue.job_dependencies (job_id, depends_on) VALUES (%s, %s) RETURNING 1 AS one"
    await queue.sql(depend, await queue.submit(), refs[0].job_id)
    ended = await end_together(queue, [ending(ref) for ref in refs])
    assert [one.state if one else None for one in ended] == [None, State.SUCCEEDED]


async def test_an_end_together_writes_what_an_end_alone_writes(queue: Queue) -> None:
    """In every column but those that differ from attempt to attempt."""
    begun = await running(queue, 3)
    for ref, _ in begun:
        await queue.sql("UPDATE vidqueue.jobs SET losses = 1, waited_s = 5 WHERE id = %s RETURNING id", ref.job_id)
    alone, *both = (ending(ref) for ref, _ in begun)
    for one in (alone, *both):
        one.facts["metrics"], one.facts["result"] = {"run_s": 1}, {"key": one.ref.job_id.hex * 2, "source_id": None}
    async with queue.database.statement() as connection:
        await attempts.finish(connection, alone)
    await end_together(queue, both)
    for table, key, own in (
        ("jobs", "id", "id created_at queued_at waits_since run_at rank lane finished_at kept_until started_at"),
        ("attempts", "job_id", "job_id fence lane_id lane dispatched_at started_at ended_at lease_expires_at"),
        ("outputs", "job_id", "job_id file_id"),
        ("attempt_usage", "job_id", "job_id wait_s"),
        ("results", "job_id", "job_id key at"),
    ):
        query = f"SELECT to_jsonb(t) - %s::text[] AS row FROM vidqueue.{table} t WHERE {key} = ANY (%s)"
        found = await queue.sql(query, own.split(), [ref.job_id for ref, _ in begun])
        assert found == [found[0]] * 3, table
    query = "SELECT DISTINCT owner, name, media_type, size, sha256, published FROM vidqueue.files"
    assert len(await queue.sql(query)) == 1
    assert await queue.violations() == []


async def test_one_that_the_database_refuses_takes_no_other_with_it(queue: Queue, tmp_path: Path) -> None:
    begun = await running(queue, 2)
    taken = uuid4()
    refs = [ref for ref, _ in begun]
    assert await end_together(queue, [ending(ref, file_id=taken) for ref in refs]) == [None, None]
    assert await states(queue, refs) == [State.RUNNING] * 2


async def test_one_whose_values_the_server_cannot_work_on_takes_no_other_with_it(queue: Queue) -> None:
    begun = await running(queue, 2)
    refs = [ref for ref, _ in begun]
    # 54000 is that of a value too large for an index, which psycopg counts among the errors of a connection.
    await queue.sql(f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF new.job_id = '{refs[0].job_id}' THEN RAISE 'beyond a limit' USING ERRCODE = '54000'; END IF;
            RETURN new; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON vidqueue.attempts FOR EACH ROW EXECUTE FUNCTION refuse();
        SELECT 1 AS one
    """)
    assert await end_together(queue, [ending(ref) for ref in refs]) == [None, None]
    assert await states(queue, refs) == [State.RUNNING] * 2


@pytest.mark.parametrize("locked", [1, 2])
async def test_lanes_do_not_wait_for_ends_that_wait_for_a_lock(
    queue: Queue, database_url: str, tmp_path: Path, locked: int
) -> None:
    storage, together = Storage(tmp_path / "data"), FinishQueue(queue.database)
    begun = await running(queue, locked + 3)
    further = [await queue.submit() for _ in range(3)]

    async def end(place: int) -> Any:
        ref, lane = begun[place]
        folder = tmp_path / str(place)
        folder.mkdir()
        (folder / "text").write_text("done")
        outcome = Succeeded((OutputDraft("text", folder / "text", "text/plain"),))
        return await finish(
            queue.database, storage, ref, outcome,
            workspace=folder, processor="zoo", continuation=Continuation(lane, 30), together=together,
        )  # fmt: skip

    async with await psycopg.AsyncConnection.connect(database_url) as other:
        held = [ref.job_id for ref, _ in begun[:locked]]
        await other.execute("SELECT FROM vidqueue.jobs WHERE id = ANY (%s) FOR UPDATE", [held])
        first = []
        for place in range(locked):
            first.append(asyncio.create_task(end(place)))
            await eventually(partial(waits_for_locks, queue, place + 1))
        results = await asyncio.wait_for(asyncio.gather(*(end(locked + place) for place in range(3))), 20)
        assert not any(one.done() for one in first)
    assert all(isinstance(one, Finished) for one in results)
    assert sorted(one.next.ref.job_id for one in results) == sorted(further)
    if locked == 1:
        assert len(await transactions(queue, [ref for ref, _ in begun[1:]])) < 3
    assert all(isinstance(one, Finished) for one in await asyncio.gather(*first))
    assert await queue.violations() == []


async def waits_for_locks(queue: Queue, sessions: int) -> bool:
    query = "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return bool((await queue.sql(query))[0]["n"] == sessions)
