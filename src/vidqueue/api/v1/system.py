"""Processors, lanes and statistics over HTTP."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.http.endpoint import json_answer
from vidqueue.api.v1.views import LaneList, lane_view
from vidqueue.db.pool import Database
from vidqueue.db.tables import jobs, lanes, pauses
from vidqueue.db.tables.jobs import Recent, Waiting
from vidqueue.db.tables.lanes import LaneRow
from vidqueue.errors import VidqueueError
from vidqueue.job import Device
from vidqueue.processors import registry
from vidqueue.processors.base import Processor
from vidqueue.processors.media import schema_of
from vidqueue.processors.peers import PeerServer


class ProcessorPeer(BaseModel):
    """A server of another program that a processor is configured for."""

    name: str
    kind: Literal["managed", "external"] = Field(description="Whether the daemon starts it, or only has its address.")
    device: Device
    lane: str | None = Field(description="The only lane that uses it.")
    problem: str | None = Field(description="Why it cannot be started as it is configured.")


class ProcessorView(BaseModel):
    """A kind of work."""

    name: str
    description: str
    device: Device = Field(description="Kind of lane it usually needs.")
    available: bool = Field(description="Whether its jobs can run as this daemon is configured.")
    reason: str | None = Field(description="Why they cannot.")
    peers: list[ProcessorPeer] = Field(description="The servers of other programs that do its work.")
    input_schema: dict[str, Any] = Field(description="JSON Schema of a job's `input`.")
    url: str


class NotLoaded(BaseModel):
    """An installed processor that could not be loaded."""

    name: str = Field(description="Name of its entry point.")
    package: str = Field(description="Module and class, as `module:Class`.")
    error: str


class ProcessorList(BaseModel):
    """All processors."""

    processors: list[ProcessorView]
    not_loaded: list[NotLoaded] = Field(description="Installed processors that cannot be used, and why.")


class LaneQuery(BaseModel):
    """Which lanes a list shows."""

    model_config = ConfigDict(extra="forbid")

    offline: bool = Field(False, description="Also those that no daemon offers at present.")


class JobCounts(BaseModel):
    """Number of jobs in each state."""

    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int


class RecentView(BaseModel):
    """The last 24 hours of one processor, in whole hours; the medians are those of its newest 100 jobs that ran."""

    processor: str
    succeeded: int
    failed: int
    canceled: int
    median_wait_s: float | None
    median_run_s: float | None


class LaneCounts(BaseModel):
    """How many lanes there are; a paused lane may still be busy with its last job."""

    online: int
    busy: int
    idle: int
    paused: int


class Statistics(BaseModel):
    """Statistics of the queue."""

    jobs: JobCounts
    last_24_h: list[RecentView]
    lanes: LaneCounts
    paused: bool = Field(description="Whether no job begins because everything, or every lane, is paused.")
    queue_eta_s: float | None = Field(
        description="About how long the jobs that could run now will take: their processors' median run of the last "
        "24 hours, and what is left of the jobs that run, shared by the lanes that take them. Null where a processor "
        "has no history or no lane."
    )


async def list_processors(request: Request) -> Response:
    """List the kinds of work this daemon can do."""
    del request
    views = [_processor_view(one) for one in registry.catalogue().values()]
    faulty = [NotLoaded(name=one.name, package=one.package, error=one.error) for one in registry.unloaded()]
    return json_answer(ProcessorList(processors=views, not_loaded=faulty))


async def get_processor(request: Request, name: str) -> Response:
    """Read one kind of work and the JSON schema of its parameters."""
    del request
    found = registry.catalogue().get(name)
    if found is None:
        raise VidqueueError(
            "not_found", f"There is no processor {name!r}.", hint="GET /v1/processors lists the processors."
        )
    return json_answer(_processor_view(found))


async def list_lanes(request: Request, query: LaneQuery) -> Response:
    """List the lanes of all hosts, each with the job it runs."""
    scope = scope_of(request)
    async with services_of(request).database.statement() as connection:
        found = await lanes.page(connection, with_offline=query.offline)
    return json_answer(LaneList(lanes=[lane_view(lane, owner=scope) for lane in found]))


async def get_stats(request: Request) -> Response:
    """Read statistics: jobs by state, the last 24 hours, the lanes."""
    return json_answer(await statistics(services_of(request).database, owner=scope_of(request)))


async def statistics(database: Database, *, owner: str | None) -> Statistics:
    """Return the statistics of the queue, with the jobs of one owner, or of everybody."""
    async with database.transaction() as connection:
        counts = await jobs.counts(connection, owner=owner)
        recent = await jobs.recent(connection, owner=owner)
        waiting = await jobs.waiting(connection)
        online = await lanes.page(connection)
        paused = await pauses.every(connection)
    everything = any(pause.scope == "everything" for pause in paused)
    return Statistics(
        jobs=JobCounts(**counts),
        last_24_h=[RecentView(**asdict(one)) for one in recent],
        lanes=_lane_counts(online),
        paused=everything or (bool(online) and all(lane.paused for lane in online)),
        queue_eta_s=queue_eta_s(waiting, recent, online),
    )


def queue_eta_s(waiting: list[Waiting], recent: list[Recent], online: list[LaneRow]) -> float | None:
    """About how many seconds the waiting jobs will take, or None if there is no basis for an estimate."""
    medians = {one.processor: one.median_run_s for one in recent}
    work_s: dict[Device, float] = {}
    for group in waiting:
        median = medians.get(group.processor)
        if median is None:
            return None
        work_s[group.device] = work_s.get(group.device, 0.0) + group.jobs * median
    shares = []
    for device, seconds in work_s.items():
        hands = [lane for lane in online if not lane.paused and not lane.suspended_at and device in lane.takes]
        if not hands:
            return None
        shares.append((seconds + sum(_left_s(lane, medians) for lane in hands)) / len(hands))
    return round(max(shares, default=0.0), 1)


def _left_s(lane: LaneRow, medians: dict[str, float | None]) -> float:
    """How long the lane's present job still takes."""
    if lane.eta_s is not None:
        return max(0.0, lane.eta_s)
    median = medians.get(lane.processor or "")
    if median is None or lane.started_at is None:
        return 0.0
    return max(0.0, median - (datetime.now(UTC) - lane.started_at).total_seconds())


def _lane_counts(online: list[LaneRow]) -> LaneCounts:
    busy = sum(lane.job_id is not None for lane in online)
    return LaneCounts(
        online=len(online), busy=busy, idle=len(online) - busy, paused=sum(lane.paused for lane in online)
    )


def _processor_view(processor: Processor) -> ProcessorView:
    reason = processor.unavailable()
    return ProcessorView(
        name=processor.name,
        description=inspect.getdoc(type(processor)) or "",
        device=processor.device,
        available=not reason,
        reason=reason or None,
        peers=[_peer_view(one) for one in processor.peers()],
        input_schema=schema_of(processor.Params),
        url=f"/v1/processors/{processor.name}",
    )


def _peer_view(server: PeerServer) -> ProcessorPeer:
    return ProcessorPeer(
        name=server.name,
        kind="managed" if server.launch else "external",
        device=server.device,
        lane=server.lane,
        problem=(server.launch and server.launch.fault()) or None,
    )
