"""The end of an attempt: one transaction, behind the fence, and outputs whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.factory import Queue
from vidqueue.db.pool import Database
from vidqueue.errors import VidqueueError
from vidqueue.job import (
    AttemptRef,
    Canceled,
    Failed,
    Failure,
    Interrupted,
    Outcome,
    OutputDraft,
    State,
    Succeeded,
    Waiting,
)
from vidqueue.jobs.finish import Continuation, Finished, Refused, finish
from vidqueue.storage.local import Storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "data")


def success(folder: Path, content: bytes = b"result") -> Succeeded:
    path = folder / "output.bin"
    path.write_bytes(content)
    return Succeeded((OutputDraft("video", path, "video/mp4", {"frames": 3}),), {"run_s": 1.0})


async def running(queue: Queue, **job: object) -> AttemptRef:
    await queue.submit(**job)
    ref = await queue.dispatch(await queue.lane())
    assert ref is not None
    return ref


def stored(storage: Storage) -> int:
    return len(list(storage.stored_ids()))


async def test_a_success_publishes_its_outputs_with_the_commit(
    any_queue: Queue, storage: Storage, tmp_path: Path
) -> None:
    ref = await running(any_queue)
    result = await finish(any_queue.database, storage, ref, success(tmp_path), workspace=tmp_path)
    assert result == Finished(State.SUCCEEDED)
    job = await any_queue.job(ref.job_id)
    (output,) = job.outputs
    assert (job.state, job.progress, output["name"], output["size"]) == (State.SUCCEEDED, 1.0, "video", 6)
    assert storage.path(UUID(output["file_id"])).read_bytes() == b"result"
    assert await any_queue.violations() == []


async def test_a_zombies_finish_is_refused_and_its_bytes_are_gone(
    any_queue: Queue, storage: Storage, tmp_path: Path
) -> None:
    zombie = await running(any_queue)
    await finish(any_queue.database, storage, zombie, Interrupted("its lane was lost"))
    heir = await any_queue.dispatch(await any_queue.lane("cpu1"))
    assert heir is not None
    assert await finish(
        any_queue.database, storage, heir, success(tmp_path, b"of the heir"), workspace=tmp_path
    ) == Finished(State.SUCCEEDED)
    for late in (success(tmp_path, b"of the zombie"), Failed(Failure.of("stalled", "x")), Canceled()):
        assert await finish(any_queue.database, storage, zombie, late, workspace=tmp_path) == Refused()
    job = await any_queue.job(zombie.job_id)
    assert (job.state, job.attempt, job.outputs[0]["size"]) == (State.SUCCEEDED, 2, len(b"of the heir"))
    assert stored(storage) == 1
    assert await any_queue.violations() == []


async def test_a_finish_repeated_after_an_unclear_commit_keeps_the_published_bytes(
    any_queue: Queue, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is lost right after COMMIT: the second try is refused, and must not delete what is public."""
    ref = await running(any_queue)
    real, calls = Database.statement, 0

    def unclear(self: Database) -> object:
        nonlocal calls
        calls += 1
        return _LosesItsAnswer(real(self)) if calls == 1 else real(self)

    monkeypatch.setattr(Database, "statement", unclear)
    assert await finish(any_queue.database, storage, ref, success(tmp_path), workspace=tmp_path) == Refused()
    monkeypatch.undo()
    assert (await any_queue.job(ref.job_id)).state is State.SUCCEEDED
    assert stored(storage) == 1


