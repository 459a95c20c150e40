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
from vidqueue.db.transport import Delivery
from vidqueue.errors import VidqueueError
from vidqueue.job import Device, Interrupted, Ticket
from vidqueue.jobs import reaper, retention
from vidqueue.jobs.dispatch import Dispatcher
from vidqueue.ops import processes, strays
from vidqueue.ops.supervise import lasting
from vidqueue.processors import registry
from vidqueue.processors.base import Processor
from vidqueue.services import Rooms
from vidqueue.settings.schema import LanesSettings, Settings
from vidqueue.worker import gpus
from vidqueue.worker.attempt import Lane, run
from vidqueue.worker.executor.parent import Executor
from vidqueue.worker.guards import Drain
from vidqueue.worker.lane_health import Holds, Watched

log = structlog.get_logger(__name__)


# How long lanes may take to come to rest once their jobs were given back.
REST_S = 8.0


@asynccontextmanager
async def open_lanes(rooms: Rooms, drain: Drain) -> AsyncIterator[None]:
    """The lane half: recover what a dead daemon left, offer the lanes, feed them; drain at the end."""
    settings, node = rooms.settings, rooms.storage.node
    if left := await asyncio.to_thread(strays.end, queues_of(node)):
        log.warning("strays_killed", processes=left)
    if orphans := await reaper.recover(rooms.database, rooms.storage, node):
        log.warning("orphans_given_back", jobs=orphans)
    offered = _offered(settings, node)
    timeout_s = settings.database.query_timeout_s
    async with Delivery(rooms.database.url, lanes=len(offered), query_timeout_s=timeout_s) as delivery:
        await delivery.forget(queues_of(node))
        await _register_processors(rooms.database)
        threads = max(1, (os.cpu_count() or 1) // max(1, len(offered)))
        opened = [await _open_lane(rooms.database, new, drain, threads=threads) for new in offered]
        guarding = _guard(rooms, node, opened)
        feeding = asyncio.create_task(_feed(opened, rooms, delivery, drain), name="lanes")
        try:
            yield
        finally:
            drain.begun.set()
            await _rest(feeding, rooms, drain)
            for task in guarding:
                task.cancel()
            await asyncio.gather(*guarding, return_exceptions=True)
            await asyncio.gather(*(lane.executor.stop() for lane in opened))
            await _leave(rooms, delivery, node)


def _guard(rooms: Rooms, node: UUID, opened: Sequence[Lane]) -> list[asyncio.Task[None]]:
    """What lasts as long as the lanes: the watch over everybody's attempts, our own disk and GPUs, and what is old."""
    rescuer = reaper.Rescuer(
        rooms.database, rooms.storage, node, rooms.settings.running.lease_s, rooms.pulse.of("rescue")
    )
    watched = [Watched(lane.id, lane.gpu_uuid) for lane in opened]
    # The embedded database may lie on a volume of its own.
    ours = rooms.settings.data_dir
    folders = [folder for folder in (ours, ours / embedded.FOLDER) if folder.exists()]
    holds = Holds(rooms.database, folders, rooms.settings.disk.low_water_mb, watched, rooms.pulse.of("holds"))
    kept = rooms.settings.retention
    return [
        lasting(rescuer.run, "rescue"),
        lasting(holds.run, "holds"),
        lasting(lambda: retention.keep_tidy(rooms.database, rooms.storage, kept), "retention"),
    ]


async def _feed(opened: Sequence[Lane], rooms: Rooms, delivery: Delivery, drain: Drain) -> None:
    """Dispatch until the drain, then let the workers end: after that no ticket is handed to a lane that has left."""
    stopping = asyncio.Event()
    workers = [asyncio.create_task(_serve_lane(lane, rooms, delivery, stopping)) for lane in opened]
    beat = rooms.pulse.of("dispatch")
    dispatcher = Dispatcher(rooms.database, delivery, rooms.channel, rooms.settings.running.lease_s, beat)

    def rested() -> list[UUID]:
        return [lane.id for lane in opened if lane.executor.rested]

    await lasting(lambda: dispatcher.run(rested, drain.begun), "dispatch")
    rooms.pulse.rest("dispatch")
    stopping.set()
    await asyncio.gather(*workers, return_exceptions=True)


async def _rest(feeding: asyncio.Task[None], rooms: Rooms, drain: Drain) -> None:
    """Wait for the lanes as long as a drain may take; then give the database up, which may be what they wait for."""
    hurry = asyncio.create_task(drain.hurried.wait())
    patience_s = rooms.settings.running.drain_timeout_s
    await asyncio.wait([feeding, hurry], timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
    hurry.cancel()
    await asyncio.wait([feeding], timeout=REST_S)
    if not feeding.done():
        log.warning("lanes_do_not_rest", database="given up")
        rooms.database.abandoned = True
        await asyncio.wait([feeding], timeout=REST_S)


async def _serve_lane(lane: Lane, rooms: Rooms, delivery: Delivery, stopping: asyncio.Event) -> None:
    async def handle(ticket: Ticket) -> None:
        await run(ticket, lane, rooms)

    await delivery.serve(lane.queue, handle, stopping)


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


async def _leave(rooms: Rooms, delivery: Delivery, node: UUID) -> None:
    """Give back what was handed over and never begun. Where the database is away, the next daemon does it."""
    with contextlib.suppress(VidqueueError, TimeoutError):
        async with asyncio.timeout(REST_S):
            await reaper.give_back(rooms.database, rooms.storage, node, Interrupted("the daemon shut down"))
            await delivery.forget(queues_of(node))


def queues_of(node: UUID) -> str:
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
        queue=queues_of(node) + name,
        process=processes.own_name(),
        gpu_uuid=gpu.uuid if gpu else None,
        gpu_name=gpu.name if gpu else None,
        vram_mb=gpu.memory_mb if gpu else 0,
    )
