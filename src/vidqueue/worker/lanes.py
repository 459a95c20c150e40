"""The lanes of one daemon: which ones it offers, how they are fed, and how they come to rest."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import structlog

from vidqueue.db.embedded import server as embedded
from vidqueue.db.pool import Database
from vidqueue.db.tables import lanes
from vidqueue.db.tables.lanes import NewLane, NewProcessor
from vidqueue.db.transport import Transport
from vidqueue.errors import VidqueueError
from vidqueue.job import AttemptRef, Device, Interrupted
from vidqueue.jobs import reaper, retention
from vidqueue.jobs.dispatch import Dispatcher
from vidqueue.ops import processes
from vidqueue.ops.supervise import supervise
from vidqueue.processors import registry
from vidqueue.processors.base import Processor
from vidqueue.services import Services
from vidqueue.settings.schema import LanesSettings, Settings
from vidqueue.worker import gpus
from vidqueue.worker.attempt import Lane, run
from vidqueue.worker.executor.parent import Executor
from vidqueue.worker.guards import Drain
from vidqueue.worker.lane_health import LaneHealth, WatchedLane

log = structlog.get_logger(__name__)


# How long lanes may take to come to rest once their jobs were given back.
REST_S = 8.0


@asynccontextmanager
async def open_lanes(services: Services, drain: Drain) -> AsyncIterator[None]:
    """The lane half: recover what a dead daemon left, offer the lanes, feed them; drain at the end."""
    settings, node = services.settings, services.storage.node
    if left := await asyncio.to_thread(processes.kill_marked, queue_prefix(node)):
        log.warning("strays_killed", processes=left)
    if orphans := await reaper.recover(services.database, services.storage, node):
        log.warning("orphans_given_back", jobs=orphans)
    offered = _offered(settings, node)
    timeout_s = settings.database.query_timeout_s
    async with Transport(services.database.url, lanes=len(offered), query_timeout_s=timeout_s) as transport:
        await transport.forget(queue_prefix(node))
        await _register_processors(services.database)
        threads = max(1, (os.cpu_count() or 1) // max(1, len(offered)))
        opened = [await _open_lane(services.database, new, drain, threads=threads) for new in offered]
        guarding = _guard(services, node, opened)
        feeding = asyncio.create_task(_feed(opened, services, transport, drain), name="lanes")
        try:
            yield
        finally:
            drain.begun.set()
            await _rest(feeding, services, drain)
            for task in guarding:
                task.cancel()
            await asyncio.gather(*guarding, return_exceptions=True)
            await asyncio.gather(*(lane.executor.stop() for lane in opened))
            await _leave(services, transport, node)


def _guard(services: Services, node: UUID, opened: Sequence[Lane]) -> list[asyncio.Task[None]]:
    """What lasts as long as the lanes: the watch over everybody's attempts, our own disk and GPUs, and what is old."""
    reaping = reaper.Reaper(
        services.database, services.storage, node, services.settings.running.lease_s, services.watchdog.of("reaper")
    )
    watched = [WatchedLane(lane.id, lane.gpu_uuid) for lane in opened]
    # The embedded database may lie on a volume of its own.
    ours = services.settings.data_dir
    folders = [folder for folder in (ours, ours / embedded.FOLDER) if folder.exists()]
    low_water_mib, heartbeat = services.settings.disk.low_water_mib, services.watchdog.of("lane_health")
    health = LaneHealth(services.database, folders, low_water_mib, watched, heartbeat)
    kept = services.settings.retention
    return [
        supervise(reaping.run, "reaper"),
        supervise(health.run, "lane_health"),
        supervise(lambda: retention.keep_tidy(services.database, services.storage, kept), "retention"),
    ]


async def _feed(opened: Sequence[Lane], services: Services, transport: Transport, drain: Drain) -> None:
    """Dispatch until the drain, then let the workers end: after that no ticket is handed to a lane that has left."""
    stopping = asyncio.Event()
    workers = [asyncio.create_task(_serve_lane(lane, services, transport, stopping)) for lane in opened]
    heartbeat = services.watchdog.of("dispatch")
    dispatcher = Dispatcher(
        services.database, transport, services.event_feed, services.settings.running.lease_s, heartbeat
    )

    def rested() -> list[UUID]:
        return [lane.id for lane in opened if lane.executor.rested]

    await supervise(lambda: dispatcher.run(rested, drain.begun), "dispatch")
    services.watchdog.rest("dispatch")
    stopping.set()
    await asyncio.gather(*workers, return_exceptions=True)


