"""What an attempt reports: thinned, never lost, and costing nothing where there is nothing to tell."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from tests.factory import Queue, eventually
from vidqueue.db.pool import Database
from vidqueue.errors import VidqueueError
from vidqueue.job import AttemptRef
from vidqueue.progress import LogLine, Progress, Throttle
from vidqueue.worker.reporter import MOST_STAGES, Reporter


async def running(queue: Queue) -> AttemptRef:
    await queue.submit()
    ref = await queue.dispatch(await queue.lane())
    assert ref is not None
    return ref


async def test_the_last_report_of_a_burst_is_written_although_silence_follows(queue: Queue) -> None:
    ref = await running(queue)
    reporter = Reporter(queue.database, ref, max_log_lines=10)

    async def is_written(fraction: float) -> bool:
        return round((await queue.job(ref.job_id)).progress, 2) == fraction

    reporter.hear(Progress(0.01, stage="encode"))
    await eventually(partial(is_written, 0.01))
    # All of them come too soon after the first one.
    for percent in range(2, 91):
        reporter.hear(Progress(percent / 100, stage="encode"))
    await eventually(partial(is_written, 0.9))
    await reporter.close(succeeded=False)
    told = await queue.sql("SELECT count(*) AS n FROM vidqueue.events WHERE kind = 'progress'")
    assert told[0]["n"] <= 3, "ninety reports at once are no ninety events"


async def test_stages_without_end_are_steps_and_take_no_memory(queue: Queue) -> None:
    now = 0.0
    reporter = Reporter(queue.database, await running(queue), max_log_lines=10, clock=lambda: now)
    for now in map(float, range(3 * MOST_STAGES)):
        reporter.hear(Progress(0.5, stage=f"frame {now:.0f}"))
        assert reporter.heard_at == now
    assert len(reporter._stages) <= MOST_STAGES
    heard_at, now = now, 1e9
    reporter.hear(Progress(0.5, stage=f"frame {heard_at:.0f}"))
    assert reporter.heard_at == heard_at, "to repeat itself is no step"
    await reporter.close(succeeded=True)


async def test_an_attempt_that_reports_nothing_writes_nothing(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = await running(queue)
    monkeypatch.delattr(type(queue.database), "statement")
    reporter = Reporter(queue.database, ref, max_log_lines=10)
    await reporter.close(succeeded=True)


async def test_lines_of_the_log_are_written_at_the_end_of_an_attempt_also_after_a_success(queue: Queue) -> None:
    ref = await running(queue)
    reporter = Reporter(queue.database, ref, max_log_lines=10)
    reporter.hear(LogLine("nearly done"))
    reporter.hear(Progress(0.99, stage="encode"))
    await reporter.close(succeeded=True)
    assert await queue.sql("SELECT text FROM vidqueue.attempt_logs") == [{"text": "nearly done"}]
    assert (await queue.job(ref.job_id)).progress == 0


async def test_of_a_log_that_is_too_long_the_first_and_the_last_lines_are_kept(queue: Queue) -> None:
    """The last lines of a talkative program say why it failed."""
    ref = await running(queue)
    reporter = Reporter(queue.database, ref, max_log_lines=10)
    for number in range(50):
        reporter.hear(LogLine(f"line {number}"))
    await reporter.close(succeeded=False)
    lines = [line["text"] for line in await queue.sql("SELECT text FROM vidqueue.attempt_logs ORDER BY number")]
    assert lines == [
        *(f"line {number}" for number in range(6)),
        "The log is long: the last 2 lines follow when the attempt has ended.",
        "42 lines are left out here.",
        "line 48",
        "line 49",
    ]


async def test_a_log_that_just_fits_loses_no_line(queue: Queue) -> None:
    ref = await running(queue)
    reporter = Reporter(queue.database, ref, max_log_lines=10)
    for number in range(8):
        reporter.hear(LogLine(f"line {number}"))
    await reporter.close(succeeded=False)
    lines = [line["text"] for line in await queue.sql("SELECT text FROM vidqueue.attempt_logs ORDER BY number")]
    assert [line for line in lines if line.startswith("line ")] == [f"line {number}" for number in range(8)]
    assert not any("left out" in line for line in lines)


class AnswerLost:
    """Commits, and then hangs or fails before the caller knows."""

    def __init__(self, inner: Any, committed: asyncio.Event, *, fails: bool) -> None:
        self.inner, self.committed, self.fails = inner, committed, fails

    async def __aenter__(self) -> Any:
        return await self.inner.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        await self.inner.__aexit__(*error)
        self.committed.set()
        if self.fails:
            raise VidqueueError("database_unavailable", "the answer was lost")
        await asyncio.sleep(3600)


@pytest.mark.parametrize("fails", [True, False])
async def test_no_line_is_written_twice_when_a_write_is_cancelled_or_its_answer_is_lost(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    ref, committed, real = await running(queue), asyncio.Event(), Database.statement
    reporter = Reporter(queue.database, ref, max_log_lines=10)
    reporter.hear(LogLine("first"))
    reporter.hear(LogLine("second"))
    with monkeypatch.context() as losing:
        losing.setattr(Database, "statement", lambda self: AnswerLost(real(self), committed, fails=fails))
        writing = asyncio.create_task(reporter._try_to_write())
        await committed.wait()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    reporter.hear(LogLine("third"))
    await reporter.close(succeeded=False)
    reporter.hear(LogLine("fourth"))
    await reporter.close(succeeded=False)
    lines = await queue.sql("SELECT text FROM vidqueue.attempt_logs ORDER BY number")
    assert [line["text"] for line in lines] == ["first", "second", "third", "fourth"]


def test_a_change_of_stage_waits_less_than_a_step_of_the_same() -> None:
    throttle = Throttle(interval_s=0.5, least_s=0.1)
    assert throttle.due_at(Progress(0, stage="decode")) == float("-inf")
    throttle.wrote(Progress(0, stage="decode"), 10.0)
    assert throttle.due_at(Progress(0.1, stage="decode")) == 10.5
    assert throttle.due_at(Progress(0.1, stage="encode")) == 10.1
