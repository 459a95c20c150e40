"""What jobs meet before they are submitted: which are refused because no lane could ever take them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.factory import Queue
from tests.jobs.test_estimates import job, lane, told
from vidqueue.db.tables.jobs import NewJob
from vidqueue.errors import VidqueueError
from vidqueue.jobs.outlook import refuse_what_no_lane_takes
from vidqueue.jobs.submit import JobRequest, fingerprint
from vidqueue.settings.sections import LanesSettings


def asked(**more: Any) -> NewJob:
    """A job as a submit would queue it."""
    values: dict[str, Any] = {"processor": "zoo", "input": {}, "owner": "local", "device": "cpu"}
    return NewJob(**(values | more))


async def test_a_job_that_no_lane_could_ever_take_is_refused_with_the_reason(any_queue: Queue) -> None:
    big = asked(device="gpu", vram_mb=20_000)
    # No lane yet: the first one may be large enough.
    await refuse_what_no_lane_takes(any_queue.database, [big])
    await any_queue.lane("cpu0")
    await any_queue.lane("gpu0", "gpu", vram_mb=8_000)
    await any_queue.lane("gpu1", "gpu", vram_mb=24_000)
    await any_queue.sql("UPDATE vidqueue.lanes SET state = 'offline' WHERE name = 'gpu1'")
    # A lane that is offline may come back, and one of another name may come.
    for fine in (
        asked(),
        big,
        asked(lane="cpu0"),
        asked(lane="nowhere"),
        asked(device="gpu", vram_mb=8_000, lane="gpu0"),
    ):
        await refuse_what_no_lane_takes(any_queue.database, [fine])
    for never, reason in (
        (
            asked(device="gpu", vram_mb=24_001),
            "The job needs 24,001 MiB of GPU memory, and the largest GPU lane has 24,000",
        ),
        (
            asked(device="gpu", vram_mb=20_000, lane="gpu0"),
            "needs 20,000 MiB of GPU memory, and the lane gpu0 has 8,000",
        ),
        (asked(lane="gpu0"), "The lane gpu0 does not accept cpu jobs."),
        (asked(device="gpu", lane="cpu0"), "The lane cpu0 does not accept gpu jobs."),
    ):
        with pytest.raises(VidqueueError, match=reason) as refused:
            await refuse_what_no_lane_takes(any_queue.database, [asked(), never])
        assert refused.value.code == "no_lane"
    # A CPU lane that takes the work of GPUs has no memory of one to run out of.
    await any_queue.lane("cpu1", takes=("cpu", "gpu"))
    await refuse_what_no_lane_takes(any_queue.database, [asked(device="gpu", vram_mb=99_000)])


async def test_jobs_with_labels_run_on_lanes_that_have_them_all_and_wait_with_the_reason(any_queue: Queue) -> None:
    plain = await any_queue.lane("cpu0")
    job_id = await any_queue.submit(labels=("fast", "studio"))
    with pytest.raises(VidqueueError, match="No lane that accepts cpu jobs has the labels: fast, studio"):
        await refuse_what_no_lane_takes(any_queue.database, [asked(labels=("fast", "studio"))])
    fast = await any_queue.lane("cpu1", labels=("fast",))
    assert (await any_queue.job(job_id)).labels == ["fast", "studio"]
    assert (await any_queue.job(job_id)).wait_reason == "no_lane"
    assert await any_queue.dispatch(plain) is None
    assert await any_queue.dispatch(fast) is None
    both = await any_queue.lane("cpu2", labels=("fast", "old", "studio"))
    assert (await any_queue.job(job_id)).wait_reason == "busy"
    await refuse_what_no_lane_takes(any_queue.database, [asked(labels=("fast", "studio"))])
    # Jobs without labels run anywhere, and do not hide those that wait behind them for another lane.
    first, second = [await any_queue.submit(priority=9) for _ in range(2)]
    for taker, expected in ((plain, first), (both, second)):
        given = await any_queue.dispatch(taker)
        assert given is not None
        assert given.job_id == expected
    assert await any_queue.dispatch(fast) is None
    other = await any_queue.lane("cpu3", labels=("studio", "fast"))
    given = await any_queue.dispatch(other)
    assert given is not None
    assert given.job_id == job_id
    assert await any_queue.violations() == []


async def test_labels_of_lanes_come_from_the_configuration_and_change_no_earlier_request() -> None:
    lanes = LanesSettings(labels={"gpu0": ["studio", "fast"], "*": ["spare"]})
    assert (lanes.labels_of("gpu0"), lanes.labels_of("cpu0")) == (("fast", "studio"), ("spare",))
    with pytest.raises(ValidationError):
        LanesSettings(labels={"gpu0": ["two words"]})
    request = JobRequest(processor="zoo")
    assert fingerprint(request) == fingerprint(JobRequest(processor="zoo", labels=[]))
    assert fingerprint(request) != fingerprint(JobRequest(processor="zoo", labels=["fast"]))
    online = [lane("cpu0", labels=[]), lane("cpu1", labels=["fast"])]
    assert told([job(1, labels=["fast"]), job(2, labels=["fast"])], online) == {1: 10, 2: 20}
    assert told([job(1, labels=["none"])], online) == {}
