"""/metrics: what it tells is what happened, and a scrape costs the same however long the queue is."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from tests.daemon import promised
from tests.factory import Queue, eventually
from vidqueue.api.app import build, end_streams
from vidqueue.db.tables import pauses
from vidqueue.db.tables.pauses import Terms
from vidqueue.job import AttemptRef, Failed, Failure, Interrupted, Outcome, OutputDraft, Succeeded
from vidqueue.jobs.finish import finish
from vidqueue.services import Services

FILL = Path(__file__).parents[2] / "benchmarks" / "fill.sql"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scraped(client: httpx2.AsyncClient, app: Starlette) -> Samples:
    """Every sample of a fresh scrape by its name and labels, as Prometheus' own parser reads them."""
    app.state.metrics._made_at = float("-inf")
    answer = await client.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def of(samples: Samples, name: str, **labels: str) -> dict[Any, float]:
    """The samples of a name that have these labels; their other labels are the key."""
    given = frozenset(labels.items())
    return {
        tuple(value for _, value in sorted(has - given)): number
        for (word, has), number in samples.items()
        if word == f"vidqueue_{name}" and given <= has
    }


@pytest.fixture
async def scraper(app: Starlette) -> AsyncIterator[httpx2.AsyncClient]:
    """A client in the same process, whose application ends with the test."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=True)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as opened:
        yield opened
    end_streams(app)


async def end(services: Services, ref: AttemptRef, outcome: Outcome, workspace: Path | None = None) -> None:
    await finish(services.database, services.storage, ref, outcome, workspace=workspace)


def success(folder: Path) -> Succeeded:
    path = folder / "output.bin"
    path.write_bytes(b"result")
    return Succeeded((OutputDraft("video", path, "video/mp4"),))


async def test_jobs_are_told_by_processor_and_by_the_reason_why_they_wait(
    scraper: httpx2.AsyncClient, app: Starlette, queue: Queue
) -> None:
    lane = await queue.lane()
    await queue.lane("gpu0", "gpu", vram_mb=8000)
    later = datetime.now(UTC) + timedelta(hours=1)
    first = await queue.submit()
    ref = await queue.dispatch(lane)
    assert ref is not None
    for _ in range(3):
        await queue.submit()
    await queue.submit(device="gpu", vram_mb=90_000)
    await queue.submit(lane="elsewhere")
    await queue.submit(run_at=later)
    await queue.submit(input={"video": f"vq:jobs/{first}/video"})
    await queue.sql("UPDATE vidqueue.jobs SET waits_since = now() - interval '90 s' WHERE wanted_lane IS NOT NULL")
    samples = await scraped(scraper, app)
    waiting = {"busy": 3, "no_lane": 2, "scheduled": 1, "dependency": 1}
    assert of(samples, "jobs_waiting", processor="zoo") == {(reason,): jobs for reason, jobs in waiting.items()}
    assert of(samples, "jobs_running") == {("zoo",): 1}
    assert 90 <= of(samples, "oldest_wait_seconds")["zoo",] < 150
    assert of(samples, "lane_busy", host="testhost") == {("cpu", "cpu0"): 1, ("gpu", "gpu0"): 0}
    assert of(samples, "lane_up") == {("cpu", "testhost", "cpu0"): 1, ("gpu", "testhost", "gpu0"): 1}
    async with queue.database.transaction() as connection:
        await pauses.pause(connection, "zoo", Terms())
    paused = {"paused": 5, "scheduled": 1, "dependency": 1}
    found = of(await scraped(scraper, app), "jobs_waiting", processor="zoo")
    assert found == {(reason,): jobs for reason, jobs in paused.items()}


async def test_each_attempt_is_counted_once_with_its_outcome(
    scraper: httpx2.AsyncClient, app: Starlette, queue: Queue, services: Services, tmp_path: Path
) -> None:
    lane = await queue.lane()
    assert of(await scraped(scraper, app), "attempts_total") == {}
    failed = Failed(Failure.of("ffmpeg_failed", "It broke."))
    ends: list[Outcome] = [Interrupted("the daemon shut down"), success(tmp_path), failed, failed, failed]
    await queue.submit()
    await queue.submit(max_attempts=3)
    for outcome in ends:
        await queue.sql("UPDATE vidqueue.jobs SET run_at = now() - interval '1 s' WHERE state = 'queued'")
        ref = await queue.dispatch(lane)
        assert ref is not None
        await queue.begin(ref)
        await end(services, ref, outcome, tmp_path)
    # Put back, and canceled while it waits: its attempt is counted once.
    last = await queue.submit()
    ref = await queue.dispatch(lane)
    assert ref is not None
    await end(services, ref, Interrupted("the daemon shut down"))
    await queue.sql("UPDATE vidqueue.jobs SET state = 'canceled', finished_at = now() WHERE id = %s", last)

    async def counted() -> Samples:
        samples = await scraped(scraper, app)
        return samples if sum(of(samples, "attempts_total").values()) >= 6 else {}

    samples = await eventually(counted)
    by_outcome = {("interrupted",): 2, ("succeeded",): 1, ("failed",): 3}
    assert of(samples, "attempts_total", processor="zoo") == by_outcome
    assert of(samples, "attempt_failures_total", processor="zoo") == {("ffmpeg_failed",): 3}
    assert of(samples, "job_wait_seconds_count") == {("zoo",): 3}
    assert of(samples, "attempt_run_seconds_count") == {("zoo",): 1}
    (ran,) = await queue.sql(
        "SELECT sum(extract(epoch FROM ended_at - started_at))::float8 AS s FROM vidqueue.attempts"
    )
    assert of(samples, "lane_work_seconds_total")["testhost", "cpu0"] == pytest.approx(ran["s"])
    assert of(samples, "event_delay_seconds")[()] < 5


async def test_the_gauges_that_a_lane_writes_are_told_while_it_is_online(
    scraper: httpx2.AsyncClient, app: Starlette, queue: Queue
) -> None:
    lane = await queue.lane("gpu0", "gpu", vram_mb=8192)
    await queue.sql("INSERT INTO vidqueue.lane_gauges VALUES (%s, now(), 7, 4096, 50, 61, 250.5)", lane)
    samples = await scraped(scraper, app)
    told = {name: of(samples, name)["testhost", "gpu0"] for name in GPU_NAMES}
    assert told == dict(zip(GPU_NAMES, (8192 << 20, 4096 << 20, 0.5, 61, 250.5), strict=True))
    assert of(samples, "executor_starts_total") == {("gpu", "testhost", "gpu0"): 7}
    await queue.sql("UPDATE vidqueue.lanes SET state = 'offline', blocked_by = 'gpu_lost'")
    samples = await scraped(scraper, app)
    assert of(samples, "gpu_utilization_ratio") == {}
    assert of(samples, "lane_up") == {("gpu", "testhost", "gpu0"): 0}
    assert of(samples, "lane_blocked", reason="gpu_lost") == {("gpu", "testhost", "gpu0"): 1}


GPU_NAMES = [
    f"gpu_{name}"
    for name in ("memory_bytes", "memory_used_bytes", "utilization_ratio", "temperature_celsius", "power_watts")
]


async def test_webhooks_pools_and_disk_are_told(
    scraper: httpx2.AsyncClient, app: Starlette, queue: Queue, services: Services
) -> None:
    services.pools["people"] = services.database
    await queue.submit(webhook={"url": "https://example.org/secret-path"})
    await queue.sql("UPDATE vidqueue.jobs SET state = 'canceled', finished_at = now()")
    samples = await scraped(scraper, app)
    assert of(samples, "webhooks_pending") == {(): 1}
    assert of(samples, "webhooks_oldest_seconds")[()] > 0
    assert of(samples, "pool_connections", pool="people")[()] >= 1
    assert of(samples, "disk_size_bytes")[()] >= of(samples, "disk_free_bytes")[()] > 0
    assert not [name for name, labels in samples if "secret-path" in f"{name}{labels}"]


async def test_without_its_database_the_process_still_tells_of_itself(
    scraper: httpx2.AsyncClient, app: Starlette, services: Services
) -> None:
    await services.database.pool.close()
    samples = await scraped(scraper, app)
    assert of(samples, "database_up") == {(): 0}
    assert of(samples, "jobs_waiting") == {}
    assert of(samples, "info")


async def test_the_page_about_metrics_names_each_of_them_and_no_other(
    scraper: httpx2.AsyncClient, queue: Queue, services: Services
) -> None:
    services.pools["people"] = services.database
    await queue.submit()
    answer = await scraper.get("/metrics")
    told = {re.sub(r"_created$", "", name) for name in re.findall(r"^# TYPE (vidqueue_\w+)", answer.text, re.MULTILINE)}
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    table = "\n".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `vidqueue_"))
    assert set(re.findall(r"`(vidqueue_\w+)`", table)) == told


async def test_scrapes_at_once_share_one_answer(scraper: httpx2.AsyncClient, queue: Queue) -> None:
    answers = await asyncio.gather(*(scraper.get("/metrics") for _ in range(8)))
    assert len({answer.content for answer in answers}) == 1
    await queue.submit()
    assert (await scraper.get("/metrics")).content == answers[0].content


@pytest.mark.slow
async def test_a_scrape_of_a_hundred_thousand_jobs_takes_milliseconds(services: Services, database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        cursor = psycopg.AsyncClientCursor(connection)
        await cursor.execute(FILL.read_bytes(), {"finished": 2_000, "waiting": 98_000})
        await connection.execute("VACUUM ANALYZE")
    app = build(services)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=True)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        samples = await scraped(client, app)
        assert sum(of(samples, "jobs_waiting").values()) == 98_000
        took = []
        for _ in range(20):
            began = time.monotonic()
            await scraped(client, app)
            took.append(time.monotonic() - began)
    end_streams(app)
    assert statistics.median(took) < promised(0.02)
