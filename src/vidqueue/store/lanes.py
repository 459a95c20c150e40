"""Lanes and processors, as each daemon registers them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from uuid import UUID

from vidqueue.database import Connection, execute, row, rows
from vidqueue.job import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLane:
    """A lane this daemon offers. `vram_mb` is the GPU's memory in MiB, 0 on a CPU lane."""

    node: UUID
    host: str
    name: str
    device: Device
    takes: tuple[Device, ...]
    queue: str
    gpu_uuid: str | None = None
    gpu_name: str | None = None
    vram_mb: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRow:
    """A lane and the job in its hands, if there is one."""

    id: UUID
    name: str
    host: str
    device: Device
    takes: list[Device]
    gpu_name: str | None
    vram_mb: int
    state: str
    paused: bool
    warm: list[str]
    job_id: UUID | None
    attempt: int | None
    started_at: datetime | None
    processor: str | None
    title: str | None
    owner: str | None
    progress: float | None
    stage: str | None
    fps: float | None
    eta_s: float | None


async def register(connection: Connection, lane: NewLane) -> UUID:
    """Write the lane as online and return its id."""
    values = {field.name: getattr(lane, field.name) for field in fields(lane)} | {"takes": list(lane.takes)}
    found = await row(connection, "lanes", "register", **values)
    assert found is not None
    id_: UUID = found["id"]
    return id_


async def node_offline(connection: Connection, node: UUID) -> None:
    """Mark every lane that this data folder ever had as offline."""
    await execute(connection, "lanes", "node_offline", node=node)


async def warmed(connection: Connection, lane_id: UUID, processors: list[str]) -> None:
    """Write down what is warm on a lane."""
    await execute(connection, "lanes", "warmed", id=lane_id, warm=processors)


async def page(connection: Connection, *, with_offline: bool = False) -> list[LaneRow]:
    """Every lane with the job it runs."""
    return [LaneRow(**found) for found in await rows(connection, "lanes", "page", with_offline=with_offline)]


async def register_processor(connection: Connection, name: str, device: Device, description: str) -> None:
    """Tell the database that a processor exists, for vidqueue.submit() in psql."""
    await execute(connection, "lanes", "register_processor", name=name, device=device, description=description)
