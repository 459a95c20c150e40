"""Dispatch has a short way for one line (one owner, the same lanes); it must choose as the long way does."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.factory import Queue

pytestmark = pytest.mark.parametrize("lines", [1, 2])


async def lane_with(queue: Queue, lines: int) -> UUID:
    """A lane; with two lines a second owner waits for another lane, so that lines have to be compared."""
    if lines == 2:
        await queue.submit(owner="second", lane="elsewhere")
    return await queue.lane()


async def test_the_first_job_that_nobody_has_locked_is_taken(any_queue: Queue, lines: int) -> None:
    lane = await lane_with(any_queue, lines)
    ids = [await any_queue.submit() for _ in range(7)]
    async with any_queue.database.transaction() as connection:
        await connection.execute("SELECT FROM vidqueue.jobs WHERE id = ANY (%s) FOR UPDATE", [ids[:6]])
        taken = await any_queue.dispatch(lane)
    assert taken is not None
    assert taken.job_id == ids[6]


async def test_a_job_whose_deadline_has_passed_is_passed_over(any_queue: Queue, lines: int) -> None:
    lane = await lane_with(any_queue, lines)
    late, other = [await any_queue.submit() for _ in range(2)]
    await any_queue.sql("UPDATE vidqueue.jobs SET expires_at = now() - interval '1 s' WHERE id = %s", late)
    taken = await any_queue.dispatch(lane)
    assert taken is not None
    assert taken.job_id == other


async def test_a_paused_processor_gets_no_lane(any_queue: Queue, lines: int) -> None:
    lane = await lane_with(any_queue, lines)
    await any_queue.submit()
    await any_queue.sql("INSERT INTO vidqueue.pauses (processor) VALUES ('zoo')")
    assert await any_queue.dispatch(lane) is None


async def test_an_owner_at_his_limit_gets_no_lane(any_queue: Queue, lines: int) -> None:
    lane = await lane_with(any_queue, lines)
    await any_queue.sql("INSERT INTO vidqueue.owner_limits (owner, max_running) VALUES ('local', 0)")
    await any_queue.submit()
    assert await any_queue.dispatch(lane) is None


async def test_a_processor_at_its_limit_gets_no_lane(any_queue: Queue, lines: int) -> None:
    lane = await lane_with(any_queue, lines)
    await any_queue.sql("INSERT INTO vidqueue.processor_limits (processor, max_running) VALUES ('zoo', 0)")
    await any_queue.submit()
    assert await any_queue.dispatch(lane) is None
