"""The lanes of one daemon: registers them, dispatches work to them, and drains them at shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from uuid import UUID

import structlog

from vidqueue.db.embedded import server as embedded
from vidqueue.db.pool import Database
from vidqueue.db.tables import lane_availability, lanes
from vidqueue.db.tables.attempts import Begun
from vidqueue.db.tables.lanes import NewLane, NewProcessor
from vidqueue.db.transport import Transport
from vidqueue.errors import VidqueueError
from vidqueue.job import Device, Interrupted
from vidqueue.jobs import reaper, retention
from vidqueue.jobs.dispatch import Dispatcher
from vidqueue.jobs.estimates import Estimates
from vidqueue.jobs.finish_queue import FinishQueue
from vidqueue.jobs.inputs import Inputs
from vidqueue.ops import processes
from vidqueue.ops.supervise import supervise
from vidqueue.processors import registry
from vidqueue.processors.base import Processor
from vidqueue.processors.remote import kept_ids
from vidqueue.services import Services
from vidqueue.settings.schema import Settings
from vidqueue.settings.sections import LanesSettings
from vidqueue.worker import gpus
from vidqueue.worker.draining import Draining
from vidqueue.worker.executor.parent import Executor
from vidqueue.worker.guards import Drain, Guards
from vidqueue.worker.lane import Lane
from vidqueue.worker.lane_availability import LaneAvailability
from vidqueue.worker.lane_health import LaneHealth, WatchedLane
from vidqueue.worker.left_work import LeftWork
from vidqueue.worker.peers.lane_peers import LanePeers
from vidqueue.worker.peers.monitor import PeerMonitor
from vidqueue.worker.series import Series
from vidqueue.worker.slots import Slots
from vidqueue.worker.staging import CACHE

log = structlog.get_logger(__name__)


# How long lanes may take to become idle after their jobs were given back.
REST_S = 8.0
# Connections of the lanes' pool beyond one for each lane: for dispatch, leases, the reaper, and fetched deliveries.
SPARE_CONNECTIONS = 4


@asynccontextmanager
async def open_lanes(services: Services, drain: Drain) -> AsyncIterator[None]:
    """Run the worker half: recover what a dead daemon left, register the lanes, dispatch; drain at the end.

    It has a connection pool of its own, and threads of its own for paths, so that HTTP clients cannot delay a lease.
    """
    settings = services.settings
    offered = _offered(settings, services.storage.node)
    pool_size, timeout_s = len(offered) + SPARE_CONNECTIONS, settings.database.query_timeout_s
    async with Database(
        services.database.url, pool_size=pool_size, query_timeout_s=timeout_s, keep_plans=True
    ) as database:
        inputs = Inputs(database, services.storage, settings)
        own = replace(services, database=database, inputs=inputs)
        own.pools["lanes"] = database
        own.watchdog.watch(*inputs.roots.pools)
        await _recover(own)
        async with (
            Transport(database) as transport,
            Guards(database, own.event_feed, drain, settings.running) as guards,
        ):
            await transport.forget(queue_prefix(own.storage.node))
            await _register_processors(database)
            async with _open(own, offered, drain, guards) as opened:
                background = _background_tasks(services, own, opened)
                feeding = asyncio.create_task(_dispatch_until_drained(opened, own, transport, drain), name="lanes")
                own.on_reload.append(partial(_on_reload, own, opened))
                try:
                    yield
                finally:
                    drain.begun.set()
                    await _wait_until_idle(feeding, own, drain)
                    for task in background:
                        task.cancel()
                    await asyncio.gather(*background, return_exceptions=True)
            await _give_back_undelivered(own, transport)


async def _recover(own: Services) -> None:
    """Give back the open attempts of the last daemon on this data folder, and kill what its executors left running."""
    node = own.storage.node
    if left := await asyncio.to_thread(processes.kill_marked, queue_prefix(node)):
        log.warning("stray_processes_killed", processes=left)
    if orphans := await reaper.recover(own.database, own.storage, node):
        log.warning("orphans_given_back", jobs=orphans)


@asynccontextmanager
async def _open(own: Services, offered: Sequence[NewLane], drain: Drain, guards: Guards) -> AsyncIterator[list[Lane]]:
    """Register the lanes as online; stop their executors and their managed peers at the end."""
    threads = max(1, (os.cpu_count() or 1) // max(1, len(offered)))
    came_to_rest, slots, finishes = asyncio.Event(), Slots(), FinishQueue(own.database)
    opened: list[Lane] = []
    for new in offered:
        async with own.database.statement() as connection:
            lane_id = await lanes.register(connection, new)
            await lane_availability.configure_windows(connection, lane_id, own.settings.lanes.windows_of(new.name))
        device = "cuda:0" if new.device == "gpu" else "cpu"
        executor = Executor(new.name, threads=threads, mark=new.queue, device=device, gpu_uuid=new.gpu_uuid)
        peers = LanePeers(new.name, new.queue, executor.suspension, new.takes, new.gpu_uuid, new.vram_mb)
        opened.append(
            Lane(
                lane_id, new.name, new.queue, executor, peers, drain, guards, came_to_rest,
                finishes=finishes, gpu_uuid=new.gpu_uuid, slots=slots,
            )
        )  # fmt: skip
    try:
        yield opened
    finally:
        await asyncio.gather(*(lane.executor.stop() for lane in opened), *(lane.peers.close() for lane in opened))


def _background_tasks(services: Services, own: Services, opened: Sequence[Lane]) -> list[asyncio.Task[None]]:
    """Start the background tasks of the worker half: the reaper, lane health, retention.

    Retention runs long statements, so it uses the pool of HTTP clients and not that of leases.
    """
    reaping = reaper.Reaper(
        own.database, own.storage, own.storage.node, own.settings.running.lease_s, own.watchdog.register("reaper")
    )
    watched = [WatchedLane(lane.id, lane.executor, lane.gpu_uuid) for lane in opened]
    # The embedded database may lie on a volume of its own.
    ours = own.settings.data_dir
    folders = [folder for folder in (ours, ours / embedded.FOLDER) if folder.exists()]
    low_water_mib, heartbeat = own.settings.disk.low_water_mib, own.watchdog.register("lane_health")
    availability = LaneAvailability(own.database, own.event_feed, opened, own.settings.neighbours)
    health = LaneHealth(
        own.database, folders, low_water_mib, watched, heartbeat, availability.closed, availability.changed
    )
    kept = own.settings.retention
    estimates = Estimates(services.database)
    monitor = PeerMonitor(own.database, {lane.id: lane.peers for lane in opened}, own.watchdog.register("peers"))
    left_work = LeftWork(own.database, own.event_feed, own.storage.folder / CACHE / kept_ids.FOLDER)
    for lane in opened:
        lane.executor.meter.estimates = estimates
    return [
        supervise(reaping.run, "reaper"),
        supervise(estimates.keep_learning, "estimates"),
        supervise(health.run, "lane_health"),
        supervise(monitor.run, "peers"),
        supervise(availability.run, "lane_availability"),
        supervise(left_work.run, "left_work"),
        supervise(Draining(own.database, own.event_feed, opened).run, "draining"),
        supervise(lambda: retention.keep_tidy(services.database, services.storage, kept), "retention"),
    ]


async def _dispatch_until_drained(opened: Sequence[Lane], own: Services, transport: Transport, drain: Drain) -> None:
    """Dispatch until the drain, then stop the lanes' procrastinate workers."""
    stopping = asyncio.Event()
    series = {lane.queue: Series(lane, own) for lane in opened}
    workers = [asyncio.create_task(_serve_lane(queue, one, transport, stopping)) for queue, one in series.items()]
    lease_s, heartbeat = own.settings.running.lease_s, own.watchdog.register("dispatch")
    came_to_rest = opened[0].came_to_rest if opened else asyncio.Event()

    def idle() -> list[UUID]:
        return [lane.id for lane in opened if lane.idle]

    def deliver(begun: Begun, queue: str) -> None:
        series[queue].begin(begun)
        transport.wake(queue)

    dispatcher = Dispatcher(own.database, own.event_feed, deliver, lease_s, heartbeat)

    await supervise(lambda: dispatcher.run(idle, came_to_rest, drain.begun), "dispatch")
    own.watchdog.unregister("dispatch")
    stopping.set()
    await asyncio.gather(*workers, return_exceptions=True)


