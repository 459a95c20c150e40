"""A machine at work, made through the real queue: what the pages are tested and photographed with."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import imageio_ffmpeg

from tests.factory import Queue
from vidqueue.db.pool import Database
from vidqueue.db.tables import attempts, files
from vidqueue.db.tables.files import NewFile
from vidqueue.db.tables.pauses import Terms
from vidqueue.job import AttemptRef, Failed, Failure, Interrupted, Outcome, OutputDraft, Succeeded
from vidqueue.jobs import batches, control, pauses, schedules
from vidqueue.jobs.finish import finish
from vidqueue.jobs.members import BatchRequest
from vidqueue.jobs.schedules import ScheduleRequest
from vidqueue.limits import Limits
from vidqueue.media.probe import probe
from vidqueue.progress import LogLine, Progress
from vidqueue.services import Services
from vidqueue.storage.local import Storage

PROCESSORS = {"transcode": "1.0", "enhance": "1.0", "anonymize": "1.0", "upscale": "1.0"}
LINES = (
    "Reading harbour.mp4: mov, h264 1920x1080, 25 fps, 12.0 s, aac stereo",
    "Encoder: libx264, crf 18, preset slow",
    "Pictures: 300 decoded, 300 encoded",
    "Checked: 300 pictures, 12.00 s, sound 12.00 s",
)


def clip(path: Path, seconds: float = 4) -> Path:
    """A small real video."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    source = f"gradients=s=640x360:d={seconds}:r=25:speed=0.02:c0=#1d2b64:c1=#f8cdda:n=2"
    arguments = ["-y", "-loglevel", "error", "-f", "lavfi", "-i", source, "-f", "lavfi", "-i", f"sine=d={seconds}"]
    arguments += ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac", "-movflags", "+faststart", str(path)]
    subprocess.run([ffmpeg, *arguments], check=True)
    return path


@dataclass
class Scene:
    """The ids of the jobs that the pages show, and hands to change them."""

    services: Services
    queue: Queue
    folder: Path
    lanes: dict[str, UUID]
    jobs: dict[str, UUID]
    file: UUID
    batch: UUID | None = None

    @property
    def database(self) -> Database:
        """The database of the scene."""
        return self.services.database

    async def begin(self, lane: str) -> AttemptRef:
        """Give the lane its next job and begin it."""
        ref = await self.queue.dispatch(self.lanes[lane], lease_s=3600)
        assert ref is not None
        await self.queue.begin(ref)
        return ref

    async def end(self, ref: AttemptRef, outcome: Outcome, workspace: Path | None = None) -> None:
        """End an attempt."""
        await finish(self.database, self.services.storage, ref, outcome, workspace=workspace, processor="transcode")

    async def report(self, ref: AttemptRef, progress: Progress | None = None, *lines: LogLine) -> None:
        """Write progress and lines of an attempt."""
        async with self.database.transaction() as connection:
            await attempts.report(connection, ref, progress=progress, lines=lines)

    async def succeed(self, ref: AttemptRef, source: Path) -> None:
        """End an attempt with a real output."""
        workspace = self.folder / str(ref.job_id)
        workspace.mkdir()
        made = workspace / "video.mp4"
        made.write_bytes(source.read_bytes())
        facts = probe(made, Limits()).model_dump(mode="json") | {
            "warnings": ["The sound is 40 ms shorter than the pictures."]
        }
        draft = OutputDraft("video", made, "video/mp4", facts)
        await self.end(ref, Succeeded((draft,), {"staging_s": 0.4, "processing_s": 9.3}), workspace)


async def plant(services: Services, folder: Path, *, waiting: int = 24) -> Scene:
    """Make the scene in an empty database."""
    queue = await Queue.prepared(services.database)
    source = clip(folder / "harbour.mp4")
    scene = Scene(services, queue, folder, {}, {}, await _upload(services, source))
    await _lanes(scene)
    await _history(scene, source)
    await _present(scene, waiting)
    return scene


async def _upload(services: Services, source: Path) -> UUID:
    storage: Storage = services.storage

    async def pieces() -> AsyncIterator[bytes]:
        yield source.read_bytes()

    stored = await storage.receive(pieces(), limit=1 << 30)
    facts: dict[str, Any] = probe(source, Limits()).model_dump(mode="json")
    new = NewFile(
        id=stored.id, owner="local", name="harbour.mp4", media_type="video/mp4", size=stored.size,
        sha256=stored.sha256, node=storage.node, facts=facts,
    )  # fmt: skip
    async with services.database.transaction() as connection:
        await files.add(connection, new)
    storage.release(stored.id)
    return stored.id


async def _lanes(scene: Scene) -> None:
    node = scene.services.storage.node
    shared: dict[str, Any] = {"host": "studio", "processors": PROCESSORS, "node": node}
    for name, gpu, memory in (("gpu0", "NVIDIA GeForce RTX 4090", 24564), ("gpu1", "NVIDIA RTX A4000", 16376)):
        more = {"gpu_name": gpu, "vram_mb": memory, "gpu_uuid": f"GPU-{name}"}
        scene.lanes[name] = await scene.queue.lane(name, "gpu", **shared, **more)
    for name in ("cpu0", "cpu1"):
        scene.lanes[name] = await scene.queue.lane(name, "cpu", **shared)


async def _submit(scene: Scene, name: str, processor: str = "transcode", **more: Any) -> UUID:
    given: dict[str, Any] = {"input": {"video": f"vq:files/{scene.file}", "quality": "high"}, "title": name}
    scene.jobs[name] = await scene.queue.submit(processor=processor, **(given | more))
    return scene.jobs[name]


