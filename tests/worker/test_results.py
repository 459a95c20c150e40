"""The result cache on real lanes: what is known is taken, and whatever is in the way of that only means work."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from tests.factory import Queue
from tests.worker.test_lanes import ended
from vidqueue.db.tables.jobs import JobRow
from vidqueue.job import OutputDraft, State, Succeeded
from vidqueue.jobs import control, retention
from vidqueue.services import Services
from vidqueue.settings.schema import Settings
from vidqueue.worker import results
from vidqueue.worker.guards import Drain
from vidqueue.worker.lanes import open_lanes

pytestmark = pytest.mark.usefixtures("no_orphans")


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"inputs": Settings(inputs={"roots": [tmp_path]}).inputs})


@pytest_asyncio.fixture
async def zoo(queue: Queue, services: Services) -> AsyncIterator[Queue]:
    async with open_lanes(services, Drain()):
        yield queue


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Has a dot for each time that the work was done."""
    return tmp_path / "marker"


@pytest.fixture
def media(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_text("the bytes")
    return path


@pytest.fixture
def repeated(zoo: Queue, marker: Path) -> Callable[..., Any]:
    async def repeat(media: Path | str, **job: Any) -> tuple[JobRow, int]:
        """The job at its end, and how often the work has been done by then."""
        asked = {"act": "repeat", "marker": str(marker), "media": str(media)}
        done = await ended(zoo, await zoo.submit(**({"input": asked} | job)))
        assert done.state is State.SUCCEEDED, done.error_message
        return done, len(marker.read_text())

    return repeat


def contents(services: Services, job: JobRow) -> dict[str, str]:
    return {one["name"]: services.storage.path(UUID(one["file_id"])).read_text() for one in job.outputs}


async def test_the_same_work_is_done_once(
    zoo: Queue, repeated: Any, media: Path, tmp_path: Path, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, runs = await repeated(media)
    assert (runs, first.cached) == (1, False)
    second, runs = await repeated(media)
    assert (runs, second.cached, second.progress, second.attempt) == (1, True, 1, 1)
    facts = ("name", "filename", "media_type", "size", "sha256", "facts")
    assert [[one[key] for key in facts] for one in second.outputs] == [
        [one[key] for key in facts] for one in first.outputs
    ]
    assert contents(services, second) == {"first": "first\n", "text": "the bytes"}
    # Other names of the same bytes, and bytes given inline.
    copy = tmp_path / "copy.txt"
    copy.write_text("the bytes")
    inline = "data:text/plain;base64," + base64.b64encode(b"the bytes").decode()
    for other in (copy, inline, f"vq:jobs/{first.id}/text"):
        job, runs = await repeated(other)
        assert (runs, job.cached) == (1, True), other
    assert await zoo.violations() == []
    told = await zoo.sql("SELECT cached, attempts FROM vidqueue_report.jobs ORDER BY id")
    assert [one["cached"] for one in told] == [False, True, True, True, True]
    (attempt,) = await zoo.sql("SELECT metrics FROM vidqueue.attempts WHERE job_id = %s", second.id)
    assert attempt["metrics"] == {"cached_from": str(first.id)}
    # Nothing is even asked for a processor that is not deterministic.
    monkeypatch.delattr("vidqueue.db.tables.results.known")
    job = await ended(zoo, await zoo.submit(input={"act": "read", "media": str(media)}))
    assert (job.state, job.cached) == (State.SUCCEEDED, False)
    assert await zoo.sql("SELECT 1 FROM vidqueue.results WHERE job_id = %s", job.id) == []


async def test_other_bytes_owners_and_versions_are_other_work_and_so_is_a_wish(
    repeated: Any, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await repeated(media)
    media.write_text("the bites")
    assert (await repeated(media))[1] == 2
    # The name of an input says nothing.
    other = tmp_path / "in.dat"
    other.write_text("the bytes")
    assert (await repeated(other))[1] == 2
    assert (await repeated(other, owner="else"))[1] == 3
    anew, runs = await repeated(other, cache=False)
    assert (runs, anew.cached) == (4, False)
    again, runs = await repeated(other)
    assert (runs, again.cached) == (4, True)
    monkeypatch.setattr(results, "_made_by", lambda kind: (kind.name, "2.0", ""))
    assert (await repeated(other))[1] == 5


async def test_outputs_outlive_the_job_that_made_them_and_those_that_are_gone_mean_work(
    zoo: Queue, repeated: Any, media: Path, services: Services
) -> None:
    await repeated(media, keep_s=0)
    second, _ = await repeated(media)
    gone = await retention.prune(services.database, services.storage, services.settings.retention)
    assert gone["jobs"] == 1
    assert contents(services, second) == {"first": "first\n", "text": "the bytes"}
    third, runs = await repeated(media)
    assert (runs, third.cached) == (1, True), "the second one is known too"
    for job in (second, third):
        await control.delete(services.database, services.storage, job.id, owner="local")
    fourth, runs = await repeated(media)
    assert (runs, fourth.cached) == (2, False)
    stored = services.settings.data_dir / "files"
    assert {path.stat().st_nlink for path in stored.glob("??/*")} == {1}
    assert await zoo.violations() == []
    file_id = UUID(next(one["file_id"] for one in fourth.outputs if one["name"] == "text"))
    services.storage.path(file_id).write_text("cut")
    assert (await repeated(media))[1] == 3
    assert (await repeated(media))[1] == 3, "the newest is whole"
    for path in stored.glob("??/*"):
        path.unlink()
    assert (await repeated(media))[1] == 4


async def test_a_file_that_is_written_to_meanwhile_is_remembered_by_nothing(
    zoo: Queue, repeated: Any, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered = results.remembered

    async def late(*given: Any) -> Any:
        os.utime(media, ns=(1, 1))
        return await remembered(*given)

    monkeypatch.setattr(results, "remembered", late)
    await repeated(media)
    monkeypatch.undo()
    # Nor is a failure.
    asked = {"act": "repeat", "marker": str(media / "no folder"), "media": str(media)}
    job = await ended(zoo, await zoo.submit(input=asked, max_attempts=1))
    assert (job.state, job.cached) == (State.FAILED, False)
    assert await zoo.sql("SELECT 1 FROM vidqueue.results") == []


async def test_what_the_encoder_of_a_gpu_has_made_is_remembered_by_nothing(services: Services, tmp_path: Path) -> None:
    key = results.ResultKey("k", {})
    for encoder, kept in (("h264_nvenc", None), ("libx264", "k")):
        made = Succeeded((OutputDraft("video", tmp_path / "out.mp4", "video/mp4", {"encoder": encoder}),))
        outcome = await results.remembered(made, key, services)
        assert isinstance(outcome, Succeeded)
        assert outcome.key == kept


async def test_many_at_once_take_the_same_bytes(zoo: Queue, repeated: Any, media: Path, services: Services) -> None:
    await repeated(media)
    done = await asyncio.gather(*(repeated(media) for _ in range(8)))
    assert [(runs, job.cached) for job, runs in done] == [(1, True)] * 8
    assert await zoo.violations() == []
    assert services.storage._locked == {}
