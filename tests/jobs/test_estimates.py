"""Waiting jobs say when they will be done, by what jobs of their processor and size took."""

from __future__ import annotations

import json
import random
import statistics
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from tests.factory import Queue
from vidqueue.api.app import build, end_streams
from vidqueue.db.tables.estimates import InLine, Sample
from vidqueue.db.tables.lanes import LaneRow
from vidqueue.job import Device, OutputDraft, Succeeded, Usage
from vidqueue.jobs.estimates import RunTimes, foretell
from vidqueue.jobs.finish import finish
from vidqueue.services import Services

MIB = 1 << 20
# Processor, name, bytes, seconds of CPU, seconds by the clock.
RECORDED = json.loads(Path(__file__).with_name("recorded_batch.json").read_text())
NOW = datetime.now(UTC)


def mixed_batch(seed: int) -> list[Sample]:
    """A batch of three processors on files from 1 MiB to 2 GiB; each has a start, a pace, and a scatter of a fifth."""
    dice = random.Random(seed)
    paces = {"transcode": (2, 0.5), "enhance": (6, 3.0), "thumbnails": (1, 0.02)}
    batch = []
    for _ in range(120):
        processor = dice.choice(sorted(paces))
        start_s, pace = paces[processor]
        size = int(MIB * 2 ** dice.uniform(0, 11))
        batch.append(Sample(processor, (start_s + pace * size / MIB) * dice.uniform(0.8, 1.2), size))
    return batch


@pytest.mark.parametrize("seed", range(5))
def test_the_median_error_on_a_mixed_batch_is_within_a_quarter(seed: int) -> None:
    assert statistics.median(errors_of(mixed_batch(seed), 30)) <= 0.25


def errors_of(batch: list[Sample], start: int) -> list[float]:
    """How far each sample from `start` on is off what is expected after those before it, as a share of what it took."""
    errors = []
    for place, sample in enumerate(batch[start:], start):
        before = batch[:place]
        if sum(one.processor == sample.processor for one in before) >= 3:
            expected_s = RunTimes(before[::-1]).expected_s(sample.processor, sample.input_bytes)
            assert expected_s is not None
            errors.append(abs(expected_s - sample.run_s) / sample.run_s)
    return errors


def test_the_median_error_on_a_recorded_batch_is_within_a_quarter() -> None:
    """A run of transcode, thumbnails and verify on real clips of 2 to 12 s, 480x360 to 1920x1080, in random order.

    The machine had seven times the work that its cores could do, so the CPU time of each attempt is what it would have
    taken alone.
    """
    errors = errors_of([Sample(processor, cpu_s, size) for processor, _, size, cpu_s, _ in RECORDED], 10)
    assert len(errors) >= 60
    assert statistics.median(errors) <= 0.25


def test_the_times_of_the_clock_are_foretold_while_the_load_falls() -> None:
    """The same batch by the clock: attempts took 7 times their CPU time at its beginning, and twice at its end."""
    errors = errors_of([Sample(processor, run_s, size) for processor, _, size, _, run_s in RECORDED], 10)
    # By what such jobs had taken before, without the pace of the newest attempts, it was 0.42.
    assert statistics.median(errors) <= 0.38


@pytest.mark.parametrize("factor", [3.0, 0.4])
def test_estimates_follow_a_machine_that_gets_slower_or_faster(factor: float) -> None:
    before = [sample for seed in (1, 2) for sample in mixed_batch(seed)]
    after = [replace(sample, run_s=sample.run_s * factor) for sample in mixed_batch(3)]
    # Once five attempts have shown it.
    assert statistics.median(errors_of(before + after, len(before) + 6)[:60]) <= 0.25
    # What is an hour old says nothing of the present.
    old = [replace(sample, ago_s=4000.0) for sample in after[:10]]
    assert RunTimes([*old, *before]).pace == 1


def test_attempts_that_scatter_are_no_pace_of_the_machine() -> None:
    usual = [Sample("a", 10.0, None) for _ in range(200)]
    assert RunTimes([*(Sample("a", run_s, None) for run_s in (3, 40, 9, 12, 30, 4, 11)), *usual]).pace == 1
    # Too few, and as many as tell.
    assert RunTimes([Sample("a", 30.0, None)] * 4 + usual).pace == 1
    assert RunTimes([Sample("a", 30.0, None)] * 9 + usual).pace == pytest.approx(3)


def test_without_a_size_the_median_counts_and_without_a_run_nothing_is_known() -> None:
    times = RunTimes([Sample("a", run_s, None) for run_s in (1, 2, 30)])
    assert (times.expected_s("a", None), times.expected_s("a", MIB), times.expected_s("b", None)) == (2, 2, None)
    assert RunTimes([]).expected_s("a", 1) is None


