"""Lanes at work, in this process: real executors, a real queue, and a zoo of processors that misbehave."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from tests.daemon import alive, promised
from tests.factory import Queue, eventually
from vidqueue import daemon
from vidqueue.db import migrate
from vidqueue.db.installation import OtherDatabaseError, require_own
from vidqueue.db.pool import Connection, Database
from vidqueue.db.tables import attempts
from vidqueue.db.tables.jobs import JobRow
from vidqueue.errors import VidqueueError
from vidqueue.job import FINAL, State, Succeeded
from vidqueue.jobs import control, reaper
from vidqueue.ops import failpoints, processes
from vidqueue.processors import registry
from vidqueue.services import Services
from vidqueue.settings.schema import Settings
from vidqueue.storage.local import Storage, Stored
from vidqueue.worker.executor.messages import TOLD_IN_PART, UNKNOWN_TYPE, RunJob
from vidqueue.worker.executor.parent import Executor
from vidqueue.worker.guards import Drain
from vidqueue.worker.lanes import open_lanes

pytestmark = pytest.mark.usefixtures("no_orphans")


@pytest_asyncio.fixture
async def lanes(services: Services) -> AsyncIterator[None]:
    """Two CPU lanes that take jobs."""
    async with open_lanes(services, Drain()):
        yield


@pytest_asyncio.fixture
async def zoo(queue: Queue, lanes: None) -> Queue:
    return queue


async def act(zoo: Queue, name: str, *, seconds: float = 0, marker: str = "", **job: Any) -> UUID:
    return await zoo.submit(input={"act": name, "seconds": seconds, "marker": marker}, **({"max_attempts": 1} | job))


async def ended(zoo: Queue, job_id: UUID, within_s: float = 30) -> JobRow:
    async def final() -> JobRow | None:
        job = await zoo.job(job_id)
        return job if job.state in FINAL else None

    return await eventually(final, within_s=within_s)  # type: ignore[no-any-return]


async def in_stage(zoo: Queue, job_id: UUID, stage: str) -> JobRow:
    async def there() -> JobRow | None:
        job = await zoo.job(job_id)
        return job if job.stage == stage else None

    return await eventually(there)  # type: ignore[no-any-return]


def executors() -> list[int]:
    command = ["pgrep", "-P", str(os.getpid()), "-f", "executor.child"]
    listing = subprocess.run(command, capture_output=True, text=True, check=False)
    return [int(pid) for pid in listing.stdout.split()]


BAD_CITIZENS = {
    "raise": "processor_error",
    "refuse": "unsupported_format",
    "exit_silently": "no_result",
    "segfault": "executor_crashed",
    "abort": "executor_crashed",
    "lie": "bad_output",
    "stray_output": "bad_output",
    "out_of_memory": "out_of_memory",
    "raise_nul": "processor_error",
    "folder_output": "bad_output",
    "odd_name": "bad_output",
    "same_name_twice": "bad_output",
    "steal": "bad_output",
    "no_list": "bad_output",
    "odd_error": "odd\ufffd\ufffd",
    "odd_last_words": "executor_crashed",
}


async def test_a_bad_citizen_fails_with_a_code_and_the_lane_goes_on(zoo: Queue) -> None:
    """All of them meet the same two lanes: an executor that survives one of them does the next job too."""
    for name, code in BAD_CITIZENS.items():
        bad = await ended(zoo, await act(zoo, name, marker=__file__))
        assert Path(__file__).exists(), name
        assert (name, bad.state, bad.error_code) == (name, State.FAILED, code)
        assert bad.error_hint, name
        good = await ended(zoo, await act(zoo, "work"))
        assert (name, good.state) == (name, State.SUCCEEDED)
        assert await zoo.violations() == [], name


async def test_what_a_processor_changes_of_its_process_does_not_reach_the_next_job(zoo: Queue) -> None:
    """Scripts of models go into their folder and set variables; the workspace is gone after the attempt."""
    for name in ("ask_place", "wander", "ask_place"):
        assert (await ended(zoo, await act(zoo, name, lane="cpu0"))).state is State.SUCCEEDED, name
    before, after = [line["text"] for line in await zoo.sql("SELECT text FROM vidqueue.attempt_logs")]
    assert before == after


async def test_a_processor_puts_a_job_back_until_it_can_start(zoo: Queue, tmp_path: Path) -> None:
    marker = tmp_path / "awake"
    job_id = await act(zoo, "wait_for", seconds=1, marker=str(marker))

    async def put_back() -> JobRow | None:
        job = await zoo.job(job_id)
        return job if job.wait_reason == "keeper_asleep" else None

    job = await eventually(put_back)
    assert (job.state, job.failures, job.message) == (State.QUEUED, 0, "The keeper sleeps.")
    marker.touch()
    done = await ended(zoo, job_id)
    assert (done.state, done.failures) == (State.SUCCEEDED, 0)
    assert done.attempt > 1
    assert await zoo.violations() == []


async def test_what_a_processor_says_of_its_waiting_is_made_storable(zoo: Queue) -> None:
    job_id = await act(zoo, "odd_wait")

    async def put_back() -> bool:
        return (await zoo.job(job_id)).wait_reason == "not_ready"

    await eventually(put_back)
    assert (await zoo.job(job_id)).message == "before\N{REPLACEMENT CHARACTER}after"


async def test_a_processor_may_have_more_time_to_stop(zoo: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops two seconds after it is told to, and the daemon's grace is one."""
    monkeypatch.setattr(type(registry.find("zoo")), "cancel_grace_s", 15)
    job_id = await act(zoo, "stop_late", seconds=2)
    await in_stage(zoo, job_id, "work")
    (before,) = executors()
    await control.cancel(zoo.database, job_id, owner=None)
    assert (await ended(zoo, job_id)).state is State.CANCELED
    assert executors() == [before]


