"""The command of [notify] is run when a job has ended and when too many wait, and holds nobody up."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, until
from tests.factory import Queue, eventually
from vidqueue.jobs import notify
from vidqueue.jobs.notify import Notifier
from vidqueue.ops.supervise import supervise
from vidqueue.services import Services
from vidqueue.settings.sections import NotifySettings

# Writes what it was told, with its variables; what `act` says comes after.
SCRIPT = """#!/usr/bin/env python3
import json, os, sys, time
told = json.load(sys.stdin)
with open({out!r}, "a") as out:
    out.write(json.dumps(told | {{"variables": dict(os.environ)}}) + "\\n")
{act}
"""
FINISH = """UPDATE vidqueue.jobs SET state = 'running', fence = 1 WHERE id = %s"""
ENDS = {
    "succeeded": "UPDATE vidqueue.jobs SET state = 'succeeded', fence = NULL, finished_at = now() WHERE id = %s",
    "failed": "UPDATE vidqueue.jobs SET state = 'failed', fence = NULL, finished_at = now(),"
    " error_code = 'ffmpeg_failed', error_message = 'It broke.' WHERE id = %s",
}


@dataclass(frozen=True)
class Told:
    """What the command has been told so far."""

    notifier: Notifier
    out: Path

    def __call__(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text().splitlines()] if self.out.exists() else []


Notifying = Callable[..., AbstractAsyncContextManager[Told]]


@pytest.fixture
def notifying(services: Services, tmp_path: Path) -> Notifying:
    @asynccontextmanager
    async def open_(act: str = "", **more: Any) -> AsyncIterator[Told]:
        out, script = tmp_path / "told", tmp_path / "tell"
        script.write_text(SCRIPT.format(out=str(out), act=act))
        script.chmod(0o755)
        settings = NotifySettings(**({"command": [str(script)]} | more))
        notifier = Notifier(services.database, services.event_feed, settings)
        task = supervise(notifier.run, "notify")
        try:
            yield Told(notifier, out)
        finally:
            task.cancel()

    return open_


async def end(queue: Queue, state: str, **job: Any) -> str:
    job_id = await queue.submit(**job)
    await queue.sql(FINISH, job_id)
    await queue.sql(ENDS[state], job_id)
    return str(job_id)


async def test_the_ends_of_jobs_are_told_with_what_is_known_of_them_and_no_secret(
    queue: Queue, notifying: Notifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDQUEUE_DATABASE__URL", "postgresql://me:secret@db/x")
    async with notifying() as told:
        good = await end(queue, "succeeded", title="a 'title'", input={"video": "/srv/in.mp4"})
        bad = await end(queue, "failed")

        async def both() -> list[dict[str, Any]]:
            return found if len(found := told()) == 2 else []

        first, second = await eventually(both)
    assert {name: first[name] for name in ("occasion", "job_id", "title", "source", "processor", "owner")} == {
        "occasion": "success",
        "job_id": good,
        "title": "a 'title'",
        "source": "in.mp4",
        "processor": "zoo",
        "owner": "local",
    }
    assert first["variables"]["NOTIFY_TITLE"] == "a 'title'"
    assert (second["occasion"], second["job_id"], second["error_code"]) == ("failure", bad, "ffmpeg_failed")
    assert second["variables"]["NOTIFY_ERROR_MESSAGE"] == "It broke."
    assert "secret" not in json.dumps([first, second])


async def test_a_backlog_is_told_once_until_it_was_short_again(
    queue: Queue, notifying: Notifying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "POLL_S", 0.1)
    async with notifying(backlog=3, on=["backlog"]) as told:
        for times in (1, 2):
            for _ in range(5):
                await queue.submit()

            async def count(times: int = times) -> bool:
                return len(told()) == times

            await eventually(count)
            await queue.sql("UPDATE vidqueue.jobs SET state = 'canceled', finished_at = now() WHERE state = 'queued'")

            async def short() -> bool:
                return not told.notifier._backlog_told

            await eventually(short)
        assert [one["waiting"] >= 3 for one in told()] == [True, True]


async def test_a_command_that_hangs_or_cannot_be_started_holds_up_nothing_but_itself(
    queue: Queue, notifying: Notifying
) -> None:
    async with notifying(act="time.sleep(60) if told['occasion'] == 'failure' else None", timeout_s=2) as told:
        await end(queue, "failed")
        await end(queue, "succeeded")

        async def both() -> bool:
            return [one["occasion"] for one in told()] == ["failure", "success"]

        await eventually(both)
    async with notifying(command=["/nowhere/at/all"]):
        await end(queue, "failed")


def test_a_daemon_with_a_command_runs_it(tmp_path: Path) -> None:
    script = tmp_path / "tell"
    script.write_text(SCRIPT.format(out=str(tmp_path / "told"), act=""))
    script.chmod(0o755)
    daemon = Daemon(tmp_path / "data", VIDQUEUE_NOTIFY__COMMAND=json.dumps([str(script)])).start()
    try:
        job_id = daemon.submit(act="work")
        until((tmp_path / "told").exists)
        daemon.ended(job_id)
        (told,) = until(lambda: [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()])
        assert (told["occasion"], told["job_id"]) == ("success", job_id)
    finally:
        assert daemon.stop() == 0
