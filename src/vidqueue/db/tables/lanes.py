"""Rows of lanes and processors, as each daemon registers them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from vidqueue.db.pool import Connection, execute, row, rows
from vidqueue.db.tables.jobs import NewJob
from vidqueue.job import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProcessor:
    """The row of a processor, with the defaults of its jobs."""

    name: str
    device: Device
    description: str
    vram_mb: int = 0
    gpu_when: dict[str, list[Any]] = field(default_factory=dict)
    max_attempts: int = 3
    timeout_s: float = 86_400
    stall_timeout_s: float = 300
    backoff_base_s: float = 1
    backoff_cap_s: float = 300
    keep_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLane:
    """A lane this daemon offers.

    `process` is the daemon's name in the sense of `ops.processes`; `vram_mb` the GPU's memory in MiB, 0 on a CPU lane;
    `processors` are the versions of the processors that the daemon has, by name.
    """

    node: UUID
    host: str
    name: str
    device: Device
    takes: tuple[Device, ...]
    queue: str
    processors: Mapping[str, str]
    process: str | None = None
    gpu_uuid: str | None = None
    gpu_name: str | None = None
    vram_mb: int = 0
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRow:
    """A lane and the job that it runs, if there is one."""

    id: UUID
    name: str
    host: str
    device: Device
    takes: list[Device]
    gpu_name: str | None
    vram_mb: int
    state: str
    paused: bool
    paused_until: datetime | None
    pause_reason: str | None
    draining: bool
    blocked_by: str | None
    warm: list[str]
    peers: list[dict[str, Any]]
    others_mb: int
    labels: list[str]
    windows: list[str]
    windows_zone: str
    windows_end: str
    opens_at: datetime | None
    job_id: UUID | None
    attempt: int | None
    started_at: datetime | None
    processor: str | None
    title: str | None
    owner: str | None
    progress: float | None
    stage: str | None
    fps: float | None
    speed: float | None
    eta_s: float | None
    suspended_at: datetime | None
    suspended_by: str | None


@dataclass(frozen=True, slots=True)
class LaneForJob:
    """A lane that fits a job; `is_free` if it would take it at once. Memory in MiB."""

    name: str
    host: str
    device: Device
    vram_mb: int
    others_mb: int
    is_free: bool


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a lane could take: kinds of work, and memory in MiB."""

    name: str
    device: Device
    takes: list[Device]
    vram_mb: int
    labels: list[str]


async def offer(connection: Connection, node: UUID, processors: Mapping[str, str]) -> None:
    """Write the processors that the daemon of a data folder has now."""
    await execute(connection, "lanes", "offer", node=node, processors=Jsonb(dict(processors)))


async def register(connection: Connection, lane: NewLane) -> UUID:
    """Write the lane as online and return its id."""
    values = {one.name: getattr(lane, one.name) for one in fields(lane)} | {
        "takes": list(lane.takes),
        "labels": list(lane.labels),
        "processors": Jsonb(dict(lane.processors)),
    }
    found = await row(connection, "lanes", "register", **values)
    assert found is not None
    id_: UUID = found["id"]
    return id_


async def node_offline(connection: Connection, node: UUID) -> None:
    """Mark every lane that this data folder ever had as offline."""
    await execute(connection, "lanes", "node_offline", node=node)


async def seen(connection: Connection, node: UUID, process: str) -> None:
    """Update the time at which the daemon of these lanes was last seen."""
    await execute(connection, "lanes", "seen", node=node, process=process)


async def unseen_offline(connection: Connection, *, patience_s: float) -> None:
    """Mark lanes as offline whose daemon was not seen for `patience_s` seconds."""
    await execute(connection, "lanes", "unseen_offline", patience_s=patience_s)


@dataclass(frozen=True, slots=True)
class Suspects:
    """Whether the reaper has to look closer: at other daemons of this machine, at leases, at deadlines."""

    neighbours: bool
    leases: bool
    deadlines: bool


async def suspects(connection: Connection, machine: str, *, but_of: UUID, lease_s: float) -> Suspects:
    """Return what the reaper has to look at more closely."""
    found = await row(connection, "lanes", "suspects", machine=machine, node=but_of, lease_s=lease_s)
    assert found is not None
    return Suspects(**found)


