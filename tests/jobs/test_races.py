"""Whatever happens to jobs at the same moment comes out as if one thing had happened after the other, in some order."""

from __future__ import annotations

import asyncio
import copy
import itertools
import math
import os
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import Phase
from hypothesis import strategies as st

from tests.factory import Queue, eventually
from tests.jobs.deeds import deed
from tests.jobs.machine import ROUND, QueueMachine, check
from tests.jobs.model import INTERRUPTED, STALLED, SUCCEEDED, UNSUPPORTED, Job, Model, Span
from tests.jobs.world import World
from vidqueue.db.tables import jobs, new_jobs
from vidqueue.db.tables.jobs import NewJob
from vidqueue.errors import VidqueueError
from vidqueue.job import State
from vidqueue.jobs import control


@dataclass(frozen=True)
class Act:
    """One of the things that happen at once: a verb of both queues, and what it is given."""

    verb: str
    given: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"{self.verb}{self.given}"


@st.composite
def acts(draw: st.DrawFn, model: Model) -> list[Act]:
    """Two or three acts on a job, on those it needs and those that need it."""
    job: Job = draw(st.sampled_from(model.jobs))
    near = [job, job, *job.needs, *(other for other in model.jobs if job in other.needs)]
    return [draw(act(draw(st.sampled_from(near)))) for _ in range(draw(st.integers(2, 3)))]


def act(job: Job) -> st.SearchStrategy[Act]:
    """One act on this job; the end of its attempt most often, where it runs."""
    by_people = st.sampled_from(["cancel", "retry", "delete", "submit"]).map(lambda verb: Act(verb, (job,)))
    if job.state != "running":
        return by_people
    endings = st.sampled_from([SUCCEEDED, STALLED, UNSUPPORTED, INTERRUPTED])
    return st.one_of(by_people, endings.map(lambda ending: Act("finish", (job.attempts[-1], ending))))


class RacingMachine(QueueMachine):
    """Also does things at once, and then looks for an order that explains what came of them."""

    @deed(15, acts=lambda model: acts(model) if model.jobs else None)
    def race(self, acts: list[Act]) -> None:
        acts = [self._with_job(act) if act.verb == "submit" else act for act in acts]
        since = self.world.clock()
        answers = self.world.run_at_once([getattr(self.world, act.verb)(*act.given) for act in acts])
        then = Span(since, self.world.clock())
        seen = self.act(self.world.look())
        before, now = self.model, self.model.now
        wrong = []
        for order in itertools.permutations(zip(acts, answers, strict=True)):
            self.model, racers = copy.deepcopy((before, order))
            try:
                self.model.now = then
                for act, answer in racers:
                    self._tell(act, answer)
                self.model.now = now
                self.compare(seen)
            except AssertionError as error:
                wrong.append(f"{[act for act, _ in order]}: {error}")
            else:
                return
        raise AssertionError(f"{acts} came to {answers}, and no order explains it.\n" + "\n".join(wrong))

    def _with_job(self, act: Act) -> Act:
        (needed,) = act.given
        same = {"owner": needed.owner, "processor": needed.processor, "priority": 0, "max_attempts": None}
        return Act("submit", (self.new_job([needed], ("cpu", 0, None), **same),))

    def _tell(self, act: Act, answer: Any) -> None:
        if act.verb == "submit":
            (job,) = act.given
            job.run_at = job.queued_at = job.waits_since = self.model.now
            self.tell_submit(job, answer)
        else:
            assert answer == getattr(self.model, act.verb)(*act.given)


def test_what_happens_at_once_comes_out_in_some_order(world: World) -> None:
    """VIDQUEUE_TEST_MODEL_EXAMPLES asks for more histories. A race that was lost is not found again by trying less."""
    wanted = int(os.environ.get("VIDQUEUE_TEST_MODEL_EXAMPLES", ROUND))
    check(world, rounds=math.ceil(wanted / ROUND), machine=RacingMachine, phases=[Phase.generate])


async def test_a_job_that_is_being_added_to_a_failing_chain_fails_with_it(any_queue: Queue) -> None:
    first = await any_queue.submit()
    second = await any_queue.submit(input={"video": f"vq:jobs/{first}/video"})
    async with any_queue.database.transaction() as connection:
        new = NewJob(processor="zoo", input={"video": f"vq:jobs/{second}/video"}, owner="local", device="cpu")
        third, _ = await new_jobs.enqueue(connection, new)
        canceling = asyncio.create_task(control.cancel(any_queue.database, first, owner=None))
        await waits_for_a_lock(any_queue)
    await canceling
    assert (await any_queue.job(third)).error_code == "dependency_failed"
    assert await any_queue.violations() == []


async def test_a_job_is_not_queued_again_while_what_it_needs_is_failing(any_queue: Queue) -> None:
    first = await any_queue.submit()
    second = await any_queue.submit(input={"video": f"vq:jobs/{first}/video"})
    await control.cancel(any_queue.database, first, owner=None)
    await control.retry(any_queue.database, first, owner=None)
    async with any_queue.database.transaction() as connection:
        await jobs.request_cancel(connection, [first], owner=None)
        asking = asyncio.create_task(control.retry(any_queue.database, second, owner=None))
        await waits_for_a_lock(any_queue)
    with pytest.raises(VidqueueError, match="did not succeed"):
        await asking
    assert await any_queue.violations() == []


async def test_a_cancel_during_a_retry_cancels_the_job(any_queue: Queue) -> None:
    job_id = await any_queue.submit()
    failed = "state = 'failed', finished_at = now(), error_code = 'x', error_message = 'x'"
    await any_queue.sql(f"UPDATE vidqueue.jobs SET {failed} WHERE id = %s", job_id)
    async with any_queue.database.transaction() as connection:
        await jobs.retry(connection, [job_id], owner=None)
        canceling = asyncio.create_task(control.cancel(any_queue.database, job_id, owner=None))
        await waits_for_a_lock(any_queue)
    assert (await canceling).state is State.CANCELED


async def waits_for_a_lock(queue: Queue) -> None:
    """Until one transaction of this database waits for another one."""
    waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    await eventually(lambda: queue.sql(waiting))
