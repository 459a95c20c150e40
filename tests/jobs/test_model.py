"""Whatever people, lanes and daemons do to the queue, in any order: it does what a small model in plain Python says."""

from __future__ import annotations

import math
import os

import psycopg
import pytest
from hypothesis import Phase

from tests.jobs.machine import ROUND, check
from tests.jobs.world import World
from vidqueue.db import queries

# A planted fault: the function, what stands in it, and what stands there instead.
FAULTS = {
    "a paused lane is given jobs": ("choose", "AND NOT vidqueue.is_paused(l)", ""),
    "a lane is given what it has no processor for": ("fits", "l.processors ? j.processor", "true"),
    "a job does not wait for what it needs": ("count_unmet", "p.state <> 'succeeded'", "false"),
    "a job ages while it waits for what it needs": (
        "count_unmet",
        "greatest(j.waits_since, clock_timestamp())",
        "j.waits_since",
    ),
    "a failure is not counted": ("finish", "coalesce((ending ->> 'burned')::integer, 0)", "0"),
    "a loss is counted for ever": ("finish", "THEN j.losses + 1 ELSE 0", "THEN j.losses + 1 ELSE j.losses"),
}
SOURCE = "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'vidqueue'::regnamespace AND proname = %s"


def test_the_queue_does_what_the_model_says(world: World) -> None:
    """VIDQUEUE_TEST_MODEL_EXAMPLES asks for more histories."""
    wanted = int(os.environ.get("VIDQUEUE_TEST_MODEL_EXAMPLES", 4 * ROUND))
    check(world, rounds=math.ceil(wanted / ROUND))


def test_the_check_sees_that_a_lane_which_lost_its_attempt_may_renew_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew = queries.load("attempts")["renew"]
    assert "AND a.ended_at IS NULL" in renew
    monkeypatch.setitem(queries.load("attempts"), "renew", renew.replace("AND a.ended_at IS NULL", ""))
    with pytest.raises(AssertionError):
        check(world, rounds=1, phases=[Phase.generate])


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_sees_a_planted_fault(world: World, database_url: str, fault: str) -> None:
    name, right, wrong = FAULTS[fault]
    with psycopg.connect(database_url, autocommit=True) as connection:
        ((source,),) = connection.execute(SOURCE, [name]).fetchall()
        assert right in source
        connection.execute(source.replace(right, wrong))
    with pytest.raises(AssertionError):
        check(world, rounds=1, phases=[Phase.generate])
