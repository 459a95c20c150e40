"""Who goes next, and that nobody goes twice."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.factory import Queue
from vidqueue.db.tables import files, jobs
from vidqueue.db.tables.files import NewFile
from vidqueue.db.tables.jobs import JobFilter
from vidqueue.job import Device, Interrupted, State
from vidqueue.jobs.finish import finish
from vidqueue.storage.local import Storage


async def order(queue: Queue, lane: UUID) -> list[UUID]:
    """Dispatch until nothing fits, ending each attempt by hand, and tell the order."""
    taken: list[UUID] = []
    while ref := await queue.dispatch(lane):
        taken.append(ref.job_id)
        await queue.sql(
            "UPDATE vidqueue.attempts SET ended_at = clock_timestamp(), outcome = 'canceled' WHERE fence = %s",
            ref.fence,
        )
        await queue.sql(
            "UPDATE vidqueue.jobs SET state = 'canceled', fence = NULL, finished_at = now() WHERE id = %s",
            ref.job_id,
        )
    return taken


async def test_jobs_of_one_owner_go_in_the_order_of_arrival(any_queue: Queue) -> None:
    ids = [await any_queue.submit() for _ in range(5)]
    assert await order(any_queue, await any_queue.lane()) == ids


async def test_higher_priority_goes_first(any_queue: Queue) -> None:
    low, high, middle = [await any_queue.submit(priority=priority) for priority in (0, 9, 5)]
    assert await order(any_queue, await any_queue.lane()) == [high, middle, low]


async def test_a_low_job_that_waited_long_passes_a_higher_one_of_its_owner(any_queue: Queue) -> None:
    old = await any_queue.submit(priority=0)
    await any_queue.sql("UPDATE vidqueue.jobs SET queued_at = now() - interval '10 min' WHERE id = %s", old)
    urgent, mild = await any_queue.submit(priority=20), await any_queue.submit(priority=5)
    assert await order(any_queue, await any_queue.lane()) == [urgent, old, mild]


async def test_ten_thousand_jobs_of_one_owner_do_not_keep_another_waiting(any_queue: Queue) -> None:
    await any_queue.sql(
        "INSERT INTO vidqueue.jobs (owner, processor, input, device, queued_at) "
        "SELECT 'hog', 'zoo', '{}', 'cpu', now() - interval '1 hour' FROM generate_series(1, 10000)"
    )
    await any_queue.sql("INSERT INTO vidqueue.owners (name, served_at) VALUES ('hog', now())")
    mine = await any_queue.submit(owner="newcomer")
    ref = await any_queue.dispatch(await any_queue.lane())
    assert ref is not None
    first_two = {ref.job_id}
    second = await any_queue.dispatch(await any_queue.lane("cpu1"))
    assert second is not None
    assert mine in first_two | {second.job_id}


async def test_the_owner_with_fewer_running_jobs_is_served_first(any_queue: Queue) -> None:
    for _ in range(3):
        await any_queue.submit(owner="a")
    lanes = [await any_queue.lane(f"cpu{index}") for index in range(3)]
    await any_queue.dispatch(lanes[0])
    await any_queue.dispatch(lanes[1])
    theirs = await any_queue.submit(owner="b")
    ref = await any_queue.dispatch(lanes[2])
    assert ref is not None
    assert ref.job_id == theirs


async def test_a_job_with_a_time_waits_for_it_and_says_so(any_queue: Queue) -> None:
    job_id = await any_queue.submit(run_at=datetime.now(UTC) + timedelta(hours=1))
    lane = await any_queue.lane()
    assert await any_queue.dispatch(lane) is None
    assert (await any_queue.job(job_id)).wait_reason == "scheduled"
    await any_queue.sql("UPDATE vidqueue.jobs SET run_at = now() WHERE id = %s", job_id)
    assert await any_queue.dispatch(lane) is not None


async def test_a_server_whose_clock_is_set_back_lets_no_job_wait_that_has_no_time_of_its_own(
    any_queue: Queue, tmp_path: Path
) -> None:
    ids = [await any_queue.submit() for _ in range(2)]
    lane = await any_queue.lane()
    ref = await any_queue.dispatch(lane)
    assert ref is not None
    await finish(any_queue.database, Storage(tmp_path), ref, Interrupted("drain"))
    # Seen from the rows, the clock goes back when they go ahead.
    for column in ("created_at", "queued_at", "run_at"):
        await any_queue.sql(f"UPDATE vidqueue.jobs SET {column} = {column} + interval '2 h'")
    assert (await any_queue.job(ids[0])).wait_reason == "busy"
    again = await any_queue.dispatch(lane)
    assert again is not None
    assert again.job_id == ids[0]


async def test_gpu_work_goes_only_to_lanes_that_take_it_and_have_the_memory(any_queue: Queue) -> None:
    job_id = await any_queue.submit(device="gpu", vram_mb=8000)
    assert (await any_queue.job(job_id)).wait_reason == "no_lane"
    for name, vram_mb in (("gpu0", 6000),):
        assert await any_queue.dispatch(await any_queue.lane(name, "gpu", vram_mb=vram_mb)) is None
    assert await any_queue.dispatch(await any_queue.lane("cpu0")) is None
    assert await any_queue.dispatch(await any_queue.lane("gpu1", "gpu", vram_mb=24_000)) is not None


async def test_a_cpu_lane_takes_gpu_work_where_the_operator_lets_it(any_queue: Queue) -> None:
    await any_queue.submit(device="gpu", vram_mb=8000)
    assert await any_queue.dispatch(await any_queue.lane(takes=("cpu", "gpu"))) is not None


async def test_a_job_bound_to_a_lane_runs_nowhere_else(any_queue: Queue) -> None:
    job_id = await any_queue.submit(lane="cpu1")
    assert await any_queue.dispatch(await any_queue.lane("cpu0")) is None
    assert (await any_queue.job(job_id)).wait_reason == "no_lane"
    assert await any_queue.dispatch(await any_queue.lane("cpu1")) is not None


async def test_a_paused_or_offline_lane_gets_nothing(any_queue: Queue) -> None:
    job_id = await any_queue.submit()
    lane = await any_queue.lane()
    await any_queue.sql("UPDATE vidqueue.lanes SET paused = true")
    assert await any_queue.dispatch(lane) is None
    assert (await any_queue.job(job_id)).wait_reason == "paused"
    await any_queue.sql("UPDATE vidqueue.lanes SET paused = false, state = 'offline'")
    assert await any_queue.dispatch(lane) is None


async def test_a_busy_lane_gets_nothing_and_the_waiting_job_has_a_position(any_queue: Queue) -> None:
    ids = [await any_queue.submit() for _ in range(3)]
    lane = await any_queue.lane()
    assert await any_queue.dispatch(lane) is not None
    assert await any_queue.dispatch(lane) is None
    waiting = [await any_queue.job(job_id) for job_id in ids[1:]]
    assert [(job.position, job.wait_reason) for job in waiting] == [(1, "busy"), (2, "busy")]


@pytest.mark.parametrize(("takes", "positions"), [(("cpu", "gpu"), [1, 2, 3]), (("cpu",), [1, 1, 2])])
async def test_position_counts_those_that_wait_for_the_same_lanes(
    any_queue: Queue, takes: tuple[Device, ...], positions: list[int]
) -> None:
    await any_queue.lane("cpu0", takes=takes)
    ids = [await any_queue.submit(device=device) for device in ("cpu", "gpu", "cpu")]
    assert [(await any_queue.job(job_id)).position for job_id in ids] == positions
    async with any_queue.database.transaction() as connection:
        page = await jobs.page(connection, JobFilter())
    assert [job.position for job in reversed(page)] == positions


async def test_racing_dispatchers_give_no_job_twice_and_leave_no_lane_idle(any_queue: Queue) -> None:
    ids = {await any_queue.submit() for _ in range(6)}
    lanes = [await any_queue.lane(f"cpu{index}") for index in range(6)]
    taken: list[UUID] = []
    while len(taken) < 6:
        given = await asyncio.gather(*(any_queue.dispatch(lane) for lane in lanes))
        taken += [ref.job_id for ref in given if ref]
    assert set(taken) == ids
    assert len(taken) == 6
    assert await any_queue.violations() == []


async def test_dispatch_moves_job_attempt_and_lane_together(any_queue: Queue) -> None:
    job_id = await any_queue.submit()
    ref = await any_queue.dispatch(await any_queue.lane())
    assert ref is not None
    job = await any_queue.job(job_id)
    assert (job.state, job.attempt, job.lane) == (State.RUNNING, 1, "cpu0")
    assert await any_queue.begin(ref) is not None
    assert await any_queue.begin(ref) is not None, "the answer to the first may have been lost"
    assert await any_queue.violations() == []


async def test_a_warm_processor_may_pass_a_slightly_older_job(any_queue: Queue) -> None:
    await any_queue.sql("INSERT INTO vidqueue.processors (name, device, description) VALUES ('other', 'cpu', '')")
    await any_queue.submit(processor="other")
    warm = await any_queue.submit(processor="zoo")
    lane = await any_queue.lane()
    await any_queue.sql("UPDATE vidqueue.lanes SET warm = '{zoo}'")
    ref = await any_queue.dispatch(lane)
    assert ref is not None
    assert ref.job_id == warm


async def test_a_lane_gets_only_jobs_that_its_daemon_has_the_processor_for(any_queue: Queue) -> None:
    lacking = await any_queue.lane("cpu0", processors={"other": "1.0"})
    job_id = await any_queue.submit()
    assert await any_queue.dispatch(lacking) is None
    assert (await any_queue.job(job_id)).wait_reason == "no_processor"
    having = await any_queue.lane("cpu1")
    assert (await any_queue.job(job_id)).wait_reason == "busy"
    ref = await any_queue.dispatch(having)
    assert ref is not None
    assert ref.job_id == job_id


async def test_a_job_goes_where_the_bytes_of_its_inputs_lie_or_waits(any_queue: Queue) -> None:
    here, there = uuid4(), uuid4()
    other = await any_queue.lane("cpu0", node=here)
    file_id = await _file(any_queue, there)
    job_id = await any_queue.submit(input={"video": f"vq:files/{file_id}"})
    assert await any_queue.dispatch(other) is None
    assert (await any_queue.job(job_id)).wait_reason == "file_elsewhere"
    right = await any_queue.lane("cpu0", node=there)
    ref = await any_queue.dispatch(right)
    assert ref is not None
    assert ref.job_id == job_id


async def test_a_job_whose_inputs_lie_in_two_places_waits_and_says_so(any_queue: Queue) -> None:
    nodes = (uuid4(), uuid4())
    named = [f"vq:files/{await _file(any_queue, node)}" for node in nodes]
    lanes = [await any_queue.lane("cpu0", node=node) for node in nodes]
    job_id = await any_queue.submit(input={"videos": named})
    assert [await any_queue.dispatch(lane) for lane in lanes] == [None, None]
    assert (await any_queue.job(job_id)).wait_reason == "file_elsewhere"


async def test_a_job_that_may_not_run_yet_does_not_age(any_queue: Queue) -> None:
    """Each waits an hour for its time; when that has come, it passes nobody who is more urgent."""
    lane = await any_queue.lane()
    late = await any_queue.submit(run_at=datetime.now(UTC) + timedelta(hours=1))
    urgent = await any_queue.submit(priority=5)
    moments = ("queued_at", "run_at", "waits_since")
    passed = [f"{moment} = {moment} - interval '61 min'" for moment in moments]
    async with any_queue.database.transaction() as connection:
        # Time passes, which no trigger sees.
        await connection.execute("SET LOCAL session_replication_role = replica")
        passing = f"UPDATE vidqueue.jobs SET {', '.join(passed)}, rank = rank - 3660 WHERE id = %s"
        await connection.execute(passing.encode(), [late])
    first = await any_queue.dispatch(lane)
    assert first is not None
    assert first.job_id == urgent


async def test_choosing_looks_at_few_rows_however_many_wait_that_do_not_fit(any_queue: Queue) -> None:
    lane = await any_queue.lane("cpu0", processors={"other": "1.0"})
    await any_queue.sql(
        "INSERT INTO vidqueue.jobs (owner, processor, input, device) "
        "SELECT 'local', 'zoo', '{}', 'cpu' FROM generate_series(1, 20000)"
    )
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM vidqueue.choose('{lane}', 30, true)".encode()
    async with any_queue.database.statement() as connection:
        await connection.execute(explain)  # plans, and reads the catalogue for that
        plan = await (await connection.execute(explain)).fetchone()
    assert plan is not None
    (told,) = plan["QUERY PLAN"]
    assert told["Plan"]["Shared Hit Blocks"] + told["Plan"]["Shared Read Blocks"] < 200


async def _file(queue: Queue, node: UUID) -> UUID:
    """A row of a file in this data folder."""
    new = NewFile(id=uuid4(), owner="local", name="in.mp4", media_type="video/mp4", size=1, sha256="0" * 64, node=node)
    async with queue.database.statement() as connection:
        await files.add(connection, new)
    return new.id


async def test_a_job_that_cannot_run_yet_stands_in_no_line(any_queue: Queue) -> None:
    needed = await any_queue.submit()
    later = datetime.now(UTC) + timedelta(hours=1)
    scheduled = await any_queue.submit(run_at=later, priority=1000)
    dependent = await any_queue.submit(input={"video": f"vq:jobs/{needed}/text"}, priority=1000)
    last = await any_queue.submit(priority=-1000)
    looks = {job_id: (job.position, job.wait_reason) for job_id in (needed, scheduled, dependent, last)
             if (job := await any_queue.job(job_id))}  # fmt: skip
    assert looks[scheduled] == (None, "scheduled")
    assert looks[dependent] == (None, "dependency")
    assert (looks[needed][0], looks[last][0]) == (1, 2)
    async with any_queue.database.transaction() as connection:
        page = await jobs.page(connection, JobFilter())
    assert {job.id: (job.position, job.wait_reason) for job in page} == looks
    # Its time comes, and nobody has looked since.
    await any_queue.sql("UPDATE vidqueue.jobs SET run_at = now() - interval '1 s' WHERE id = %s", scheduled)
    assert (await any_queue.job(scheduled)).position is not None


async def test_places_are_exact_among_the_first_thousand_and_a_bound_beyond(any_queue: Queue) -> None:
    await any_queue.sql(
        "INSERT INTO vidqueue.jobs (processor, input, device, queued_at, run_at) SELECT 'zoo', '{}', 'cpu', at, at"
        " FROM (SELECT now() - interval '1 day' + interval '1 s' * n AS at FROM generate_series(1, 1002) n) x"
    )
    async with any_queue.database.transaction() as connection:
        whole = await jobs.page(connection, JobFilter(limit=2000))
    line = sorted(whole, key=lambda job: job.run_at)
    expected = [(min(place, 1000), place > 1000) for place in range(1, 1003)]
    assert [(job.position, job.position_is_bound) for job in line] == expected
    for place in (1, 999, 1000, 1001, 1002):
        assert await any_queue.job(line[place - 1].id) == line[place - 1]


async def test_a_job_for_the_lane_without_a_name_goes_to_any_and_keeps_no_other_waiting(any_queue: Queue) -> None:
    """It has the needs of jobs that ask for no lane, and was the first of their line, which no lane could take."""
    (first,) = await any_queue.sql("SELECT vidqueue.submit('zoo', '{}', lane => '') AS id")
    second = await any_queue.submit()
    given = [await any_queue.dispatch(await any_queue.lane(name)) for name in ("cpu0", "cpu1")]
    assert [one and one.job_id for one in given] == [first["id"], second]