async def test_the_last_words_of_a_crash_are_kept_with_the_attempt(zoo: Queue) -> None:
    job_id = await act(zoo, "abort")
    await ended(zoo, job_id)
    async with zoo.database.transaction() as connection:
        (attempt,) = await attempts.of_job(connection, job_id, owner=None)
    assert "last words of the zoo" in (attempt.error_detail or "")


async def test_a_flood_of_progress_is_thinned_and_the_log_is_bounded(zoo: Queue, services: Services) -> None:
    job = await ended(zoo, await act(zoo, "flood"))
    assert job.state is State.SUCCEEDED
    events = await zoo.sql("SELECT count(*) AS n FROM vidqueue.events WHERE kind = 'progress'")
    lines = await zoo.sql("SELECT count(*) AS n FROM vidqueue.attempt_logs")
    assert events[0]["n"] < 60
    assert lines[0]["n"] == services.settings.running.max_log_lines


async def test_the_executor_sees_no_setting_and_no_secret_of_the_daemon(
    zoo: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDQUEUE_DATABASE__URL", "postgresql://me:secret@db/x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    job_id = await act(zoo, "print_secrets")
    await ended(zoo, job_id)
    text = str(await zoo.sql("SELECT text FROM vidqueue.attempt_logs"))
    assert "VIDQUEUE" not in text
    assert "AWS" not in text
    assert "postgresql" not in text
    assert "CUDA_VISIBLE_DEVICES" in text


async def test_cancel_of_a_running_job_frees_its_lane_within_two_seconds(zoo: Queue, services: Services) -> None:
    for name in ("work", "hang", "ignore_cancel"):
        job_id = await act(zoo, name, seconds=60, lane="cpu0")
        await eventually(partial(_started, zoo, job_id))
        answered = await control.cancel(services.database, job_id, owner=None)
        assert answered.state is State.RUNNING
        assert answered.cancel_requested_at
        next_job = await act(zoo, "work", lane="cpu0")
        assert (await ended(zoo, job_id)).state is State.CANCELED
        assert (await ended(zoo, next_job)).state is State.SUCCEEDED
        # As the rows tell it: a look at them may come late.
        (took,) = await zoo.sql(
            "SELECT extract(epoch FROM a.dispatched_at - j.cancel_requested_at)::float AS s FROM vidqueue.jobs j, "
            "vidqueue.attempts a WHERE j.id = %s AND a.job_id = %s", job_id, next_job,
        )  # fmt: skip
        assert took["s"] < promised(2), name
        await eventually(lambda: _no_scratch(services))


async def _no_scratch(services: Services) -> bool:
    return not list((services.settings.data_dir / "work").iterdir())


async def _started(zoo: Queue, job_id: UUID) -> bool:
    return bool(await zoo.sql("SELECT 1 FROM vidqueue.attempts WHERE job_id = %s AND started_at IS NOT NULL", job_id))


async def test_cancel_of_a_waiting_job_is_at_once(queue: Queue, services: Services) -> None:
    job_id = await queue.submit()
    assert (await control.cancel(services.database, job_id, owner=None)).state is State.CANCELED
    assert (await control.cancel(services.database, job_id, owner=None)).state is State.CANCELED


async def test_an_executor_killed_in_mid_job_is_replaced_and_the_job_succeeds(zoo: Queue, tmp_path: Path) -> None:
    job_id = await act(zoo, "die_once", marker=str(tmp_path / "marker"), max_attempts=3)
    job = await ended(zoo, job_id)
    assert (job.state, job.attempt, job.failures) == (State.SUCCEEDED, 2, 1)
    assert await zoo.violations() == []


async def test_a_kill_from_outside_is_survived_too(zoo: Queue) -> None:
    job_id = await act(zoo, "work", seconds=1.5, max_attempts=3)
    await in_stage(zoo, job_id, "work")
    for pid in executors():
        os.kill(pid, signal.SIGKILL)
    job = await ended(zoo, job_id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 2)


async def test_a_job_over_its_wall_limit_or_without_progress_is_stopped(zoo: Queue) -> None:
    slow = await act(zoo, "work", seconds=60, timeout_s=1)
    stuck = await act(zoo, "hang", seconds=60, stall_timeout_s=1)
    assert (await ended(zoo, slow)).error_code == "timed_out"
    assert (await ended(zoo, stuck)).error_code == "stalled"


async def test_steady_progress_longer_than_the_lease_is_left_alone(zoo: Queue, services: Services) -> None:
    lease_s = services.settings.running.lease_s
    job = await ended(zoo, await act(zoo, "work", seconds=lease_s * 2.5, stall_timeout_s=4))
    assert (job.state, job.attempt) == (State.SUCCEEDED, 1)


async def test_a_drain_gives_running_jobs_back_without_burning_an_attempt(queue: Queue, services: Services) -> None:
    running = services.settings.running.model_copy(update={"drain_timeout_s": 0.2})
    hurried = Services(
        services.settings.model_copy(update={"running": running}),
        services.database, services.event_feed, services.storage, services.inputs,
    )  # fmt: skip
    async with open_lanes(hurried, Drain()):
        job_id = await act(queue, "work", seconds=30)
        await in_stage(queue, job_id, "work")
    job = await queue.job(job_id)
    assert (job.state, job.failures, job.message) == (State.QUEUED, 0, "Interrupted: the daemon shut down")
    lanes = await queue.sql("SELECT DISTINCT state FROM vidqueue.lanes")
    assert lanes == [{"state": "offline"}]
    assert await queue.violations() == []


@pytest.fixture
def fetching(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Inputs that never come, for jobs that are submitted from now on; set once a job fetches one."""
    begun = asyncio.Event()

    async def never_comes(point: str) -> None:
        if point == "run.staged":
            begun.set()
            await asyncio.sleep(3600)

    monkeypatch.setattr(failpoints, "reach", never_comes)
    return begun


async def test_a_drain_while_a_new_lane_fetches_an_input_burns_no_attempt(
    queue: Queue, services: Services, fetching: asyncio.Event
) -> None:
    drain = Drain()
    async with open_lanes(services, drain):
        job_id = await act(queue, "work")
        await asyncio.wait_for(fetching.wait(), 10)
        drain.hurried.set()
    job = await queue.job(job_id)
    assert (job.state, job.failures, job.message) == (State.QUEUED, 0, "Interrupted: the daemon shut down")


async def test_a_cancel_does_not_wait_for_an_input_that_a_warm_lane_fetches(
    zoo: Queue, services: Services, request: pytest.FixtureRequest
) -> None:
    await ended(zoo, await act(zoo, "work", lane="cpu0"))
    fetching = request.getfixturevalue("fetching")
    job_id = await act(zoo, "work", lane="cpu0")
    await asyncio.wait_for(fetching.wait(), 10)
    await control.cancel(services.database, job_id, owner=None)
    assert (await ended(zoo, job_id, within_s=promised(2))).state is State.CANCELED


async def test_two_lanes_run_two_jobs_at_once_and_never_more(zoo: Queue) -> None:
    ids = [await act(zoo, "work", seconds=0.3) for _ in range(6)]
    most = 0
    open_ = 1
    while open_ or not all([(await zoo.job(job_id)).state in FINAL for job_id in ids]):
        counted = await zoo.sql("SELECT count(*) AS n FROM vidqueue.attempts WHERE ended_at IS NULL")
        open_ = counted[0]["n"]
        most = max(most, open_)
        await asyncio.sleep(0.02)
    assert most == 2


async def test_a_wrong_parameter_submitted_by_sql_fails_with_the_field(zoo: Queue) -> None:
    job = await ended(zoo, await zoo.submit(input={"act": "fly"}))
    assert job.error_code == "invalid_params"
    assert "/input/act" in (job.error_message or "")


async def test_an_expired_lease_is_rescued_by_any_daemon(queue: Queue, services: Services) -> None:
    """A lane of a host that is gone holds the job; nobody renews it."""
    job_id = await act(queue, "work")
    ref = await queue.dispatch(await queue.lane("gone"), lease_s=0.1)
    assert ref is not None
    async with open_lanes(services, Drain()):
        job = await ended(queue, job_id)
    assert (job.state, job.attempt, job.failures) == (State.SUCCEEDED, 2, 0)


async def test_a_job_whose_row_somebody_locks_does_not_hold_up_the_rescue_of_the_others(
    queue: Queue, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "PATIENCE_S", 0.5)
    locked, other = await act(queue, "work"), await act(queue, "work")
    for name in ("gone0", "gone1"):
        assert await queue.dispatch(await queue.lane(name), lease_s=0.1) is not None
    async with await psycopg.AsyncConnection.connect(services.database.url) as somebody:
        await somebody.execute("SELECT FROM vidqueue.jobs WHERE id = %s FOR UPDATE", [locked])
        async with open_lanes(services, Drain()):
            assert (await ended(queue, other)).state is State.SUCCEEDED
            assert (await queue.job(locked)).state is State.RUNNING
            await somebody.rollback()
            assert (await ended(queue, locked)).state is State.SUCCEEDED


async def test_odd_words_and_facts_do_not_spoil_a_success(zoo: Queue) -> None:
    for name in ("odd_facts", "odd_words", "odd_numbers", "odd_types", "odd_outputs", "shout"):
        job = await ended(zoo, await act(zoo, name, max_attempts=3))
        assert (name, job.state, job.attempt) == (name, State.SUCCEEDED, 1)


async def test_a_success_that_cannot_be_told_in_full_is_told_in_part_with_a_warning(zoo: Queue) -> None:
    await ended(zoo, await act(zoo, "odd_facts"))
    (stored,) = await zoo.sql("SELECT facts, media_type FROM vidqueue.files")
    facts = stored["facts"]
    assert facts["warnings"] == [TOLD_IN_PART]
    assert facts["ok"] == "fine"
    assert facts["list"][1][1] == {"deep\ufffd": ["\ufffd"]}
    assert (facts["nan"], facts["huge"], facts["7"]) == (None, None, None)
    assert len(str(facts)) < 2_000_000
    assert stored["media_type"] == UNKNOWN_TYPE


async def test_odd_words_are_kept_as_far_as_they_can_be(zoo: Queue) -> None:
    await ended(zoo, await act(zoo, "odd_words"))
    assert await zoo.sql("SELECT level, text FROM vidqueue.attempt_logs") == [
        {"level": "info", "text": "a word\ufffd \ufffd"},
        {"level": "warning", "text": "Progress must be a number from 0 to 1; nan was replaced by 0."},
    ]


async def test_a_grandchild_that_got_away_does_not_hold_the_lane(zoo: Queue, services: Services) -> None:
    job_id = await act(zoo, "grandchild", lane="cpu0")
    await in_stage(zoo, job_id, "left alone")
    (lane,) = await zoo.sql("SELECT queue FROM vidqueue.lanes WHERE name = 'cpu0'")
    (executor, grandchild) = sorted(processes.marked(lane["queue"]))
    assert executor in executors()
    assert grandchild not in executors()
    await control.cancel(services.database, job_id, owner=None)
    assert (await ended(zoo, job_id, within_s=promised(3))).state is State.CANCELED
    assert (await ended(zoo, await act(zoo, "work", lane="cpu0"), within_s=promised(5))).state is State.SUCCEEDED

    async def gone() -> bool:
        return not alive(grandchild)

    await eventually(gone)


def test_the_mark_of_one_lane_is_not_that_of_another() -> None:
    mark = f"lane:{uuid4().hex[:8]}:cpu1"
    with subprocess.Popen(["sleep", "600"], env={processes.MARK: f"{mark}0"}) as neighbour:
        with subprocess.Popen(["sleep", "600"], env={processes.MARK: mark}) as own:
            assert processes.kill_marked(mark, whole=True) == 1
            assert own.wait() == -signal.SIGKILL
        assert neighbour.poll() is None
        assert processes.kill_marked(mark) == 1
        assert neighbour.wait() == -signal.SIGKILL


def test_processes_of_another_daemon_that_runs_are_left_alone() -> None:
    mark = f"lane:{uuid4().hex[:8]}:cpu1"
    with subprocess.Popen(["sleep", "600"]) as daemon:
        name = processes.own_name().split("/")
        stat = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
        name[-2:] = str(daemon.pid), stat[19]
        with subprocess.Popen(["sleep", "600"], env={processes.MARK: mark, processes.DAEMON: "/".join(name)}) as theirs:
            assert processes.kill_marked(mark) == 0
            assert list(processes.marked(mark, daemon=daemon.pid)) == [theirs.pid]
            daemon.kill()
            daemon.wait()
            assert processes.kill_marked(mark) == 1
            assert theirs.wait() == -signal.SIGKILL


async def test_a_late_word_to_stop_does_not_meet_the_next_job(tmp_path: Path) -> None:
    executor = Executor("cpu0", threads=1, mark=f"test:{uuid4()}")
    order = RunJob("zoo", {"act": "work"}, {}, str(tmp_path), {})
    try:
        assert isinstance(await executor.run(order, lambda _: None), Succeeded)
        await executor.cancel()
        assert isinstance(await executor.run(order, lambda _: None), Succeeded)
    finally:
        await executor.stop()


async def test_a_result_that_takes_longer_than_the_lease_to_store_is_published_once(
    zoo: Queue, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Storage.adopt

    def slow(self: Storage, *moved: Any) -> Stored:
        time.sleep(services.settings.running.lease_s * 2)
        return real(self, *moved)

    monkeypatch.setattr(Storage, "adopt", slow)
    job = await ended(zoo, await act(zoo, "work"))
    assert (job.state, job.attempt) == (State.SUCCEEDED, 1)


async def test_an_outcome_that_the_database_refuses_ends_the_job_instead_of_running_it_for_ever(
    zoo: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = attempts.finish

    async def refuse(connection: Connection, ending: attempts.Ending) -> attempts.Ended:
        if ending.facts["outcome"] == "succeeded":
            raise psycopg.errors.DataError("no such thing")
        return await real(connection, ending)

    monkeypatch.setattr(attempts, "finish", refuse)
    job = await ended(zoo, await act(zoo, "work"))
    assert (job.state, job.error_code, job.failures) == (State.FAILED, "internal_error", 1)


async def test_a_drain_leaves_no_ticket_behind_that_nobody_runs(
    queue: Queue, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, handing_over = attempts.dispatch, asyncio.Event()

    async def slow(*args: Any, **more: Any) -> attempts.Dispatched:
        handing_over.set()
        await asyncio.sleep(0.5)
        return await real(*args, **more)

    monkeypatch.setattr(attempts, "dispatch", slow)
    async with open_lanes(services, Drain()):
        job_id = await act(queue, "work")
        await asyncio.wait_for(handing_over.wait(), 10)
    job = await queue.job(job_id)
    assert job.state in (State.QUEUED, State.SUCCEEDED)
    assert await queue.sql("SELECT 1 FROM procrastinate.procrastinate_jobs") == []
    assert await queue.violations() == []


async def test_dispatch_goes_on_after_a_connection_was_lost_in_the_middle_of_it(
    zoo: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, lost = attempts.dispatch, 0

    async def lose(connection: Connection, *args: Any, **more: Any) -> attempts.Dispatched:
        nonlocal lost
        lost += 1
        if lost == 1:
            await connection.close()
        if lost == 2:
            raise RuntimeError("a fault of ours")
        return await real(connection, *args, **more)

    monkeypatch.setattr(attempts, "dispatch", lose)
    assert (await ended(zoo, await act(zoo, "work"))).state is State.SUCCEEDED
    assert lost >= 3


async def test_a_data_folder_of_another_database_is_refused(services: Services) -> None:
    await daemon._keep_database_id(services)
    await require_own(services.database.url, services.settings.data_dir)
    (services.settings.data_dir / "database_id").write_text(str(uuid4()))
    with pytest.raises(OtherDatabaseError, match="belongs to another database"):
        await daemon._keep_database_id(services)


@pytest.mark.parametrize(
    "made",
    ["DELETE FROM vidqueue.migrations WHERE name >= '0141'", "DROP SCHEMA vidqueue CASCADE"],
    ids=["old", "empty"],
)
async def test_a_database_that_the_data_folder_does_not_belong_to_is_refused_before_it_is_migrated(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await connection.execute(made.encode())
    before = await migrate.pending(database_url)
    assert before
    (tmp_path / "database_id").write_text(str(uuid4()))
    # The other tests of this process work with the processors as they are.
    monkeypatch.setattr(daemon, "_load_processors", lambda _: None)
    settings = Settings.model_validate({"data_dir": tmp_path, "database": {"url": database_url}})
    with pytest.raises(OtherDatabaseError, match="belongs to another database"):
        async with daemon.running(settings):
            pass
    assert await migrate.pending(database_url) == before


async def test_a_lane_goes_from_job_to_job_with_one_delivery(queue: Queue, services: Services) -> None:
    """All of them wait already when the lanes open: each lane is delivered one, and goes on by itself."""
    jobs = [await act(queue, "work", lane="cpu0") for _ in range(5)]
    async with open_lanes(services, Drain()):
        for job_id in jobs:
            assert (await ended(queue, job_id)).state is State.SUCCEEDED
    sequence = "procrastinate.procrastinate_jobs_id_seq"
    assert await queue.sql(f"SELECT last_value AS deliveries FROM {sequence}") == [{"deliveries": 1}]
    assert await queue.violations() == []


async def test_a_crowd_that_takes_every_connection_of_people_delays_no_lease_and_no_job(
    queue: Queue, services: Services
) -> None:
    async with Database(services.database.url, pool_size=2) as peoples, AsyncExitStack() as crowd:
        crowded = replace(services, database=peoples)
        async with open_lanes(crowded, Drain()):
            at_work = await act(queue, "work", seconds=6)
            await in_stage(queue, at_work, "work")
            for _ in range(2):
                await crowd.enter_async_context(peoples.statement())
            with pytest.raises(VidqueueError) as refused:
                async with peoples.statement():
                    pass
            assert refused.value.code == "overloaded"
            # More than its lease of 3 s, and a job from its submit to its end.
            assert (await ended(queue, await act(queue, "work"))).state is State.SUCCEEDED
            assert (await ended(queue, at_work)).attempt == 1
            await crowd.aclose()
    assert await queue.violations() == []


async def test_a_processor_that_this_daemon_lacks_is_no_failure_of_the_job(zoo: Queue) -> None:
    """The lane's row says otherwise, as that of a daemon whose package was removed while it ran would."""
    await zoo.sql('UPDATE vidqueue.lanes SET processors = processors || \'{"vanished": "1.0"}\'')
    job_id = await zoo.submit(processor="vanished")

    async def given_back() -> bool:
        attempts_ = await zoo.sql("SELECT outcome FROM vidqueue.attempts WHERE job_id = %s", job_id)
        return [row["outcome"] for row in attempts_][:1] == ["interrupted"]

    await eventually(given_back)
    job = await zoo.job(job_id)
    assert (job.state, job.failures, job.wait_reason) == (State.QUEUED, 0, "backoff")
    assert "vanished" in (job.message or "")


async def test_a_failed_attempt_is_logged_as_a_warning_with_its_code(zoo: Queue) -> None:
    with capture_logs() as logs:
        await ended(zoo, await act(zoo, "refuse"))
        await eventually(lambda: _logged(logs))
    (told,) = [entry for entry in logs if entry["event"] == "attempt_failed"]
    assert (told["log_level"], told["code"], told["job_state"]) == ("warning", "unsupported_format", "failed")


async def _logged(logs: Sequence[MutableMapping[str, Any]]) -> bool:
    return any(entry["event"] == "attempt_failed" for entry in logs)


async def test_the_stall_clock_begins_when_the_executor_has_the_job(
    zoo: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Executor.start

    async def slow(self: Executor) -> None:
        await asyncio.sleep(4)
        await real(self)

    monkeypatch.setattr(Executor, "start", slow)
    job = await ended(zoo, await act(zoo, "work", stall_timeout_s=3))
    assert job.state is State.SUCCEEDED


@pytest.mark.parametrize("there", [True, False])
async def test_a_path_that_this_machine_lacks_is_tried_by_another_daemon_before_the_job_fails(
    zoo: Queue, there: bool, tmp_path: Path
) -> None:
    node = uuid4()
    if there:
        await zoo.lane("cpu0", node=node, processors={"transcode": "1.0"})
    job_id = await zoo.submit(processor="transcode", input={"video": str(tmp_path / "elsewhere.mp4")})

    async def tried() -> bool:
        rows = await zoo.sql("SELECT outcome FROM vidqueue.attempts WHERE job_id = %s AND outcome IS NOT NULL", job_id)
        return bool(rows)

    await eventually(tried)
    (row,) = await zoo.sql("SELECT state, node, failures, error_code FROM vidqueue.jobs WHERE id = %s", job_id)
    if there:
        assert row == {"state": "queued", "node": node, "failures": 0, "error_code": None}
    else:
        assert (row["state"], row["error_code"]) == ("failed", "input_not_found")
