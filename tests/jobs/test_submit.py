"""The way in: one function for every door."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from tests.factory import Queue
from vidqueue.db.tables import lanes, new_jobs
from vidqueue.db.tables.jobs import NewJob
from vidqueue.db.tables.lanes import NewProcessor
from vidqueue.errors import VidqueueError
from vidqueue.job import Failed, Failure, State
from vidqueue.jobs.finish import finish
from vidqueue.processors import registry
from vidqueue.storage.local import Storage
from vidqueue.worker.lanes import described


async def test_submit_from_psql_belongs_to_the_callers_own_transaction(any_queue: Queue, any_database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(any_database_url) as theirs:
        cursor = await theirs.execute("SELECT vidqueue.submit('zoo', '{\"act\": \"work\"}', title => 'from psql')")
        (job_id,) = await cursor.fetchone() or (None,)
        assert await any_queue.sql("SELECT 1 FROM vidqueue.jobs WHERE id = %s", job_id) == []
        await theirs.commit()
    job = await any_queue.job(job_id)
    assert (job.state, job.title, job.input) == (State.QUEUED, "from psql", {"act": "work"})


async def test_a_rolled_back_submit_leaves_neither_job_nor_event(any_queue: Queue, any_database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(any_database_url) as theirs:
        await theirs.execute("SELECT vidqueue.submit('zoo', '{}')")
        await theirs.rollback()
    assert await any_queue.sql("SELECT 1 FROM vidqueue.jobs UNION ALL SELECT 1 FROM vidqueue.events") == []


async def test_an_open_submit_does_not_hold_up_anyone_elses(any_queue: Queue, any_database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(any_database_url) as theirs:
        await theirs.execute("SELECT vidqueue.submit('zoo', '{}', owner => 'newcomer')")
        async with asyncio.timeout(5):
            await any_queue.submit()


async def test_an_unknown_processor_is_refused_with_the_known_ones(any_queue: Queue) -> None:
    with pytest.raises(VidqueueError) as caught:
        await any_queue.submit(processor="transkode", device=None)
    assert caught.value.code == "unknown_processor"
    assert caught.value.hint == "Known: zoo"


async def test_forty_racing_submits_with_one_key_make_one_job(any_queue: Queue) -> None:
    ids = await asyncio.gather(*(any_queue.submit(idempotency_key="k", request_hash="h") for _ in range(40)))
    assert len(set(ids)) == 1
    assert len(await any_queue.sql("SELECT 1 FROM vidqueue.jobs")) == 1


async def test_a_key_used_for_another_request_is_refused(any_queue: Queue) -> None:
    await any_queue.submit(idempotency_key="k", request_hash="one")
    with pytest.raises(VidqueueError) as caught:
        await any_queue.submit(idempotency_key="k", request_hash="two")
    assert caught.value.code == "idempotency_mismatch"


async def test_the_same_key_of_another_owner_is_another_job(any_queue: Queue) -> None:
    one = await any_queue.submit(idempotency_key="k", request_hash="h")
    two = await any_queue.submit(idempotency_key="k", request_hash="h", owner="other")
    assert one != two


async def test_a_job_waits_for_the_output_it_refers_to(any_queue: Queue) -> None:
    first = await any_queue.submit()
    second = await any_queue.submit(input={"video": f"vq:jobs/{first}/video"})
    assert (await any_queue.job(second)).wait_reason == "dependency"
    lane = await any_queue.lane()
    ref = await any_queue.dispatch(lane)
    assert ref is not None
    assert ref.job_id == first
    assert await any_queue.dispatch(await any_queue.lane("cpu1")) is None


@pytest.mark.parametrize("end", ["canceled", "failed"])
async def test_jobs_that_wait_for_a_failed_one_fail_down_the_whole_chain(any_queue: Queue, end: str) -> None:
    first = await any_queue.submit()
    second = await any_queue.submit(input={"video": f"vq:jobs/{first}/video"})
    third = await any_queue.submit(input={"nested": [{"video": f"vq:jobs/{second}/video"}]})
    error = "error_code = 'x', error_message = 'x'," if end == "failed" else ""
    await any_queue.sql(f"UPDATE vidqueue.jobs SET {error} state = %s, finished_at = now() WHERE id = %s", end, first)
    for job_id in (second, third):
        job = await any_queue.job(job_id)
        assert (job.state, job.error_code) == (State.FAILED, "dependency_failed")
    assert await any_queue.violations() == []


async def test_the_end_of_a_chain_of_a_thousand_jobs_reaches_its_last(any_queue: Queue) -> None:
    first = before = await any_queue.submit()
    for _ in range(20):  # a transaction has ten seconds
        async with any_queue.database.transaction() as connection:
            for _ in range(50):
                job = NewJob(processor="zoo", input={"video": f"vq:jobs/{before}/video"}, owner="local", device="cpu")
                before, _ = await new_jobs.enqueue(connection, job)
    await any_queue.sql("UPDATE vidqueue.jobs SET state = 'canceled', finished_at = now() WHERE id = %s", first)
    counted = await any_queue.sql("SELECT state, count(*)::int AS n FROM vidqueue.jobs GROUP BY state ORDER BY state")
    assert counted == [{"state": "canceled", "n": 1}, {"state": "failed", "n": 1000}]


@pytest.mark.parametrize(
    "call",
    [
        "vidqueue.submit('zoo', '{}', tags => ARRAY[NULL])",
        "vidqueue.submit('zoo', '{\"seconds\": 1e5000}')",
        "vidqueue.submit('zoo', '{}', timeout_s => 'NaN')",
        "vidqueue.submit('zoo', '{}', run_at => '0001-01-01 BC')",
        "vidqueue.submit('zoo', '[]')",
        # Each list with such a job was refused.
        "vidqueue.submit('zoo', (repeat('{\"a\":', 101) || '1' || repeat('}', 101))::jsonb)",
        # Too long for an index: such a job was queued, and stopped every lane that came to it.
        "vidqueue.submit('zoo', '{}', tags => ARRAY[repeat('x', 65)])",
        "vidqueue.submit('zoo', '{}', tags => ARRAY(SELECT n::text FROM generate_series(1, 33) n))",
        "vidqueue.submit('zoo', '{}', tags => ARRAY[''])",
        "vidqueue.submit('zoo', '{}', owner => repeat('x', 201))",
    ],
)
async def test_what_could_not_be_read_back_cannot_be_submitted_by_sql(any_queue: Queue, call: str) -> None:
    with pytest.raises((psycopg.errors.CheckViolation, VidqueueError)):
        await any_queue.sql(f"SELECT {call}")


async def test_a_reference_to_a_missing_or_failed_job_is_refused_at_once(any_queue: Queue) -> None:
    with pytest.raises(VidqueueError) as caught:
        await any_queue.submit(input={"video": f"vq:jobs/{uuid4()}/video"})
    assert caught.value.code == "input_not_found"
    gone = await any_queue.submit()
    await any_queue.sql("UPDATE vidqueue.jobs SET state = 'canceled', finished_at = now() WHERE id = %s", gone)
    with pytest.raises(VidqueueError) as caught:
        await any_queue.submit(input={"video": f"vq:jobs/{gone}/video"})
    assert caught.value.code == "dependency_failed"


async def test_another_owners_job_cannot_be_referred_to(any_queue: Queue) -> None:
    theirs = await any_queue.submit(owner="them")
    with pytest.raises(VidqueueError) as caught:
        await any_queue.submit(owner="us", input={"video": f"vq:jobs/{theirs}/video"})
    assert caught.value.code == "input_not_found"


async def test_what_a_job_does_not_say_its_processor_says_for_every_door(any_queue: Queue, tmp_path: Path) -> None:
    stubborn = NewProcessor(
        name="stubborn", device="cpu", description="x", max_attempts=7, timeout_s=60, stall_timeout_s=6,
        backoff_base_s=1000, backoff_cap_s=1500,
    )  # fmt: skip
    async with any_queue.database.transaction() as connection:
        await lanes.register_processor(connection, stubborn)
    by_http = await any_queue.submit(processor="stubborn")
    (by_sql,) = await any_queue.sql("SELECT vidqueue.submit('stubborn', '{}') AS id")
    for job_id in (by_http, by_sql["id"]):
        job = await any_queue.job(job_id)
        assert (job.max_attempts, job.timeout_s, job.stall_timeout_s) == (7, 60, 6)
    own = await any_queue.job(await any_queue.submit(processor="stubborn", max_attempts=1, timeout_s=5))
    assert (own.max_attempts, own.timeout_s, own.stall_timeout_s) == (1, 5, 6)

    ref = await any_queue.dispatch(await any_queue.lane(processors={"stubborn": "1"}))
    assert ref is not None
    await finish(any_queue.database, Storage(tmp_path), ref, Failed(Failure.of("stalled", "x")))
    (waits,) = await any_queue.sql(
        "SELECT extract(epoch FROM run_at - now())::float AS s FROM vidqueue.jobs WHERE id = %s", ref.job_id
    )
    assert 490 < waits["s"] <= 1000


@pytest.mark.parametrize(
    ("given", "device"),
    [({}, "cpu"), ({"encoder": "nvenc"}, "gpu"), ({"encoder": "software"}, "cpu"), ({"encoder": None}, "cpu")],
)
async def test_sql_knows_what_a_processor_needs_of_a_lane(
    any_queue: Queue, given: dict[str, str | None], device: str
) -> None:
    declared = NewProcessor(
        name="needy", device="cpu", description="", vram_mb=6000, gpu_when={"encoder": ["nvenc", "hevc_nvenc"]}
    )
    async with any_queue.database.transaction() as connection:
        await lanes.register_processor(connection, declared)
    (made,) = await any_queue.sql("SELECT vidqueue.submit('needy', %s::jsonb) AS id", json.dumps(given))
    (kept,) = await any_queue.sql("SELECT device, vram_mb FROM vidqueue.jobs WHERE id = %s", made["id"])
    assert (kept["device"], kept["vram_mb"]) == (device, 6000)


@pytest.mark.parametrize("encoder", ["auto", "software", "nvenc"])
async def test_transcode_needs_the_same_lane_by_sql_and_by_http(any_queue: Queue, encoder: str) -> None:
    processor = registry.find("transcode")
    async with any_queue.database.transaction() as connection:
        await lanes.register_processor(connection, described(processor))
    given = {"video": "/srv/in.mp4", "encoder": encoder}
    (made,) = await any_queue.sql("SELECT vidqueue.submit('transcode', %s::jsonb) AS id", json.dumps(given))
    assert (await any_queue.job(made["id"])).device == processor.device_for(registry.parse(processor, given))