async def _history(scene: Scene, source: Path) -> None:
    await _submit(scene, "Harbour at dusk, master", tags=("harbour", "final"))
    ref = await scene.begin("cpu0")
    await scene.report(ref, Progress(0.4, "encode", fps=96), *map(LogLine, LINES))
    await scene.succeed(ref, source)

    await _submit(scene, "Interview, camera B", max_attempts=2, tags=("interview",),
                  webhook={"url": "https://example.com/hooks/vidqueue"})  # fmt: skip
    for reason in ("The encoder stopped after 812 of 4,500 pictures.", "ffmpeg ended with signal 11."):
        ref = await scene.begin("cpu0")
        lines = (LogLine("Reading interview-b.mov"), LogLine("Non-monotonous DTS", "warning"), LogLine(reason, "error"))
        await scene.report(ref, Progress(0.18, "encode"), *lines)
        await scene.end(ref, Failed(Failure.of("ffmpeg_failed", reason)))
        await scene.queue.sql("UPDATE vidqueue.jobs SET run_at = now() WHERE state = 'queued'")

    await _submit(scene, "Archive reel 12", processor="enhance")
    ref = await scene.begin("cpu1")
    damaged = Failure.of("media_damaged", "Of 9,120 pictures 2,204 cannot be decoded; the file ends within a picture.")
    await scene.end(ref, Failed(damaged))
    await _submit(scene, "Wrong upload")
    await control.cancel(scene.database, scene.jobs["Wrong upload"], owner="local")


async def _present(scene: Scene, waiting: int) -> None:
    await _submit(scene, "Harbour at dusk, 4K", processor="upscale", device="gpu", tags=("harbour",))
    ref = await scene.begin("gpu0")
    seen = Progress(0.43, "upscale", "Picture 1,290 of 3,000", fps=31.4, speed=1.26, eta_s=54)
    await scene.report(ref, seen, LogLine("Model compact-x2 loaded in 1.9 s, 612 MB"), LogLine("Tiles: 2 x 2"))
    await _submit(scene, "Street scene, faces blurred", processor="anonymize")
    ref = await scene.begin("cpu0")
    await scene.report(ref, Progress(0.08, "detect", fps=11.8, speed=0.4, eta_s=1490))
    await _submit(scene, "Interview, camera A")
    ref = await scene.begin("cpu1")
    await scene.end(ref, Interrupted("the daemon was drained"))
    ref = await scene.begin("cpu1")
    await scene.report(ref, Progress(0.71, "encode", "Writing the second half", fps=142, speed=5.7, eta_s=12))
    await _batch(scene)
    await _chain(scene)
    await _schedules(scene)
    await pauses.pause_lane(scene.database, "gpu1", None, Terms(None, "Rendering by hand until six"), drain=True)
    await _submit(scene, "Trailer, after midnight", run_at=datetime.now(UTC) + timedelta(hours=3))
    for number in range(1, waiting + 1):
        await _submit(scene, f"Dailies, roll {number:02d}", priority=5 if number % 7 == 0 else 0, tags=("dailies",))


async def _chain(scene: Scene) -> None:
    first = await _submit(scene, "Reel, cut")
    sides = [await _submit(scene, f"Reel, {side}", after=(first,)) for side in ("picture", "sound")]
    joined = await _submit(scene, "Reel, joined", after=tuple(sides))
    await _submit(scene, "Reel, proxies", after=(joined,))


async def _schedules(scene: Scene) -> None:
    """Two schedules with a history, one of them paused, and gauges of the GPUs."""
    database = scene.database
    for name, cron, paused in (("nightly-proxies", "0 3 * * *", False), ("weekly-archive", "30 1 * * 0", True)):
        job = {"processor": "transcode", "input": {"video": f"vq:files/{scene.file}"}}
        asked = ScheduleRequest.model_validate({"name": name, "cron": cron, "job": job, "paused": paused})
        made = await schedules.add(database, asked, owner="local", now=schedules.system_clock())
        await scene.queue.sql(
            "INSERT INTO vidqueue.schedule_runs (schedule_id, due_at, outcome, job_id, error) "
            "SELECT %s, now() - n * interval '1 day', "
            "CASE n WHEN 3 THEN 'missed' WHEN 6 THEN 'refused' ELSE 'submitted' END, "
            "CASE WHEN n NOT IN (3, 6) THEN (SELECT id FROM vidqueue.jobs ORDER BY id OFFSET n / 8 LIMIT 1) END, "
            "CASE n WHEN 6 THEN 'file_lost: the file is gone' END FROM generate_series(1, 9) n",
            made.id,
        )  # fmt: skip
    for lane, values in (("gpu0", (9120, 87, 61, 311.5)), ("gpu1", (412, 0, 38, 14.0))):
        await scene.queue.sql(
            "INSERT INTO vidqueue.lane_gauges (lane_id, executor_starts, gpu_memory_used_mb, gpu_utilization, "
            "gpu_temperature_c, gpu_power_w) VALUES (%s, 1, %s, %s, %s, %s)",
            scene.lanes[lane], *values,
        )  # fmt: skip


async def _batch(scene: Scene) -> None:
    members = [
        {"processor": "transcode", "title": f"Festival reel {number}", "input": {"video": f"vq:files/{scene.file}"}}
        for number in range(1, 6)
    ]
    request = BatchRequest.model_validate({"title": "Festival reels", "jobs": members})
    database, inputs = scene.database, scene.services.inputs
    scene.batch = (await batches.submit(request, database=database, inputs=inputs, owner="local")).batch.id
    newest = await scene.queue.sql("SELECT id FROM vidqueue.jobs ORDER BY id DESC LIMIT 1")
    await control.cancel(database, newest[0]["id"], owner="local")
