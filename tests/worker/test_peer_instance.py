"""One managed peer: starts and stops that come at the same time, and a job that comes while its health is looked at."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.worker.nvml import Nvml
from vidqueue.job import Device, Outcome, OutputDraft, Succeeded
from vidqueue.ops import processes
from vidqueue.processors.base import Context, Parameters, Processor
from vidqueue.processors.peers import Condition, Launch, PeerServer
from vidqueue.worker.executor.suspension import Suspension
from vidqueue.worker.peers.instance import Instance
from vidqueue.worker.peers.lane_peers import Demand, LanePeers
from vidqueue.worker.peers.process import free_port, release_port

MARK = "lane:test-peers"
# A server that needs a moment to end, and that cannot start while an earlier one has its port.
SERVER = """
import os, signal, socket, sys, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), os._exit(0)))
with socket.create_server(("127.0.0.1", int(os.environ["PORT"]))) as server:
    while True:
        server.accept()[0].close()
"""


class Peer:
    """A server that says what a test wants."""

    def __init__(self, setup_timeout_s: float = 20) -> None:
        self.condition = Condition("ready")
        self.asked, self.may_answer = threading.Event(), threading.Event()
        self.may_answer.set()
        launch = Launch((sys.executable, "-c", SERVER), setup_timeout_s=setup_timeout_s)
        self.suspension = Suspension("lane:test")
        server = PeerServer("cog:test", "cpu", launch=launch, ask=self._ask)
        self.instance = Instance(server, "cpu0", MARK, None, self.suspension)
        self.suspension.subreapers = lambda: [self.instance.subreaper] if self.instance.subreaper else []

    def _ask(self, url: str) -> Condition:
        condition = self.condition
        self.asked.set()
        self.may_answer.wait(10)
        return condition


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    made = Peer()
    yield made
    made.may_answer.set()
    await made.instance.stop("the test ends")
    assert list(processes.marked(MARK)) == []


async def test_a_server_that_is_needed_while_it_is_stopped_is_started_when_that_has_ended(peer: Peer) -> None:
    await peer.instance.up()
    peer.condition = Condition("broken", "DEFUNCT")
    checking = asyncio.create_task(peer.instance.check())
    while peer.instance.alive:
        await asyncio.sleep(0.001)
    peer.condition = Condition("ready")
    await peer.instance.up()
    await checking
    assert peer.instance.alive
    assert (peer.instance.starts, peer.instance.problem) == (2, "")


async def test_a_job_that_takes_a_server_while_its_health_is_asked_keeps_it(peer: Peer) -> None:
    await peer.instance.up()
    peer.condition = Condition("broken", "DEFUNCT")
    peer.asked.clear()
    peer.may_answer.clear()
    checking = asyncio.create_task(peer.instance.check())
    await asyncio.to_thread(peer.asked.wait, 10)
    with peer.instance.serving("job"):
        peer.may_answer.set()
        await checking
        assert peer.instance.alive


async def test_a_job_that_ends_while_a_server_is_stopped_leaves_nothing_of_it(peer: Peer) -> None:
    await peer.instance.up()
    stopping = asyncio.create_task(peer.instance.stop("the job failed"))
    while peer.instance.alive:
        await asyncio.sleep(0.001)
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    # The next start needs the port and the mark.
    await peer.instance.up()
    assert peer.instance.alive


async def test_no_time_passes_for_a_server_that_starts_while_its_job_is_suspended() -> None:
    peer = Peer(setup_timeout_s=1.5)
    peer.condition = Condition("starting")
    starting = asyncio.create_task(peer.instance.up())
    try:
        await asyncio.to_thread(peer.asked.wait, 10)
        await peer.suspension.suspend()
        subreaper = peer.instance.subreaper
        assert subreaper is not None
        (server,) = processes.children_of(subreaper)
        assert (processes._state(server), processes._state(subreaper)) == ("T", "S")
        await asyncio.sleep(2)
        assert not starting.done()
        peer.condition = Condition("ready")
        peer.suspension.resume()
        await starting
        # One that dies meanwhile is not started before the job goes on.
        await peer.suspension.suspend()
        os.kill(subreaper, signal.SIGKILL)
        keeping = asyncio.create_task(peer.instance.keep_up())
        while peer.instance.alive:
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.5)
        assert peer.instance.subreaper is None
        peer.suspension.resume()
        while peer.instance.starts < 2:
            await asyncio.sleep(0.01)
        keeping.cancel()
    finally:
        peer.suspension.resume()
        await peer.instance.stop("the test ends")


class ModelParams(Parameters):
    need_mb: int = 0


class Model(Processor):
    """A model that runs in the executor."""

    name = "model"
    device: ClassVar[Device] = "gpu"
    Params = ModelParams

    def __init__(self, *servers: PeerServer) -> None:
        super().__init__()
        self._servers = servers

    def vram_mb(self, params: Any) -> int:
        return int(params.need_mb)

    def peers_for(self, params: Any) -> Sequence[PeerServer]:
        return self._servers

    def run(self, params: Any, ctx: Context) -> list[OutputDraft]:
        raise NotImplementedError


class Encoder(Model):
    """It may use the card for encoding."""

    name = "encoder"
    device = "cpu"


async def test_an_idle_server_gives_way_to_a_job_that_needs_the_memory_of_the_card(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = Nvml(total_mib=8000, used={os.getpid(): (4000, 0)})
    nvml.install(monkeypatch)
    lane = LanePeers("gpu0", MARK, Suspension(MARK), ("gpu",), "GPU-played", 8000)
    server = replace(peer.instance.server, device="gpu")
    lane._instances[server.name] = peer.instance
    peer.instance.server = server
    unloaded: list[str] = []

    async def unload() -> None:
        unloaded.append("executor")

    async def work(urls: Mapping[str, str]) -> Outcome:
        return Succeeded(())

    async def runs(processor: Processor, **params: Any) -> bool:
        """Run a job, and say whether the server runs after it."""
        ended = asyncio.get_running_loop().create_future()
        demand = Demand(processor, params, "job", lambda _: None, lambda: None, ended, unload)
        assert isinstance(await lane.run(demand, work), Succeeded)
        return peer.instance.alive

    for processor, need_mb, stays in (
        (Model(), 3000, True), (Model(), 5000, False), (Model(), 0, False), (Encoder(), 0, True),
    ):  # fmt: skip
        before = peer.instance.starts
        assert await runs(Model(server))
        # Models of the executor give way to a server that starts, and only then.
        assert len(unloaded) == peer.instance.starts >= before
        assert await runs(processor, need_mb=need_mb) == stays, (processor.name, need_mb)
    assert peer.instance.starts == 3


def test_a_port_is_none_that_the_kernel_gives_to_connections() -> None:

    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = {free_port() for _ in range(100)}
    assert len(ports) == 100
    assert not any(first <= port <= last for port in ports)
    for port in ports:
        release_port(port)
