"""A lane of this daemon: its executor, its managed peers, and the state that its attempts share with other lanes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from uuid import UUID

from vidqueue.jobs.finish_queue import FinishQueue
from vidqueue.worker.executor.parent import Executor
from vidqueue.worker.guards import Drain, Guards
from vidqueue.worker.peers.lane_peers import LanePeers
from vidqueue.worker.slots import Slots


@dataclass
class Lane:
    """A place where one job runs at a time.

    Attributes:
        peers: the servers that the daemon runs for the lane.
        drain: begun when the daemon shuts down.
        finishes: the attempts of all lanes that end at one moment.
        guards: keeps the leases of the lane's attempts, and ends them early.
        came_to_rest: set when a series of attempts has ended, so that dispatch looks for work again.
        gpu_uuid: the lane's GPU, where it has one.
        warm: processors the present executor has run.
        slots: resources with a limited number of users, shared by the jobs of all lanes.
        turn: locked during a series of attempts.
        free_wanted: the executor's memory was requested; the lane takes no work until it is free.
        rested_at: when it last came to rest, by the clock of the event loop.
    """

    id: UUID
    name: str
    queue: str
    executor: Executor
    peers: LanePeers
    drain: Drain
    guards: Guards
    came_to_rest: asyncio.Event
    finishes: FinishQueue | None = None
    warm: list[str] = field(default_factory=list)
    gpu_uuid: str | None = None
    slots: Slots = field(default_factory=Slots)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    free_wanted: bool = False
    rested_at: float = float("-inf")

    @property
    def idle(self) -> bool:
        """True if dispatch may give the lane work: it has none, and its executor can be started."""
        return not self.turn.locked() and self.executor.rested and not self.free_wanted

    @property
    def holds(self) -> bool:
        """True if a process of the lane may hold memory."""
        return self.executor.alive or self.peers.alive

    def rest(self) -> None:
        """Tell dispatch that a series of attempts has ended."""
        self.rested_at = asyncio.get_running_loop().time()
        self.came_to_rest.set()

    async def unload(self) -> None:
        """Stop the executor to free the memory of its models; the next job starts another one."""
        await self.executor.stop()
        self.warm = []

    async def release(self, *, peers: bool = True) -> bool:
        """Stop the executor and the servers of an idle lane to free their memory; False if the lane is busy."""
        if self.turn.locked():
            return False
        async with self.turn:
            await self.executor.stop()
            if peers:
                await self.peers.stop_idle("the lane was released")
        return True
