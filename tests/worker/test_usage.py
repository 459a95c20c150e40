"""What a job was made of and what its attempts have used stands in the database, however they end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from tests.factory import Queue, eventually
from vidqueue.db.tables.jobs import JobRow
from vidqueue.job import FINAL
from vidqueue.media.sample import make_sample
from vidqueue.services import Services
from vidqueue.worker.executor.messages import Used
from vidqueue.worker.executor.meter import Meter
from vidqueue.worker.guards import Drain
from vidqueue.worker.lanes import open_lanes


@pytest_asyncio.fixture
async def lanes(services: Services, no_orphans: None) -> AsyncIterator[None]:
    del no_orphans
    async with open_lanes(services, Drain()):
        yield


async def ended(queue: Queue, job_id: UUID) -> JobRow:
    async def final() -> JobRow | None:
        job = await queue.job(job_id)
        return job if job.state in FINAL else None

    return await eventually(final, within_s=60)  # type: ignore[no-any-return]


@pytest.mark.usefixtures("lanes")
async def test_the_views_tell_what_a_job_was_made_of_and_what_it_has_used(queue: Queue, tmp_path: Path) -> None:
    clip = tmp_path / "Holiday, day 1 é.mp4"
    make_sample(clip, seconds=3)
    done = await queue.submit(processor="transcode", input={"video": str(clip)})
    assert (await ended(queue, done)).state == "succeeded"
    (job,) = await queue.sql("SELECT * FROM vidqueue_report.jobs WHERE id = %s", done)
    assert (job["source"], job["input_bytes"], job["gpu_s"]) == (clip.name, clip.stat().st_size, 0)
    assert job["video_s"] == pytest.approx(3, abs=0.1)
    assert 0 < job["cpu_s"] < 60
    assert 0 < job["lane_s"] <= job["ran_s"] + 1
    (attempt,) = await queue.sql("SELECT * FROM vidqueue_report.attempts WHERE job_id = %s", done)
    assert {word: attempt[word] for word in ("input_bytes", "cpu_s", "lane_s")} == {
        word: job[word] for word in ("input_bytes", "cpu_s", "lane_s")
    }


@pytest.mark.usefixtures("lanes")
async def test_an_attempt_whose_executor_is_killed_has_used_what_it_has_used(queue: Queue) -> None:
    failed = await queue.submit(input={"act": "raise"}, lane="cpu0", max_attempts=1)
    assert (await ended(queue, failed)).error_code == "processor_error"
    # Its executor is warm, and begins at once.
    killed = await queue.submit(input={"act": "ignore_cancel"}, lane="cpu0", timeout_s=2, max_attempts=1)
    assert (await ended(queue, killed)).state == "failed"
    used = await queue.sql("SELECT job_id, cpu_s FROM vidqueue_report.attempts")
    assert {one["job_id"] for one in used if one["cpu_s"] is not None} == {failed, killed}


def test_what_an_executor_tells_of_its_cpu_time_is_shared_out_among_its_attempts() -> None:
    meter, nobody = Meter(), 1 << 30
    meter.begin(nobody)
    taken = []
    for so_far_s in (1.5, 2.0, 0.0):  # 0: from an executor that tells nothing
        meter.reset()
        meter.start(nobody)
        meter.hear(Used(0, 0.0, cpu_s=so_far_s))
        meter.read()  # in /proc there is nothing either
        taken.append(meter.total("zoo").cpu_s)
    assert taken == [1.5, 0.5, None]


CASES = {
    "/srv/films/in.mp4": "in.mp4",
    "/srv/films/folder/": "folder",
    "https://example.org/a/b%20c.mp4?token=secret#t=5": "b%20c.mp4",
    "https://example.org": None,
    "HTTPS://example.org/x.mov": "x.mov",
    "vq:files/{file}": "Ünï 🎬.mkv",
    "vq:files/{other}": None,
    "vq:files/{missing}": None,
    "plain words": None,
    "": None,
    "/": None,
    "/" + "x" * 400: "x" * 255,
}


@pytest.mark.parametrize("given", CASES)
async def test_a_job_knows_the_name_of_the_file_that_it_reads(any_queue: Queue, given: str) -> None:
    ids = {word: uuid4() for word in ("file", "other", "missing")}
    for word, owner in (("file", "local"), ("other", "somebody")):
        query = """INSERT INTO vidqueue.files (id, owner, name, media_type, size, sha256)
            VALUES (%s, %s, 'Ünï 🎬.mkv', 'video/mp4', 1, repeat('0', 64))"""
        await any_queue.sql(query, ids[word], owner)
    reference = given.format(**ids)
    first = await any_queue.submit(input={"video": reference, "title": "not the name"}, title="a title")
    listed = await any_queue.submit(input={"a": 1, "clips": [{"media": reference}, {"media": "/srv/second.mp4"}]})
    after = await any_queue.submit(input={"audio": "/srv/sound.wav", "video": f"vq:jobs/{first}/video"})
    name = CASES[given]
    assert [(await any_queue.job(one)).source for one in (first, listed, after)] == [
        name, name or "second.mp4", name or "sound.wav",
    ]  # fmt: skip
    assert (await any_queue.job(first)).title == "a title"
