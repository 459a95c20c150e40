"""The managed peers of one lane: provides the server that a job needs, and stops idle ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.job import Canceled, Device, Failed, Failure, Outcome, Waiting
from vidqueue.ops.supervise import supervise
from vidqueue.processors import registry
from vidqueue.processors.base import Parameters, Processor
from vidqueue.processors.peers import PeerServer
from vidqueue.progress import LogLine, Progress
from vidqueue.sanitize import Redactor
from vidqueue.settings.secrets import secret_values
from vidqueue.worker import gpus
from vidqueue.worker.executor.suspension import Suspension
from vidqueue.worker.peers.instance import Instance

TICK_S = 0.5
STAGE = "start"


@dataclass(frozen=True, slots=True)
class Demand:
    """The request of an attempt for a managed peer.

    Attributes:
        hear: receives progress, and the lines of the server's log.
        touch: called while the server starts, because a long setup is no stall.
        ended: done when the attempt should end.
        unload: stops the executor, whose models may hold GPU memory.
    """

    processor: Processor | None
    params: dict[str, Any]
    job: str
    hear: Callable[[Progress | LogLine], None]
    touch: Callable[[], None]
    ended: asyncio.Future[Any]
    unload: Callable[[], Awaitable[None]]


@dataclass(slots=True)
class LanePeers:
    """Starts and stops the servers of one lane. It is used only in the event loop's thread."""

    lane: str
    mark: str
    suspension: Suspension
    takes: Sequence[Device] = ("cpu", "gpu")
    gpu_uuid: str | None = None
    vram_mb: int = 0
    _instances: dict[str, Instance] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Register the servers with the suspension, so that they are stopped with the executor."""
        self.suspension.subreapers = self._subreapers

    @property
    def alive(self) -> bool:
        """True if a server runs."""
        return any(one.alive for one in self._instances.values())

    async def run(self, demand: Demand, work: Callable[[dict[str, str]], Awaitable[Outcome]]) -> Outcome:
        """Do the work of an attempt with the address of the server that it needs; start that one if it does not run."""
        params = self._parsed(demand)
        wanted = self._wanted(demand.processor, params)
        if not wanted:
            if await self._needs_card(demand.processor, params):
                await self.stop_idle("a job needs the GPU memory")
            return await work({})
        instance = self._chosen(wanted)
        instance.listen(demand.hear, Redactor(secret_values(demand.processor.config if demand.processor else None)))
        try:
            with instance.serving(demand.job):
                refusal = await self._started(instance, demand)
                if refusal is not None:
                    return refusal
                keeping = supervise(instance.keep_up, f"keep-{instance.server.name}")
                try:
                    outcome = await work({instance.server.name: instance.url})
                finally:
                    keeping.cancel()
                    await asyncio.gather(keeping, return_exceptions=True)
        finally:
            instance.listen(None)
        await instance.judge(outcome)
        return outcome

    async def check(self) -> None:
        """Stop servers that were idle for too long, are unhealthy, or whose configuration has changed."""
        configured = {one.name: one for one in self.configured()}
        for name, instance in list(self._instances.items()):
            if instance.at_work:
                continue
            if configured.get(name) != instance.server:
                await instance.stop("the configuration has changed")
                del self._instances[name]
            else:
                await instance.check()

    async def stop_idle(self, why: str, *, but: str = "") -> None:
        """Stop every server that no job uses."""
        idle = [one for name, one in self._instances.items() if name != but and not one.at_work]
        await asyncio.gather(*(one.stop(why) for one in idle))

    async def close(self) -> None:
        """Stop every server."""
        await asyncio.gather(*(one.stop("the lane is closing") for one in self._instances.values()))

    def configured(self) -> list[PeerServer]:
        """Every managed server that this lane may run."""
        found = {one.name: one for processor in registry.catalogue().values() for one in processor.peers()}
        return [one for one in found.values() if one.launch and one.device in self.takes and one.runs_on(self.lane)]

    def described(self) -> list[dict[str, Any]]:
        """Return the state of each server, as lists of lanes show it."""
        return [_described(self._instances.get(one.name), one) for one in self.configured()]

    def _parsed(self, demand: Demand) -> Parameters | None:
        """Return the parameters of a job that may concern servers; None for others, and for those that do not fit."""
        processor = demand.processor
        if processor is None:
            return None
        names_servers = type(processor).peers_for is not Processor.peers_for
        if not names_servers and (self.gpu_uuid is None or not self.alive):
            return None
        try:
            return registry.parse(processor, demand.params)
        except VidqueueError:
            return None  # the executor says what is wrong

    def _wanted(self, processor: Processor | None, params: Parameters | None) -> list[PeerServer]:
        found = processor.peers_for(params) if processor is not None and params is not None else []
        return [one for one in found if one.launch is not None and one.runs_on(self.lane)]

    async def _needs_card(self, processor: Processor | None, params: Parameters | None) -> bool:
        """True if a job may need the GPU memory that idle servers hold."""
        if processor is None or params is None or self.gpu_uuid is None or not self.alive:
            return False
        need_mb = processor.vram_mb(params)
        if not need_mb:
            # The processor loads a model of unknown size. Other processors use the GPU for encoding at most.
            return processor.device == "gpu"
        readings = gpus.latest(self.gpu_uuid) if await gpus.answers_in_time(self.gpu_uuid) else None
        used_mb = readings.memory_used_mib if readings is not None else None
        return used_mb is None or need_mb > self.vram_mb - used_mb

    def _chosen(self, wanted: list[PeerServer]) -> Instance:
        """Return the instance of a server that runs, else that of the first one."""
        up = [one for one in wanted if one.name in self._instances and self._instances[one.name].alive]
        server = (up or wanted)[0]
        if server.name not in self._instances:
            self._instances[server.name] = Instance(server, self.lane, self.mark, self.gpu_uuid, self.suspension)
        return self._instances[server.name]

    def _subreapers(self) -> list[int]:
        return [one.subreaper for one in self._instances.values() if one.at_work and one.subreaper is not None]

    async def _started(self, instance: Instance, demand: Demand) -> Outcome | None:
        """Start the server; return the outcome of the attempt if that fails."""
        starting = asyncio.create_task(self._bring_up(instance, demand), name=f"{self.lane}-peer")
        try:
            while not starting.done() and not demand.ended.done():
                await asyncio.wait([starting, demand.ended], timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
                demand.touch()
            # The caller returns the outcome of the guard.
            return starting.result() if starting.done() else Canceled()
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)

    async def _bring_up(self, instance: Instance, demand: Demand) -> Outcome | None:
        name = instance.server.name
        configured = next((one for one in self.configured() if one.name == name), instance.server)
        if configured != instance.server:
            await instance.stop("the configuration has changed")
            instance.server = configured
        if instance.alive and instance.state != "starting" and not await instance.is_sound(demand.job):
            await instance.stop(instance.problem)
        if not instance.alive:
            if instance.rests_s > 0:
                message = f"The server {name} could not be started ({instance.problem}); the job will be retried."
                return Waiting("peer_unavailable", message, retry_after_s=instance.rests_s)
            if instance.server.device == "gpu":
                # Only one server at a time may use the GPU.
                await self.stop_idle(f"the GPU is needed for {name}", but=name)
                if self.gpu_uuid is not None:
                    await demand.unload()
            demand.hear(Progress(0.0, STAGE, f"Starting the server {name}"))
            if instance.problem:
                demand.hear(LogLine(f"Restarting the server {name}: {instance.problem}", "warning"))
        try:
            await instance.up()
        except VidqueueError as error:
            return Failed(Failure.from_error(error))
        return None


def _described(instance: Instance | None, server: PeerServer) -> dict[str, Any]:
    if instance is None:
        return {"name": server.name, "state": "stopped", "since": None, "starts": 0, "problem": None}
    return {
        "name": server.name,
        "state": instance.state,
        "since": instance.since.isoformat(),
        "starts": instance.starts,
        "problem": instance.problem or None,
    }
