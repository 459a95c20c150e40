"""Pauses of everything, of a processor and of a lane: what begins meanwhile, what is said, and how they end."""

from __future__ import annotations

import pytest

from tests.factory import Queue
from vidqueue.db.tables import pauses as rows
from vidqueue.db.tables.lanes import NewProcessor, register_processor
from vidqueue.db.tables.pauses import Terms
from vidqueue.errors import VidqueueError
from vidqueue.jobs import pauses


async def reason_of(queue: Queue, job_id: object) -> str | None:
    return (await queue.job(job_id)).wait_reason  # type: ignore[arg-type]


async def test_of_a_paused_processor_no_job_begins_and_all_others_do(any_queue: Queue) -> None:
    async with any_queue.database.transaction() as connection:
        await register_processor(connection, NewProcessor(name="mill", device="cpu", description="Another one."))
    lane = await any_queue.lane(processors={"zoo": "1", "mill": "1"})
    waits, begins = await any_queue.submit(), await any_queue.submit(processor="mill")
    await any_queue.sql("SELECT 1 FROM vidqueue.pause('zoo', reason => 'a new model')")
    assert await reason_of(any_queue, waits) == "paused"
    ref = await any_queue.dispatch(lane)
    assert ref is not None
    assert ref.job_id == begins
    assert (await any_queue.sql("SELECT scope, name, reason FROM vidqueue_report.pauses")) == [
        {"scope": "processor", "name": "zoo", "reason": "a new model"}
    ]
    await any_queue.sql("SELECT 1 FROM vidqueue.resume('zoo')")
    assert await reason_of(any_queue, waits) == "busy"


async def test_while_everything_is_paused_nothing_begins(any_queue: Queue) -> None:
    lane, job_id = await any_queue.lane(), await any_queue.submit()
    await pauses.pause(any_queue.database, None, Terms())
    assert await any_queue.dispatch(lane) is None
    assert await reason_of(any_queue, job_id) == "paused"
    assert await pauses.resume(any_queue.database, None) == []
    assert await any_queue.dispatch(lane) is not None


@pytest.mark.parametrize("scope", ["everything", "processor", "lane"])
async def test_a_pause_ends_by_itself_when_its_time_is_over(any_queue: Queue, scope: str) -> None:
    lane, job_id = await any_queue.lane(), await any_queue.submit()
    if scope == "lane":
        (held,) = await pauses.pause_lane(any_queue.database, "cpu0", None, Terms(for_s=3600), drain=False)
    else:
        (held,) = await pauses.pause(any_queue.database, "zoo" if scope == "processor" else None, Terms(for_s=3600))
    assert (held.scope, held.until is not None) == (scope, True)
    assert await any_queue.dispatch(lane) is None
    assert await reason_of(any_queue, job_id) == "paused"
    # An hour later.
    await any_queue.sql("UPDATE vidqueue.pauses SET until = until - interval '1 hour'")
    await any_queue.sql("UPDATE vidqueue.lanes SET paused_until = paused_until - interval '1 hour'")
    assert await pauses.read(any_queue.database) == []
    assert await reason_of(any_queue, job_id) == "busy"
    assert await any_queue.dispatch(lane) is not None


async def test_a_running_job_goes_on_and_its_lane_gets_no_other(any_queue: Queue) -> None:
    lane = await any_queue.lane()
    first, second = await any_queue.submit(), await any_queue.submit()
    assert await any_queue.dispatch(lane) is not None
    await pauses.pause_lane(any_queue.database, "cpu0", None, Terms(reason="I need it"), drain=False)
    assert (await any_queue.job(first)).state == "running"
    assert await reason_of(any_queue, second) == "paused"


async def test_a_lane_that_several_hosts_have_must_be_named_with_its_host(any_queue: Queue) -> None:
    await any_queue.lane("gpu0", "gpu", host="one")
    await any_queue.lane("gpu0", "gpu", host="two")
    with pytest.raises(VidqueueError) as caught:
        await pauses.pause_lane(any_queue.database, "gpu0", None, Terms(), drain=False)
    assert (caught.value.code, "one, two" in caught.value.message) == ("conflict", True)
    (held,) = await pauses.pause_lane(any_queue.database, "gpu0", "two", Terms(), drain=True)
    assert (held.name, held.host, held.draining) == ("gpu0", "two", True)
    with pytest.raises(VidqueueError) as caught:
        await pauses.resume_lane(any_queue.database, "gpu7", None)
    assert caught.value.code == "not_found"


async def test_an_unknown_processor_is_refused_and_a_second_pause_replaces_the_first(any_queue: Queue) -> None:
    with pytest.raises(VidqueueError) as caught:
        await pauses.pause(any_queue.database, "nonsense", Terms())
    assert caught.value.code == "unknown_processor"
    await pauses.pause(any_queue.database, "zoo", Terms(for_s=60, reason="first"))
    (held,) = await pauses.pause(any_queue.database, "zoo", Terms(reason="second"))
    assert (held.reason, held.until) == ("second", None)
    # Ending what is not paused is no error, so that a script may do it twice.
    assert await pauses.resume(any_queue.database, None) == [held]
    assert await pauses.resume(any_queue.database, "zoo") == []
    assert await pauses.resume(any_queue.database, "zoo") == []


async def test_pauses_and_their_ends_are_told_to_everybody(any_queue: Queue) -> None:
    await any_queue.lane()
    await pauses.pause(any_queue.database, "zoo", Terms(reason="why"))
    await pauses.resume(any_queue.database, "zoo")
    await pauses.pause_lane(any_queue.database, "cpu0", None, Terms(), drain=True)
    await pauses.resume_lane(any_queue.database, "cpu0", None)
    told = await any_queue.sql("SELECT kind, owner, job_id, data FROM vidqueue.events ORDER BY number")
    assert [(one["kind"], one["data"].get("processor"), one["data"].get("lane")) for one in told] == [
        ("paused", "zoo", None), ("resumed", "zoo", None), ("paused", None, "cpu0"), ("resumed", None, "cpu0"),
    ]  # fmt: skip
    assert {(one["owner"], one["job_id"]) for one in told} == {("", None)}


async def test_only_lanes_that_are_paused_with_it_drain(any_queue: Queue) -> None:
    lanes = [await any_queue.lane(f"cpu{number}") for number in range(3)]
    await pauses.pause_lane(any_queue.database, "cpu0", None, Terms(), drain=True)
    await pauses.pause_lane(any_queue.database, "cpu1", None, Terms(), drain=False)
    async with any_queue.database.statement() as connection:
        assert await rows.draining(connection, lanes) == {lanes[0]}
    assert len(await pauses.drain(any_queue.database, Terms())) == 3
    async with any_queue.database.statement() as connection:
        assert await rows.draining(connection, lanes) == set(lanes)