async def _rest(feeding: asyncio.Task[None], services: Services, drain: Drain) -> None:
    """Wait for the lanes as long as a drain may take; then give the database up, which may be what they wait for."""
    hurry = asyncio.create_task(drain.hurried.wait())
    patience_s = services.settings.running.drain_timeout_s
    await asyncio.wait([feeding, hurry], timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    await asyncio.wait([feeding], timeout=REST_S)
    if not feeding.done():
        log.warning("lanes_do_not_rest", database="given up")
        services.database.abandoned = True
        await asyncio.wait([feeding], timeout=REST_S)


async def _serve_lane(lane: Lane, services: Services, transport: Transport, stopping: asyncio.Event) -> None:
    async def handle(ref: AttemptRef) -> None:
        await run(ref, lane, services)

    await transport.serve(lane.queue, handle, stopping)


async def _register_processors(database: Database) -> None:
    async with database.transaction() as connection:
        for processor in registry.catalogue().values():
            await lanes.register_processor(connection, _in_words(processor))


def _in_words(processor: Processor) -> NewProcessor:
    return NewProcessor(
        name=processor.name,
        device=processor.device,
        description=(processor.__doc__ or "").strip().split("\n", 1)[0],
        max_attempts=processor.max_attempts,
        timeout_s=processor.timeout_s,
        stall_timeout_s=processor.stall_timeout_s,
        backoff_base_s=processor.backoff.base_s,
        backoff_cap_s=processor.backoff.cap_s,
    )


async def _open_lane(database: Database, new: NewLane, drain: Drain, *, threads: int) -> Lane:
    async with database.transaction() as connection:
        lane_id = await lanes.register(connection, new)
    device = "cuda:0" if new.device == "gpu" else "cpu"
    executor = Executor(new.name, threads=threads, mark=new.queue, device=device, gpu_uuid=new.gpu_uuid)
    return Lane(lane_id, new.name, new.queue, executor, drain, gpu_uuid=new.gpu_uuid)


async def _leave(services: Services, transport: Transport, node: UUID) -> None:
    """Give back what was handed over and never begun. Where the database is away, the next daemon does it."""
    with contextlib.suppress(VidqueueError, TimeoutError):
        async with asyncio.timeout(REST_S):
            await reaper.give_back(services.database, services.storage, node, Interrupted("the daemon shut down"))
            await transport.forget(queue_prefix(node))


def queue_prefix(node: UUID) -> str:
    """What the names of this folder's queues begin with; a channel holds 40 characters, less than a host's name."""
    return f"lane:{hashlib.sha256(node.bytes).hexdigest()[:12]}:"


def _offered(settings: Settings, node: UUID) -> list[NewLane]:
    """One lane per GPU, and the configured number of CPU lanes."""
    found = gpus.discover() if settings.lanes.gpu == "auto" else []
    takes = _cpu_lanes_take(settings.lanes, bool(found))
    if not found:
        log.warning("no_gpu", gpu_work="runs on CPU lanes" if "gpu" in takes else "waits for a GPU lane")
    gpu_lanes = [_new_lane(settings, node, f"gpu{index}", "gpu", ("gpu",), gpu) for index, gpu in enumerate(found)]
    cpu_lanes = [_new_lane(settings, node, f"cpu{index}", "cpu", takes, None) for index in range(settings.lanes.cpu)]
    return gpu_lanes + cpu_lanes


def _cpu_lanes_take(settings: LanesSettings, any_gpu: bool) -> tuple[Device, ...]:
    falls_back = settings.gpu_work_on_cpu == "always" or (settings.gpu_work_on_cpu == "auto" and not any_gpu)
    return ("cpu", "gpu") if falls_back else ("cpu",)


def _new_lane(
    settings: Settings, node: UUID, name: str, device: Device, takes: tuple[Device, ...], gpu: gpus.Gpu | None
) -> NewLane:
    return NewLane(
        node=node,
        host=settings.host_name,
        name=name,
        device=device,
        takes=takes,
        queue=queue_prefix(node) + name,
        process=processes.own_name(),
        gpu_uuid=gpu.uuid if gpu else None,
        gpu_name=gpu.name if gpu else None,
        vram_mb=gpu.memory_mib if gpu else 0,
    )