async def online_on_machine(connection: Connection, machine: str, *, but_of: UUID) -> list[str]:
    """Return the process names of other daemons of this machine with online lanes."""
    found = await rows(connection, "lanes", "online_on_machine", machine=machine, node=but_of)
    return [one["process"] for one in found]


async def process_offline(connection: Connection, process: str) -> None:
    """Mark every lane of a daemon that is gone as offline."""
    await execute(connection, "lanes", "process_offline", process=process)


async def working(connection: Connection, node: UUID) -> dict[str, bool]:
    """Return whether each online lane of a data folder has an open attempt, by the lane's queue."""
    return {one["queue"]: one["works"] for one in await rows(connection, "lanes", "working", node=node)}


async def block(connection: Connection, wanted: dict[UUID, str | None]) -> dict[str, str | None]:
    """Block lanes for a reason, or unblock them (None); return what changed, by the name of the lane."""
    found = await rows(connection, "lanes", "block", ids=list(wanted), reasons=list(wanted.values()))
    return {one["name"]: one["blocked_by"] for one in found}


async def warmed(connection: Connection, lane_id: UUID, processors: list[str]) -> None:
    """Write which processors are warm on a lane."""
    await execute(connection, "lanes", "warmed", id=lane_id, warm=processors)


async def write_peers(connection: Connection, peers: Mapping[UUID, list[dict[str, Any]]]) -> None:
    """Write the state of the managed peers of each lane."""
    described = [Jsonb(one) for one in peers.values()]
    await execute(connection, "lanes", "write_peers", ids=list(peers), peers=described)


async def page(connection: Connection, *, with_offline: bool = False) -> list[LaneRow]:
    """Return every lane with the job that it runs."""
    return [LaneRow(**found) for found in await rows(connection, "lanes", "page", with_offline=with_offline)]


@dataclass(frozen=True, slots=True)
class LaneGauges:
    """How busy a lane's GPU is (MiB, percent, degrees Celsius, watts), and how often its executor was started."""

    lane_id: UUID
    executor_starts: int
    gpu_memory_used_mb: int | None = None
    gpu_utilization: int | None = None
    gpu_temperature_c: int | None = None
    gpu_power_w: float | None = None


async def for_job(connection: Connection, job: NewJob, *, node: UUID | None) -> tuple[list[LaneForJob], str]:
    """Return the lanes online that fit a job which is not submitted yet, and why it would wait."""
    shown = {
        "processor": job.processor, "input": job.input, "owner": job.owner, "attempt": 0, "device": job.device,
        "vram_mb": job.vram_mb, "wanted_lane": job.lane, "labels": list(job.labels), "unmet": 0, "state": "queued",
        "node": str(node) if node else None,
        "run_at": (job.run_at or datetime.now(UTC)).isoformat(), "queued_at": datetime.now(UTC).isoformat(),
    }  # fmt: skip
    fitting = await rows(connection, "lanes", "for_job", job=Jsonb(shown))
    why = await row(connection, "lanes", "reason_for_job", job=Jsonb(shown))
    assert why is not None
    return [LaneForJob(**found) for found in fitting], why["reason"]


async def capacities(connection: Connection) -> list[Capacity]:
    """Return what each lane that there is could take, also those that are offline."""
    return [Capacity(**found) for found in await rows(connection, "lanes", "capacities")]


async def write_gauges(connection: Connection, gauges: list[LaneGauges]) -> None:
    """Replace the gauges of these lanes."""
    columns = {one.name: [getattr(lane, one.name) for lane in gauges] for one in fields(LaneGauges)}
    await execute(connection, "lanes", "write_gauges", **columns)


async def register_processor(connection: Connection, processor: NewProcessor) -> None:
    """Write the row of a processor, which vidqueue.submit() in psql reads."""
    values = {one.name: getattr(processor, one.name) for one in fields(processor)}
    values |= {"gpu_when": Jsonb(processor.gpu_when)}
    await execute(connection, "lanes", "register_processor", **values)


async def shared_host_names(connection: Connection) -> list[str]:
    """Return the host names that daemons of more than one machine use at present."""
    return [found["host"] for found in await rows(connection, "lanes", "shared_host_names")]
