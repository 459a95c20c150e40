"""Each invariant is shown to bite: a planted violation is found, under its own number and no other.

Most cannot be planted as long as the schema stands, so its constraints and triggers are taken away first.
"""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.factory import Queue
from vidqueue.db.tables import invariants
from vidqueue.db.tables.jobs import FIRST_ID, LAST_ID

FENCES_OFF = """
    ALTER TABLE vidqueue.jobs DISABLE TRIGGER USER;
    ALTER TABLE vidqueue.jobs DROP CONSTRAINT finished_iff_final, DROP CONSTRAINT running_iff_fenced,
        DROP CONSTRAINT failed_has_reason, DROP CONSTRAINT attempts_within_bounds;
    ALTER TABLE vidqueue.attempts DROP CONSTRAINT attempt_is_sound;
    DROP INDEX vidqueue.jobs_idempotency, vidqueue.one_open_attempt_per_job, vidqueue.one_open_attempt_per_lane;
"""
# What each spoils: a job {job} that succeeded in attempt 1, a canceled one {spare}, a waiting one {waiting}, and one
# that runs {running}, on lane {busy}.
ONE_MORE_ATTEMPT = """INSERT INTO vidqueue.attempts (job_id, number, fence, lane_id, lane, host, dispatched_at,
        ended_at, outcome, lease_expires_at)
    SELECT '{spare}', 2, FENCE, id, name, host, BEGAN, clock_timestamp() + interval '2 h', 'canceled', now()
    FROM vidqueue.lanes WHERE name = 'unused'"""
A_MINUTE_AGO = "clock_timestamp() - interval '61 s'"
PLANTED = {
    "I1": "UPDATE vidqueue.jobs SET finished_at = NULL WHERE id = '{job}'",
    "I2": "UPDATE vidqueue.attempts SET ended_at = clock_timestamp(), outcome = 'canceled' WHERE job_id = '{running}'",
    "I2 fence": "UPDATE vidqueue.jobs SET fence = fence + 1000 WHERE id = '{running}'",
    "I3": "UPDATE vidqueue.jobs SET failures = 1 WHERE id = '{waiting}'",
    "I3 bound": "UPDATE vidqueue.jobs SET max_attempts = 1, failures = 2 WHERE id = '{waiting}'",
    "I4": "UPDATE vidqueue.attempts SET number = 2 WHERE job_id = '{spare}'",
    "I4 fence": ONE_MORE_ATTEMPT.replace("FENCE", "-5").replace("BEGAN", "clock_timestamp() + interval '1 h'"),
    "I5": ONE_MORE_ATTEMPT.replace("FENCE", "99999").replace("BEGAN", "'2000-01-01'"),
    "I5 lane": """UPDATE vidqueue.attempts SET lane_id = '{busy}', ended_at = now() + interval '1 h'
        WHERE job_id = '{spare}'""",
    "I6": "INSERT INTO vidqueue.events (job_id, owner, kind) VALUES ('{waiting}', 'local', 'failed')",
    "I6 twice": "INSERT INTO vidqueue.events (job_id, owner, kind) VALUES ('{job}', 'local', 'succeeded')",
    "I6 late": "INSERT INTO vidqueue.events (job_id, owner, kind) VALUES ('{job}', 'local', 'progress')",
    "I7": """INSERT INTO vidqueue.events (job_id, owner, kind, data) VALUES
        ('{running}', 'local', 'progress', '{{"attempt": 1, "progress": 0.5}}'),
        ('{running}', 'local', 'progress', '{{"attempt": 1, "progress": 0.4}}')""",
    "I8": "DELETE FROM vidqueue.outputs WHERE job_id = '{job}'",
    "I8 winner": "UPDATE vidqueue.attempts SET outcome = 'canceled' WHERE job_id = '{job}'",
    "I9": """WITH told AS (UPDATE vidqueue.events SET kind = 'canceled' WHERE job_id = '{job}' AND kind = 'succeeded')
        UPDATE vidqueue.jobs SET state = 'canceled' WHERE id = '{job}'""",
    "I10": """UPDATE vidqueue.jobs SET webhook = '{{"url": "https://example.com/"}}' WHERE id = '{job}'""",
    "I11": f"UPDATE vidqueue.attempts SET lease_expires_at = {A_MINUTE_AGO} WHERE job_id = '{{running}}'",
    "I12": f"UPDATE vidqueue.jobs SET cancel_requested_at = {A_MINUTE_AGO} WHERE id = '{{running}}'",
    "I13": "UPDATE vidqueue.jobs SET idempotency_key = 'same' WHERE id IN ('{job}', '{waiting}')",
    "I14": "UPDATE vidqueue.jobs SET error_code = 'stalled' WHERE id = '{job}'",
    "I19": "INSERT INTO vidqueue.job_dependencies (job_id, depends_on) VALUES ('{waiting}', '{spare}')",
    "I20": f"UPDATE vidqueue.jobs SET expires_at = {A_MINUTE_AGO} WHERE id = '{{waiting}}'",
}
# A stand-in for the start of the server, which these ask for and a test cannot move.
LONG_UP = frozenset({"I11", "I12", "I20"})


