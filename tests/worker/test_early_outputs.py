"""Outputs that are published while the job runs, and previews: public at once, and gone with an attempt that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import pytest_asyncio

from tests.factory import Queue, eventually
from vidqueue.db.tables import outputs
from vidqueue.db.tables.jobs import JobRow
from vidqueue.job import FINAL, AttemptRef, Canceled, Interrupted, OutputDraft, State
from vidqueue.jobs import control, early_outputs
from vidqueue.jobs.finish import finish
from vidqueue.progress import PREVIEW_BYTES, is_preview
from vidqueue.services import Services
from vidqueue.storage.local import Storage
from vidqueue.worker.guards import Drain
from vidqueue.worker.lanes import open_lanes

pytestmark = pytest.mark.usefixtures("no_orphans")


@pytest_asyncio.fixture
async def zoo(queue: Queue, services: Services) -> AsyncIterator[Queue]:
    """A queue with lanes at work."""
    async with open_lanes(services, Drain()):
        yield queue


async def act(zoo: Queue, name: str, marker: Path, **job: Any) -> UUID:
    values = {"input": {"act": name, "marker": str(marker)}, "max_attempts": 1} | job
    return await zoo.submit(**values)


async def ended(zoo: Queue, job_id: UUID) -> JobRow:
    async def final() -> JobRow | None:
        job = await zoo.job(job_id)
        return job if job.state in FINAL else None

    return await eventually(final)  # type: ignore[no-any-return]


async def published(zoo: Queue, job_id: UUID) -> bool:
    return [one["name"] for one in (await zoo.job(job_id)).outputs] == ["first", "second"]


def stored(services: Services) -> list[Path]:
    return list((services.settings.data_dir / "files").glob("??/*"))


async def test_outputs_are_public_while_the_job_runs_with_an_event_each(
    zoo: Queue, services: Services, tmp_path: Path
) -> None:
    job_id = await act(zoo, "publish", tmp_path / "on")
    await eventually(lambda: published(zoo, job_id))
    assert (await zoo.job(job_id)).state is State.RUNNING
    told = await zoo.sql(
        "SELECT data FROM vidqueue.events WHERE job_id = %s AND kind = 'output' ORDER BY number", job_id
    )
    assert [one["data"]["output"] for one in told] == ["first", "second"]
    assert told[0]["data"] == {"attempt": 1, "output": "first", "media_type": "text/plain", "size": 6}
    assert {path.read_text() for path in stored(services)} == {"first\n", "second\n"}
    assert await zoo.violations() == []
    (tmp_path / "on").touch()
    job = await ended(zoo, job_id)
    assert (job.state, [one["name"] for one in job.outputs]) == (State.SUCCEEDED, ["first", "second", "text"])
    assert await zoo.violations() == []


async def test_early_outputs_may_be_all_there_is_and_obey_the_same_rules(
    zoo: Queue, services: Services, tmp_path: Path
) -> None:
    job = await ended(zoo, await act(zoo, "publish_only", tmp_path / "unused"))
    assert (job.state, [one["name"] for one in job.outputs]) == (State.SUCCEEDED, ["text"])
    for name in ("publish_twice", "publish_stray"):
        job = await ended(zoo, await act(zoo, name, tmp_path / "unused"))
        assert (job.state, job.error_code, job.outputs) == (State.FAILED, "bad_output", [])

    async def only_one() -> bool:
        return len(stored(services)) == 1 and not await zoo.sql("SELECT 1 FROM vidqueue.discarded_files")

    await eventually(only_one)


async def _nothing_left(zoo: Queue, services: Services) -> bool:
    rows = await zoo.sql("SELECT 1 FROM vidqueue.files UNION ALL SELECT 1 FROM vidqueue.discarded_files")
    return not rows and not stored(services)


async def test_an_attempt_that_does_not_succeed_takes_its_outputs_back(
    zoo: Queue, services: Services, tmp_path: Path
) -> None:
    for how in ("canceled", "failed"):
        job_id = await act(zoo, "publish_and_fail", tmp_path / "on")
        await eventually(partial(published, zoo, job_id))
        if how == "canceled":
            await control.cancel(services.database, job_id, owner=None)
        else:
            (tmp_path / "on").touch()
        job = await ended(zoo, job_id)
        assert (job.state.value, job.outputs) == (how, [])
        await eventually(lambda: _nothing_left(zoo, services))
    assert await zoo.violations() == []


async def test_the_next_attempt_may_publish_the_same_names(zoo: Queue, services: Services, tmp_path: Path) -> None:
    (tmp_path / "on").touch()
    job = await ended(zoo, await act(zoo, "publish_and_die", tmp_path / "on", max_attempts=3))
    assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
    assert [one["name"] for one in job.outputs] == ["first", "second", "text"]

    async def only_three() -> bool:
        return len(stored(services)) == 3

    await eventually(only_three)
    assert await zoo.violations() == []


async def begun(queue: Queue) -> AttemptRef:
    """An attempt in the hands of this test."""
    await queue.submit()
    ref = await queue.dispatch(await queue.lane())
    assert ref is not None
    await queue.begin(ref)
    return ref


def draft(folder: Path, name: str = "first") -> OutputDraft:
    (folder / name).write_text(name)
    return OutputDraft(name, folder / name, "text/plain")


async def test_a_zombie_publishes_nothing_and_shows_nothing(queue: Queue, services: Services, tmp_path: Path) -> None:
    ref = await begun(queue)
    await finish(services.database, services.storage, ref, Interrupted("it was silent", lost=True))
    public = await early_outputs.publish_early(
        services.database, services.storage, ref, draft(tmp_path), workspace=tmp_path, processor="zoo"
    )
    async with services.database.statement() as connection:
        await outputs.save_preview(connection, ref, b"x")
    assert not public
    assert await queue.sql("SELECT 1 FROM vidqueue.previews") == []
    await eventually(lambda: _nothing_left(queue, services))


async def test_a_commit_whose_answer_was_lost_publishes_once(queue: Queue, services: Services) -> None:
    ref = await begun(queue)
    row = {"name": "first", "id": str(uuid4()), "filename": "zoo-first.txt", "media_type": "text/plain", "size": 1,
           "sha256": "0" * 64, "facts": {}, "node": str(services.storage.node)}  # fmt: skip
    for _ in range(2):
        async with services.database.statement() as connection:
            assert await outputs.publish(connection, ref, row)
    assert len(await queue.sql("SELECT 1 FROM vidqueue.events WHERE kind = 'output'")) == 1


async def test_what_another_daemon_took_back_is_removed_by_the_daemon_of_the_folder(
    queue: Queue, services: Services, tmp_path: Path
) -> None:
    ref = await begun(queue)
    await early_outputs.publish_early(
        services.database, services.storage, ref, draft(tmp_path), workspace=tmp_path, processor="zoo"
    )
    elsewhere = Storage(tmp_path / "elsewhere")
    await finish(services.database, elsewhere, ref, Interrupted("its daemon is gone", lost=True))
    assert len(stored(services)) == 1
    assert await early_outputs.remove_discarded(services.database, services.storage) == 1
    assert await _nothing_left(queue, services)


async def test_a_cancel_wins_over_an_output_that_comes_later(queue: Queue, services: Services, tmp_path: Path) -> None:
    ref = await begun(queue)
    await control.cancel(services.database, ref.job_id, owner=None)
    assert not await early_outputs.publish_early(
        services.database, services.storage, ref, draft(tmp_path), workspace=tmp_path, processor="zoo"
    )
    await finish(services.database, services.storage, ref, Canceled())
    assert (await queue.job(ref.job_id)).outputs == []


async def test_previews_are_thinned_shown_and_gone_with_the_attempt(
    zoo: Queue, services: Services, tmp_path: Path
) -> None:
    async def shown() -> bytes | None:
        async with services.database.statement() as connection:
            return await outputs.preview(connection, job_id, owner="local")

    async def another() -> bool:
        return await shown() not in (None, first)

    job_id = await act(zoo, "show", tmp_path / "on")
    first = await eventually(shown)
    assert is_preview(first)
    await eventually(another)
    async with services.database.statement() as connection:
        assert await outputs.preview(connection, job_id, owner="somebody else") is None
    (tmp_path / "on").touch()
    assert (await ended(zoo, job_id)).state is State.SUCCEEDED
    assert await shown() is None
    assert await zoo.sql("SELECT 1 FROM vidqueue.previews") == []
    assert (
        await zoo.sql("SELECT 1 FROM vidqueue.events WHERE kind NOT IN ('queued', 'running', 'progress', 'succeeded')")
        == []
    )


def test_what_is_a_preview() -> None:
    assert is_preview(b"\xff\xd8\xff\xe0 \xff\xd9")
    assert not is_preview(b"\x89PNG")
    assert not is_preview(b"\xff\xd8\xff" + b"x" * PREVIEW_BYTES + b"\xff\xd9")


async def test_the_database_takes_no_larger_preview(queue: Queue, services: Services) -> None:
    ref = await begun(queue)
    with pytest.raises(psycopg.errors.CheckViolation):
        async with services.database.statement() as connection:
            await outputs.save_preview(connection, ref, b"x" * (PREVIEW_BYTES + 1))
