"""Whatever people, lanes and daemons do to the queue, in any order: it does what a small model in plain Python says."""

from __future__ import annotations

import math
import os

import pytest
from hypothesis import Phase

from tests.jobs.machine import ROUND, check
from tests.jobs.world import World
from vidqueue.db import queries

# A planted fault: the query, what stands in it, and what stands there instead.
FAULTS = {
    "a paused lane is given jobs": ("attempts", "dispatch", "AND NOT l.paused", ""),
    "a job does not wait for what it needs": ("attempts", "dispatch", "p.state <> 'succeeded'", "false"),
    "a lane that lost its attempt may renew it": ("attempts", "renew", "AND a.ended_at IS NULL", ""),
    "a failure is not counted": ("attempts", "settle", "failures + %(burned)s", "failures + 0 * %(burned)s"),
}


def test_the_queue_does_what_the_model_says(world: World) -> None:
    """VIDQUEUE_TEST_MODEL_EXAMPLES asks for more histories."""
    wanted = int(os.environ.get("VIDQUEUE_TEST_MODEL_EXAMPLES", 4 * ROUND))
    check(world, rounds=math.ceil(wanted / ROUND))


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_sees_a_planted_fault(world: World, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    family, name, right, wrong = FAULTS[fault]
    query = queries.load(family)[name]
    assert right in query
    monkeypatch.setitem(queries.load(family), name, query.replace(right, wrong))
    with pytest.raises(AssertionError):
        check(world, rounds=1, phases=[Phase.generate])