AN_END = (
    "UPDATE vidqueue.attempts SET ended_at = clock_timestamp(), outcome = '{outcome}' WHERE job_id = '{job}'",
    "UPDATE vidqueue.jobs SET state = '{outcome}', fence = NULL, finished_at = clock_timestamp() WHERE id = '{job}'",
)
AN_OUTPUT = """WITH file AS (INSERT INTO vidqueue.files (name, media_type, size, sha256)
        VALUES ('x', 'x/y', 0, repeat('0', 64)) RETURNING id)
    INSERT INTO vidqueue.outputs (job_id, name, attempt, file_id) SELECT '{job}', 'text', 1, id FROM file"""


async def planted(queue: Queue) -> dict[str, UUID]:
    """A succeeded, a canceled, a running and a waiting job, each as the daemon would leave it."""
    lanes = {name: await queue.lane(name) for name in ("cpu0", "cpu1", "unused")}
    job, spare, running = [await queue.submit(idempotency_key=key) for key in ("a", "b", "c")]
    for job_id, outcome in ((job, "succeeded"), (spare, "canceled")):
        ref = await queue.dispatch(lanes["cpu0"])
        assert ref is not None
        assert ref.job_id == job_id
        for statement in AN_END:
            await queue.sql(statement.format(job=job_id, outcome=outcome))
    await queue.sql(AN_OUTPUT.format(job=job))
    ref = await queue.dispatch(lanes["cpu1"])
    assert ref is not None
    assert ref.job_id == running
    waiting = await queue.submit()
    return {"job": job, "spare": spare, "running": running, "waiting": waiting, "busy": lanes["cpu1"]}


async def test_a_history_as_the_daemon_writes_it_breaks_nothing(any_queue: Queue) -> None:
    await planted(any_queue)
    assert await any_queue.violations() == []


@pytest.mark.parametrize("name", PLANTED)
async def test_a_planted_violation_is_found_under_its_number_alone(any_queue: Queue, name: str) -> None:
    names = await planted(any_queue)
    if name in LONG_UP:
        await pretend_the_server_is_long_up(any_queue)
        assert await any_queue.violations() == []
    for statement in filter(str.strip, FENCES_OFF.split(";")):
        await any_queue.sql(statement)
    await any_queue.sql(PLANTED[name].format(**names))
    found = await any_queue.violations()
    assert {one["id"] for one in found} == {name.split(maxsplit=1)[0]}
    assert all(one["job_id"] and one["invariant"] for one in found)


async def pretend_the_server_is_long_up(queue: Queue) -> None:
    """The same view, with another start of the server in it."""
    (view,) = await queue.sql("SELECT pg_get_viewdef('vidqueue_report.invariant_violations'::regclass) AS text")
    text = view["text"].replace("pg_postmaster_start_time()", "'2000-01-01'::timestamptz")
    assert text.count("2000-01-01") == len(LONG_UP)
    await queue.sql(f"CREATE OR REPLACE VIEW vidqueue_report.invariant_violations AS {text}")


async def test_many_of_one_kind_do_not_hide_another(any_queue: Queue) -> None:
    names = await planted(any_queue)
    for statement in filter(str.strip, FENCES_OFF.split(";")):
        await any_queue.sql(statement)
    await any_queue.sql(
        "INSERT INTO vidqueue.jobs (processor, input, device, error_code) "
        "SELECT 'zoo', '{}', 'cpu', 'x' FROM generate_series(1, 200)"
    )
    await any_queue.sql(PLANTED["I19"].format(**names))
    async with any_queue.database.transaction() as connection:
        found = await invariants.of_jobs(connection, FIRST_ID, LAST_ID)
        assert sorted((one.id, one.broken) for one in found) == [("I14", 200), ("I19", 1)]
        # Two ranges have what the whole has, and nothing between jobs is asked of either.
        middle = await invariants.end_of_range(connection, FIRST_ID, 100)
        halves = [
            *await invariants.of_jobs(connection, FIRST_ID, middle),
            *await invariants.of_jobs(connection, middle, LAST_ID),
        ]
        assert sorted({one.id for one in halves}) == ["I14", "I19"]
        assert sum(one.broken for one in halves) == 201
        assert await invariants.between_jobs(connection) == []


async def test_every_invariant_of_the_list_is_planted(any_queue: Queue) -> None:
    listed = {one["id"] for one in await any_queue.sql("SELECT id FROM vidqueue_report.invariants")}
    assert listed == {name.split()[0] for name in PLANTED}
