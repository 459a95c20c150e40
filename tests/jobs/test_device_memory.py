"""Dispatch learns how much GPU memory jobs need by processor and model; no job waits for a guess for long."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.factory import Queue
from tests.jobs.test_finish import success
from tests.jobs.test_outlook import asked
from vidqueue.db.tables import lanes
from vidqueue.job import Failed, Failure, Outcome, State, Usage
from vidqueue.jobs.finish import finish
from vidqueue.storage.local import Storage

SMALL, LARGE = 8_000, 24_000
MODEL = {"model": "wan", "width": 1280, "height": 720, "frames": 81}
NO_MEMORY = Failed(Failure.of("gpu_out_of_memory", "CUDA out of memory."))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "data")


@pytest.fixture
def ran(queue: Queue, storage: Storage, tmp_path: Path) -> Any:
    """Runs jobs on a GPU lane of their own, each of which holds so many MiB."""

    async def run(
        *held_mb: int | None, outcome: Outcome | None = None, input_bytes: int | None = None, **job: Any
    ) -> None:
        lane = await queue.lane(f"gpu{uuid4().hex[:6]}", "gpu", vram_mb=LARGE)
        for device_mb in held_mb:
            await queue.submit(device="gpu", max_attempts=1, **({"input": MODEL} | job))
            ref = await queue.dispatch(lane)
            assert ref is not None
            usage = Usage(device_mb=device_mb, input_bytes=input_bytes)
            ended = outcome or success(tmp_path)
            await finish(queue.database, storage, ref, ended, workspace=tmp_path, usage=usage)
        await queue.sql("UPDATE vidqueue.lanes SET state = 'offline' WHERE id = %s", lane)

    return run


async def two_lanes(queue: Queue) -> tuple[UUID, UUID]:
    return await queue.lane("gpu0", "gpu", vram_mb=SMALL), await queue.lane("gpu1", "gpu", vram_mb=LARGE)


async def learned(queue: Queue, **more: Any) -> int | None:
    job_id = await queue.submit(device="gpu", **({"input": MODEL} | more))
    (row,) = await queue.sql("SELECT learned_mb FROM vidqueue.jobs WHERE id = %s", job_id)
    await queue.sql("DELETE FROM vidqueue.jobs WHERE id = %s", job_id)
    return row["learned_mb"]  # type: ignore[no-any-return]


async def test_a_job_goes_to_the_lane_that_has_the_memory_which_such_jobs_have_needed(queue: Queue, ran: Any) -> None:
    await ran(9_000, 12_000, 11_000)
    small, large = await two_lanes(queue)
    job_id = await queue.submit(device="gpu", input=MODEL)
    other = await queue.submit(device="gpu", input=MODEL | {"model": "another"})
    async with queue.database.statement() as connection:
        fitting, reason = await lanes.for_job(connection, asked(device="gpu", input=MODEL), node=None)
    assert ([(lane.name, lane.is_free) for lane in fitting], reason) == ([("gpu0", False), ("gpu1", True)], "busy")
    ref = await queue.dispatch(small)
    assert ref is not None
    assert ref.job_id == other, "nothing is known of the other model"
    ref = await queue.dispatch(large)
    assert ref is not None
    assert ref.job_id == job_id
    held = await queue.sql("SELECT device_mb FROM vidqueue_report.attempts WHERE device_mb > 0 ORDER BY 1")
    assert [one["device_mb"] for one in held] == [9_000, 11_000, 12_000]
    (known,) = await queue.sql("SELECT * FROM vidqueue_report.device_memory")
    assert (known["model"], known["need_mb"], known["samples"]) == ("model=wan size=27", 13_312, 3)
    assert await queue.violations() == []


async def test_what_a_processor_declares_counts_and_a_guess_of_few_attempts_does_not(queue: Queue, ran: Any) -> None:
    await two_lanes(queue)
    await ran(12_000, 12_000)
    assert await learned(queue) is None, "two are too few"
    await ran(None, 12_000)
    assert await learned(queue) == 13_312
    assert await learned(queue, vram_mb=4_000) is None
    assert await learned(queue, input=MODEL | {"width": 320, "height": 180}) is None
    assert await learned(queue, lane="gpu0") == SMALL * 9 // 10, "no more than its lane could have"
    await ran(*[2_000] * 20)
    assert await learned(queue) == 2_304, "the newest twenty count"
    await ran(20_000, 21_000, 21_000, outcome=NO_MEMORY)
    assert await learned(queue) == LARGE * 9 // 10, "not more than anybody has of a card"
    await ran(30, 30, 30, outcome=Failed(Failure.of("processor_error", "x")))
    assert await learned(queue) != 256, "a failure tells nothing"


async def test_attempts_with_inputs_of_about_its_size_count_first(queue: Queue, ran: Any) -> None:
    await two_lanes(queue)
    await ran(*[3_000] * 3, input_bytes=1_000_000)
    await ran(*[15_000] * 3, input_bytes=900_000_000)
    query = """INSERT INTO vidqueue.files (name, media_type, size, sha256)
        VALUES ('a.mp4', 'video/mp4', 1100000, repeat('0', 64)) RETURNING id"""
    (file,) = await queue.sql(query)
    assert await learned(queue, input=MODEL | {"video": f"vq:files/{file['id']}"}) == 3_328
    assert await learned(queue) == 16_640, "a size that is not known"


async def test_a_guess_keeps_no_job_waiting_for_more_than_ten_minutes(queue: Queue, ran: Any) -> None:
    small, large = await two_lanes(queue)
    await ran(*[20_000] * 3)
    job_id = await queue.submit(device="gpu", input=MODEL)
    assert await queue.dispatch(small) is None
    await queue.sql("UPDATE vidqueue.lanes SET others_mb = 10000 WHERE id = %s", large)
    assert await queue.dispatch(large) is None
    assert (await queue.job(job_id)).wait_reason == "gpu_memory"
    # The large card is gone for good.
    await queue.sql("UPDATE vidqueue.lanes SET state = 'offline' WHERE id = %s", large)
    await queue.sql("UPDATE vidqueue.jobs SET waits_since = now() - interval '11 minutes' WHERE id = %s", job_id)
    assert (await queue.job(job_id)).wait_reason == "busy"
    ref = await queue.dispatch(small)
    assert ref is not None
    assert ref.job_id == job_id


async def test_a_job_that_is_tried_again_needs_what_is_known_by_then(queue: Queue, ran: Any, storage: Storage) -> None:
    small, large = await two_lanes(queue)
    job_id = await queue.submit(device="gpu", input=MODEL)
    ref = await queue.dispatch(small)
    assert ref is not None
    await ran(*[12_000] * 3)
    await finish(queue.database, storage, ref, NO_MEMORY, usage=Usage(device_mb=7_900))
    await queue.sql("UPDATE vidqueue.jobs SET run_at = queued_at WHERE id = %s", job_id)
    assert await queue.dispatch(small) is None
    ref = await queue.dispatch(large)
    assert ref is not None
    assert (ref.job_id, (await queue.job(job_id)).state) == (job_id, State.RUNNING)


@pytest.mark.parametrize(
    "given",
    [{}, {"model": 7, "width": "wide", "height": -1, "frames": 1e300}, {"input": [], "inputs": {"model": None}}],
)
async def test_any_input_has_a_kind(queue: Queue, ran: Any, given: dict[str, Any]) -> None:
    await ran(1_000, 1_000, 1_000, input=given)
    await two_lanes(queue)
    assert await learned(queue, input=given) == 1_280
