"""The lanes of one daemon: which ones it offers, how they are fed, and how they come to rest."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import structlog

from vidqueue import gpus, maintenance, processors
from vidqueue.config import LanesSettings, Settings
from vidqueue.database import Database
from vidqueue.delivery import Delivery
from vidqueue.dispatch import Dispatcher
from vidqueue.errors import VidqueueError
from vidqueue.executor.parent import Executor
from vidqueue.job import Device, Ticket
from vidqueue.rooms import Rooms
from vidqueue.run import Lane, run
from vidqueue.store import lanes
from vidqueue.store.lanes import NewLane

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_lanes(rooms: Rooms) -> AsyncIterator[None]:
    """The lane half: recover what a dead daemon left, offer the lanes, feed them; drain at the end."""
    settings, node = rooms.settings, _node(rooms.settings.data_dir)
    if orphans := await maintenance.recover(rooms.database, rooms.storage, node):
        log.warning("orphans_given_back", jobs=orphans)
    await maintenance.sweep(rooms.database, rooms.storage)
    draining, stopping = asyncio.Event(), asyncio.Event()
    offered = _offered(settings, node)
    async with Delivery(rooms.database.url, lanes=len(offered)) as delivery:
        threads = max(1, (os.cpu_count() or 1) // max(1, len(offered)))
        opened = [await _open_lane(rooms, delivery, new, draining, threads=threads) for new in offered]
        ids = [lane.id for lane in opened]
        dispatcher = Dispatcher(rooms.database, delivery, rooms.channel, settings.running.lease_s)
        dispatching = asyncio.create_task(dispatcher.run(ids, draining), name="dispatch")
        rescuing = asyncio.create_task(maintenance.rescue_forever(rooms.database, rooms.storage), name="rescue")
        workers = [asyncio.create_task(_serve_lane(lane, rooms, delivery, stopping)) for lane in opened]
        try:
            yield
        finally:
            draining.set()
            stopping.set()
            await asyncio.gather(dispatching, *workers, return_exceptions=True)
            rescuing.cancel()
            await asyncio.gather(rescuing, return_exceptions=True)
            await asyncio.gather(*(lane.executor.stop() for lane in opened))
            await _close_lanes(rooms.database, node)


async def _serve_lane(lane: Lane, rooms: Rooms, delivery: Delivery, stopping: asyncio.Event) -> None:
    async def handle(ticket: Ticket) -> None:
        await run(ticket, lane, rooms)

    await delivery.serve(lane.queue, handle, stopping)


async def _open_lane(rooms: Rooms, delivery: Delivery, new: NewLane, draining: asyncio.Event, *, threads: int) -> Lane:
    await delivery.forget(new.queue)
    async with rooms.database.transaction() as connection:
        lane_id = await lanes.register(connection, new)
        for processor in processors.catalogue().values():
            description = (processor.__doc__ or "").strip().split("\n", 1)[0]
            await lanes.register_processor(connection, processor.name, processor.device, description)
    device = "cuda:0" if new.device == "gpu" else "cpu"
    executor = Executor(new.name, threads=threads, device=device, gpu_uuid=new.gpu_uuid)
    return Lane(lane_id, new.name, new.queue, executor, draining)


async def _close_lanes(database: Database, node: UUID) -> None:
    with contextlib.suppress(VidqueueError):
        async with database.transaction() as connection:
            await lanes.node_offline(connection, node)


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
        # A queue's channel holds 40 characters, less than a host name may have.
        queue=f"lane:{hashlib.sha256(node.bytes).hexdigest()[:12]}:{name}",
        gpu_uuid=gpu.uuid if gpu else None,
        gpu_name=gpu.name if gpu else None,
        vram_mb=gpu.memory_mb if gpu else 0,
    )


def _node(data_dir: Path) -> UUID:
    """Identity of the data folder: its lanes and what was left on them belong to the next daemon on it."""
    path = data_dir / "node_id"
    if not path.exists():
        path.write_text(str(uuid4()), encoding="ascii")
    return UUID(path.read_text(encoding="ascii").strip())