async def _wait_until_idle(feeding: asyncio.Task[None], services: Services, drain: Drain) -> None:
    """Wait until the lanes are idle, as long as a drain may take; then stop waiting for the database."""
    hurry = asyncio.create_task(drain.hurried.wait())
    patience_s = services.settings.running.drain_timeout_s
    await asyncio.wait([feeding, hurry], timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    await asyncio.wait([feeding], timeout=REST_S)
    if not feeding.done():
        log.warning("lanes_still_busy", database="given up")
        services.database.abandoned = True
        await asyncio.wait([feeding], timeout=REST_S)


async def _serve_lane(queue: str, series: Series, transport: Transport, stopping: asyncio.Event) -> None:
    await transport.serve(queue, series.take, stopping)
    await series.close()


async def _on_reload(own: Services, opened: Sequence[Lane]) -> None:
    """Offer the processors that were loaded anew. A running job ends in the executor that it began in."""
    for lane in opened:
        lane.executor.outdated, lane.warm = True, []
    await _register_processors(own.database)
    async with own.database.statement() as connection:
        await lanes.offer(connection, own.storage.node, registry.versions())
    for lane in opened:
        await lane.release(peers=False)
        lane.came_to_rest.set()


async def _register_processors(database: Database) -> None:
    async with database.transaction() as connection:
        for processor in registry.catalogue().values():
            await lanes.register_processor(connection, described(processor))
            # Starts the checks of its requirements, such as the flags of a program, in the background.
            processor.unavailable()


def described(processor: Processor) -> NewProcessor:
    """Return the processor's row."""
    return NewProcessor(
        name=processor.name,
        device=processor.device,
        vram_mb=processor.default_vram_mb,
        gpu_when={name: list(values) for name, values in processor.gpu_when.items()},
        description=(processor.__doc__ or "").strip().split("\n", 1)[0],
        max_attempts=processor.max_attempts,
        timeout_s=processor.timeout_s,
        stall_timeout_s=processor.stall_timeout_s,
        backoff_base_s=processor.backoff.base_s,
        backoff_cap_s=processor.backoff.cap_s,
        keep_s=processor.keep_s,
    )


async def _give_back_undelivered(own: Services, transport: Transport) -> None:
    """Give back attempts that were delivered and never begun. If the database is away, the next daemon does so."""
    node = own.storage.node
    with contextlib.suppress(VidqueueError, TimeoutError):
        async with asyncio.timeout(REST_S):
            await reaper.give_back(own.database, own.storage, node, Interrupted("the daemon shut down"))
            await transport.forget(queue_prefix(node))


def queue_prefix(node: UUID) -> str:
    """Return the prefix of this data folder's queues; it is hashed because the name of a NOTIFY channel is limited."""
    return f"lane:{hashlib.sha256(node.bytes).hexdigest()[:12]}:"


def _offered(settings: Settings, node: UUID) -> list[NewLane]:
    """Return one lane for each GPU, and the configured number of CPU lanes."""
    found = gpus.discover() if settings.lanes.gpu == "auto" else []
    takes = _cpu_lanes_take(settings.lanes, bool(found))
    if not found:
        log.warning("no_gpu", gpu_work="runs on CPU lanes" if "gpu" in takes else "waits for a GPU lane")
    on_gpu: tuple[Device, ...] = ("gpu", "cpu") if settings.lanes.cpu_work_on_gpu else ("gpu",)
    gpu_lanes = [_new_lane(settings, node, f"gpu{index}", "gpu", on_gpu, gpu) for index, gpu in enumerate(found)]
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
        processors=registry.versions(),
        process=processes.own_name(),
        gpu_uuid=gpu.uuid if gpu else None,
        gpu_name=gpu.name if gpu else None,
        vram_mb=gpu.memory_mib if gpu else 0,
        labels=settings.lanes.labels_of(name),
    )