def lane(name: str, device: Device = "cpu", **more: Any) -> LaneRow:
    values: dict[str, Any] = dict.fromkeys(LaneRow.__slots__) | {
        "id": UUID(int=hash(name) % (1 << 64)), "name": name, "device": device, "takes": [device], "paused": False,
    }  # fmt: skip
    return LaneRow(**(values | more))


def job(number: int, processor: str = "a", device: Device = "cpu", **more: Any) -> InLine:
    values: dict[str, Any] = {"wanted_lane": None, "input_bytes": None}
    return InLine(UUID(int=number), processor, device, **(values | more))


TIMES = RunTimes([Sample("a", 10, None), Sample("b", 100, None), Sample("c", 1000, None)])


def told(line: list[InLine], online: list[LaneRow]) -> dict[int, float]:
    return {id_.int: done for id_, done in foretell(line, online, TIMES, NOW).items()}


def test_a_job_is_done_after_those_before_it_on_the_first_lane_that_is_free() -> None:
    busy = lane("cpu0", job_id=UUID(int=99), processor="b", started_at=NOW - timedelta(seconds=60))
    assert told([job(1), job(2), job(3), job(4)], [busy]) == {1: 50, 2: 60, 3: 70, 4: 80}
    assert told([job(1), job(2), job(3, "b"), job(4)], [busy, lane("cpu1")]) == {1: 10, 2: 20, 3: 120, 4: 50}
    running = lane("cpu0", job_id=UUID(int=99), processor="b", eta_s=7.0, started_at=NOW)
    assert told([job(1)], [running]) == {1: 17}
    late = lane("cpu0", job_id=UUID(int=99), processor="a", started_at=NOW - timedelta(hours=1))
    assert told([job(1)], [late]) == {1: 10}


def test_a_job_that_no_lane_can_take_now_has_no_time_and_one_that_never_ran_only_delays_others() -> None:
    online = [lane("cpu0"), lane("cpu1", paused=True), lane("gpu0", "gpu", blocked_by="gpu_lost")]
    line = [job(1, wanted_lane="cpu1"), job(2, device="gpu"), job(3, "new"), job(4)]
    assert told(line, online) == {4: 110}
    assert told(line, []) == {}
    assert foretell(line, online, RunTimes([]), NOW) == {}


async def test_a_job_that_waits_tells_its_eta_and_one_that_has_no_place_tells_none(
    services: Services, queue: Queue, tmp_path: Path
) -> None:
    lane_id = await queue.lane()
    # Those that found their result known took no time, and teach nothing.
    for number, size in enumerate((1, 1, 1, 10, 10, 10, 0, 0, 0, 0, 0, 0, 0)):
        await queue.submit()
        ref = await queue.dispatch(lane_id)
        assert ref is not None
        await queue.begin(ref)
        await queue.sql(
            "UPDATE vidqueue.attempts SET started_at = now() - make_interval(secs => %s) WHERE ended_at IS NULL",
            size * 5,
        )
        path = tmp_path / f"{number}.bin"
        path.write_bytes(b"x")
        draft = OutputDraft("video", path, "video/mp4")
        usage = Usage(input_bytes=(size or 10) * MIB, expected_s=size * 5.5 or None)
        outcome = Succeeded((draft,), {} if size else {"cached_from": "another"})
        await finish(services.database, services.storage, ref, outcome, workspace=tmp_path, usage=usage)
    (file,) = await queue.sql(
        """INSERT INTO vidqueue.files (owner, name, media_type, size, sha256)
           VALUES ('local', 'a.mp4', 'video/mp4', %s, repeat('0', 64)) RETURNING id""", 10 * MIB,
    )  # fmt: skip
    large = await queue.submit(input={"video": f"vq:files/{file['id']}"})
    unsized = await queue.submit()
    later = await queue.submit(run_at=datetime.now(UTC) + timedelta(hours=1))
    app = build(services)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=True)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        etas = {one["id"]: one["eta_s"] for one in (await client.get("/v1/jobs?state=queued")).json()["jobs"]}
        alone = (await client.get(f"/v1/jobs/{large}")).json()["eta_s"]
    end_streams(app)
    assert etas[str(large)] == alone == pytest.approx(50, abs=3)
    assert etas[str(unsized)] == pytest.approx(alone + (5 + 50) / 2, abs=4)
    assert etas[str(later)] is None
    # A suspension is no fault of the estimate.
    await queue.sql(
        "UPDATE vidqueue.attempts SET started_at = started_at - interval '500 s', suspended_s = 500 "
        "WHERE job_id = (SELECT min(job_id::text)::uuid FROM vidqueue.attempts WHERE outcome = 'succeeded')"
    )
    (calibration,) = await queue.sql("SELECT * FROM vidqueue_report.eta_calibration")
    assert (calibration["attempts"], calibration["within_a_quarter"]) == (6, 1)
    assert float(calibration["median_error"]) == pytest.approx(0.1, abs=0.05)