async def test_a_commit_that_lands_after_the_daemon_gave_up_finds_its_bytes(
    any_queue: Queue, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server waits for its standby; the daemon ends meanwhile; then the COMMIT comes true."""
    ref = await running(any_queue)
    real, hanging = Database.statement, []

    def hang(self: Database) -> object:
        hanging.append(_Hangs(real(self)))
        return hanging[-1] if len(hanging) == 1 else real(self)

    monkeypatch.setattr(Database, "statement", hang)
    any_queue.database.abandoned = True
    with pytest.raises(VidqueueError, match="gave up"):
        await finish(any_queue.database, storage, ref, success(tmp_path), workspace=tmp_path)
    monkeypatch.undo()
    any_queue.database.abandoned = False
    await hanging[0].inner.__aexit__(None, None, None)
    assert (await any_queue.job(ref.job_id)).state is State.SUCCEEDED
    assert stored(storage) == 1


async def test_a_lane_gets_its_next_attempt_with_the_end_of_the_last(
    any_queue: Queue, storage: Storage, tmp_path: Path
) -> None:
    lane = await any_queue.lane()
    first, second = await any_queue.submit(), await any_queue.submit()
    ref = await any_queue.dispatch(lane)
    assert ref is not None
    assert ref.job_id == first
    then = Continuation(lane, lease_s=30)
    ended = await finish(any_queue.database, storage, ref, success(tmp_path), workspace=tmp_path, continuation=then)
    assert isinstance(ended, Finished)
    assert ended.next is not None
    assert (ended.next.ref.job_id, ended.next.processor) == (second, "zoo")
    after = await finish(any_queue.database, storage, ended.next.ref, Canceled(), continuation=then)
    assert after == Finished(State.CANCELED, None)
    assert await any_queue.violations() == []


async def test_a_lane_that_is_paused_gets_nothing_with_the_end_of_its_attempt(
    any_queue: Queue, storage: Storage, tmp_path: Path
) -> None:
    lane = await any_queue.lane()
    await any_queue.submit()
    await any_queue.submit()
    ref = await any_queue.dispatch(lane)
    assert ref is not None
    await any_queue.sql("UPDATE vidqueue.lanes SET paused = true")
    then = Continuation(lane, lease_s=30)
    ended = await finish(any_queue.database, storage, ref, success(tmp_path), workspace=tmp_path, continuation=then)
    assert ended == Finished(State.SUCCEEDED, None)


async def test_the_next_attempt_is_not_lost_with_the_answer_to_the_commit_that_opened_it(
    any_queue: Queue, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = await any_queue.lane()
    await any_queue.submit()
    second = await any_queue.submit()
    ref = await any_queue.dispatch(lane)
    assert ref is not None
    real, calls = Database.statement, 0

    def unclear(self: Database) -> object:
        nonlocal calls
        calls += 1
        return _LosesItsAnswer(real(self)) if calls == 1 else real(self)

    monkeypatch.setattr(Database, "statement", unclear)
    then = Continuation(lane, lease_s=30)
    ended = await finish(any_queue.database, storage, ref, success(tmp_path), workspace=tmp_path, continuation=then)
    assert isinstance(ended, Refused)
    assert ended.next is not None
    assert ended.next.ref.job_id == second
    assert (await any_queue.job(ref.job_id)).state is State.SUCCEEDED


class _Hangs:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __aenter__(self) -> Any:
        return await self.inner.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        raise VidqueueError("database_unavailable", "nobody answers, and the daemon gave up")


class _LosesItsAnswer:
    def __init__(self, inner: object) -> None:
        self._inner = inner

    async def __aenter__(self) -> object:
        return await self._inner.__aenter__()  # type: ignore[attr-defined]

    async def __aexit__(self, *error: object) -> None:
        await self._inner.__aexit__(*error)  # type: ignore[attr-defined]
        raise VidqueueError("database_unavailable", "the answer to COMMIT was lost")


async def test_an_interruption_burns_no_attempt_and_keeps_the_place_in_line(any_queue: Queue, storage: Storage) -> None:
    ref = await running(any_queue)
    await any_queue.submit()
    assert await finish(any_queue.database, storage, ref, Interrupted("drain")) == Finished(State.QUEUED)
    job = await any_queue.job(ref.job_id)
    assert (job.failures, job.attempt, job.position, job.message) == (0, 1, 1, "Interrupted: drain")
    again = await any_queue.dispatch(await any_queue.lane("cpu1"))
    assert again is not None
    assert (again.job_id, again.attempt) == (ref.job_id, 2)


async def test_a_job_that_is_put_back_burns_nothing_and_says_what_it_waits_for(
    any_queue: Queue, storage: Storage
) -> None:
    ref = await running(any_queue)
    waiting = Waiting("endpoint_busy", "The endpoint flux is busy.", 45, waited_s=5, limit_s=60)
    assert await finish(any_queue.database, storage, ref, waiting) == Finished(State.QUEUED)
    job = await any_queue.job(ref.job_id)
    assert (job.failures, job.attempt, job.position) == (0, 1, None)
    assert (job.wait_reason, job.message) == ("endpoint_busy", "The endpoint flux is busy.")
    (attempt,) = await any_queue.sql("SELECT outcome, reason FROM vidqueue_report.attempts")
    assert attempt == {"outcome": "waiting", "reason": "endpoint_busy: The endpoint flux is busy."}
    # Once its time has come it waits for a lane like any other job.
    await any_queue.sql("UPDATE vidqueue.jobs SET run_at = now()")
    assert (await any_queue.job(ref.job_id)).wait_reason == "busy"

    again = await any_queue.dispatch(await any_queue.lane("cpu1"))
    assert again is not None
    assert await finish(any_queue.database, storage, again, waiting) == Finished(State.QUEUED)
    await any_queue.sql("UPDATE vidqueue.jobs SET run_at = now()")
    last = await any_queue.dispatch(await any_queue.lane("cpu1"))
    assert last is not None
    assert await finish(any_queue.database, storage, last, waiting) == Finished(State.FAILED)
    job = await any_queue.job(ref.job_id)
    assert (job.failures, job.error_code) == (0, "peer_unavailable")
    assert "The endpoint flux is busy." in (job.error_message or "")
    assert await any_queue.violations() == []


@pytest.mark.parametrize(
    ("outcome", "waited_s"),
    [(Interrupted("drain"), 15), (Failed(Failure.of("stalled", "no")), 0)],
)
async def test_only_an_end_of_its_own_starts_the_waiting_anew(
    any_queue: Queue, storage: Storage, outcome: Outcome, waited_s: float
) -> None:
    ref = await running(any_queue)
    await finish(any_queue.database, storage, ref, Waiting("peer_busy", "It is busy.", 10, waited_s=5))
    await any_queue.sql("UPDATE vidqueue.jobs SET run_at = now()")
    again = await any_queue.dispatch(await any_queue.lane("cpu1"))
    assert again is not None
    await finish(any_queue.database, storage, again, outcome)
    (row,) = await any_queue.sql("SELECT waited_s, waiting_for FROM vidqueue.jobs")
    assert row == {"waited_s": waited_s, "waiting_for": None}


@pytest.mark.parametrize(
    ("outcome", "state", "code"),
    [
        (Failed(Failure.of("unsupported_format", "no")), State.FAILED, "unsupported_format"),
        (Failed(Failure.of("stalled", "no")), State.QUEUED, None),
        (Canceled(), State.CANCELED, None),
    ],
)
async def test_a_failure_is_tried_again_only_if_that_may_help(
    any_queue: Queue, storage: Storage, outcome: Outcome, state: State, code: str | None
) -> None:
    ref = await running(any_queue)
    assert await finish(any_queue.database, storage, ref, outcome) == Finished(state)
    job = await any_queue.job(ref.job_id)
    assert (job.state, job.error_code) == (state, code)
    assert await any_queue.violations() == []


async def test_attempts_run_out(any_queue: Queue, storage: Storage) -> None:
    ref: AttemptRef | None = await running(any_queue, max_attempts=2)
    assert ref is not None
    await finish(any_queue.database, storage, ref, Failed(Failure.of("stalled", "first")))
    await any_queue.sql("UPDATE vidqueue.jobs SET run_at = now()")
    second = await any_queue.dispatch(await any_queue.lane("cpu1"))
    assert second is not None
    await finish(any_queue.database, storage, second, Failed(Failure.of("stalled", "second")))
    job = await any_queue.job(second.job_id)
    assert (job.state, job.failures, job.error_message) == (State.FAILED, 2, "second")


async def test_a_job_that_kills_three_executors_is_poison(any_queue: Queue, storage: Storage) -> None:
    await any_queue.submit(max_attempts=10)
    lane = await any_queue.lane()
    for _ in range(3):
        await any_queue.sql("UPDATE vidqueue.jobs SET run_at = now()")
        ref = await any_queue.dispatch(lane)
        assert ref is not None
        crash = Failed(Failure.of("executor_crashed", "SIGSEGV"), crashed=True)
        await finish(any_queue.database, storage, ref, crash)
    (only,) = await any_queue.sql("SELECT state, error_code FROM vidqueue.jobs")
    assert only == {"state": "failed", "error_code": "poison"}


async def test_a_cancel_that_was_accepted_wins_over_a_success(
    any_queue: Queue, storage: Storage, tmp_path: Path
) -> None:
    ref = await running(any_queue)
    await any_queue.sql("UPDATE vidqueue.jobs SET cancel_requested_at = now() WHERE id = %s", ref.job_id)
    assert await finish(any_queue.database, storage, ref, success(tmp_path), workspace=tmp_path) == Finished(
        State.CANCELED
    )
    assert (await any_queue.job(ref.job_id)).outputs == []
    assert stored(storage) == 0


@pytest.mark.parametrize("draft", ["missing", "link", "none"])
async def test_a_processor_that_lies_about_its_outputs_fails(
    any_queue: Queue, storage: Storage, tmp_path: Path, draft: str
) -> None:
    ref = await running(any_queue)
    path = tmp_path / draft
    if draft == "link":
        path.symlink_to("/etc/passwd")
    drafts = () if draft == "none" else (OutputDraft("video", path, "video/mp4"),)
    assert await finish(any_queue.database, storage, ref, Succeeded(drafts), workspace=tmp_path) == Finished(
        State.FAILED
    )
    assert (await any_queue.job(ref.job_id)).error_code == "bad_output"
    assert stored(storage) == 0
