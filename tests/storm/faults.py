"""The faults of a storm: each strikes, lasts, and mends what it broke before it returns."""

from __future__ import annotations

import errno
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.storm import processes
from tests.storm.history import BrokenError
from tests.storm.peers import COG, COG_WORKER, COMFYUI, PYTHON_OF_COG, VIDEOS
from tests.storm.world import HOSTS, LEASE_S, Host, World


@dataclass
class Blow:
    """What a fault may use: the world, numbers of its own, and how long it may last.

    Attributes:
        over: set when the storm ends; whoever lasts returns then.
        longest_s: the longest that the database may be away.
    """

    world: World
    random: random.Random
    over: threading.Event
    longest_s: float

    def last(self, seconds: float) -> None:
        """Let the fault last so long, or until the storm is over."""
        self.over.wait(seconds)


@dataclass(frozen=True)
class Fault:
    """A fault, and what it needs for itself while it lasts: a daemon's name, or `database`.

    `strike` returns a few words on what it hit; empty words say that there was nothing to hit.
    """

    name: str
    needs: frozenset[str]
    strike: Callable[[Blow], str]


def _kill_executor(blow: Blow) -> str:
    return _kill_one(blow, "vidqueue.worker.executor.child", patience_s=1)


def _kill_ffmpeg(blow: Blow) -> str:
    return _kill_one(blow, "ffmpeg", patience_s=15)


def _kill_server(*programs: str) -> Callable[[Blow], str]:
    """Kill a managed server, a worker of it, or the subreaper that stands between it and its daemon."""
    return lambda blow: _kill_one(blow, *programs, patience_s=15)


def _restart_video_server(blow: Blow) -> str:
    """It comes back without its videos."""
    server = blow.world.video_server
    lost = len(server.at_work())
    server.kill()
    away_s = blow.random.choice([0, blow.random.uniform(0, 4)])
    blow.last(away_s)
    server.start()
    return f"{lost} at work, away for {away_s:.1f} s"


def _kill_one(blow: Blow, *patterns: str, patience_s: float) -> str:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and not blow.over.is_set():
        found = [
            one
            for host in blow.world.hosts.values()
            for one in processes.descendants(host.pid)
            if any(pattern in one.command for pattern in patterns) and "launcher" not in one.command
        ]
        if found:
            victim = blow.random.choice(found)
            return f"process {victim.pid}" if processes.send(victim.pid, signal.SIGKILL) else ""
        time.sleep(0.02)
    return ""


def _kill_daemon(host_name: str) -> Callable[[Blow], str]:
    def strike(blow: Blow) -> str:
        host = blow.world.hosts[host_name]
        host.kill()
        away_s = blow.random.choice([0, 0, blow.random.uniform(0, 2 * LEASE_S)])
        blow.last(away_s)
        host.start()
        return f"away for {away_s:.1f} s"

    return strike


def _drain(host_name: str) -> Callable[[Blow], str]:
    def strike(blow: Blow) -> str:
        host = blow.world.hosts[host_name]
        hurried = blow.random.random() < 0.3
        if (code := host.drain(hurried=hurried)) != 0:
            raise BrokenError(f"daemon {host_name} ended with {code} after SIGTERM")
        host.start()
        return "two SIGTERM" if hurried else "one SIGTERM"

    return strike


def _freeze_daemon(host_name: str) -> Callable[[Blow], str]:
    def strike(blow: Blow) -> str:
        host: Host = blow.world.hosts[host_name]
        frozen_s = LEASE_S + blow.random.uniform(1, 6)
        processes.send(host.pid, signal.SIGSTOP)
        try:
            blow.last(frozen_s)
        finally:
            processes.send(host.pid, signal.SIGCONT)
        return f"for {frozen_s:.1f} s"

    return strike


def _restart_postgres(blow: Blow) -> str:
    blow.world.postgres.crash()
    blow.world.postgres.start()
    return "at once"


def _postgres_away(blow: Blow) -> str:
    away_s = blow.random.uniform(0.3, 1) * blow.longest_s
    gently = blow.random.random() < 0.5
    if gently:
        blow.world.postgres.stop()
    else:
        blow.world.postgres.crash()
    blow.last(away_s)
    blow.world.postgres.start()
    return f"{'fast' if gently else 'immediate'} stop, for {away_s:.1f} s"


def _lose_listen(blow: Blow) -> str:
    found = blow.world.postgres.sql(
        "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) AS gone"
        " FROM pg_stat_activity WHERE query ILIKE 'LISTEN%'"
    )
    return f"{found[0]['gone']} backends" if found[0]["gone"] else ""


def _prune_workers(blow: Blow) -> str:
    """What a lane does at its start to all lanes that were silent for half a minute, as after an outage."""
    found = blow.world.postgres.sql(
        "WITH gone AS (DELETE FROM procrastinate.procrastinate_workers RETURNING 1) SELECT count(*) AS n FROM gone"
    )
    return f"{found[0]['n']} workers" if found[0]["n"] else ""


def _freeze_backend(blow: Blow) -> str:
    backends = blow.world.postgres.sql(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'vidqueue' ORDER BY pid"
    )
    if not backends:
        return ""
    pid, frozen_s = int(blow.random.choice(backends)["pid"]), blow.random.uniform(2, 9)
    if processes.name_of(pid) != "postgres" or not processes.send(pid, signal.SIGSTOP):
        return ""
    try:
        blow.last(frozen_s)
    finally:
        if processes.name_of(pid) == "postgres":
            processes.send(pid, signal.SIGCONT)
    return f"backend {pid} for {frozen_s:.1f} s"


def _fill_disk(blow: Blow) -> str:
    assert blow.world.small_disk is not None
    filler, full_s = blow.world.small_disk / "filler", blow.random.uniform(2, 5)
    try:
        _fill(filler)
        blow.last(full_s)
    finally:
        filler.unlink(missing_ok=True)
    return f"for {full_s:.1f} s"


def _fill(path: Path) -> None:
    """Write until there is no room for one more byte."""
    with path.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    os.write(file.fileno(), b"\0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


KILL_COG = Fault("kill Cog", frozenset(), _kill_server(COG, COG_WORKER))
FULL_DISK = Fault("full disk B", frozenset({"B"}), _fill_disk)
FAULTS = [
    Fault("kill executor", frozenset(), _kill_executor),
    Fault("kill ffmpeg", frozenset(), _kill_ffmpeg),
    Fault("kill ComfyUI", frozenset(), _kill_server(COMFYUI)),
    Fault("kill video server", frozenset(), _kill_server(VIDEOS)),
    Fault("restart video server", frozenset({"video server"}), _restart_video_server),
    Fault("restart PostgreSQL", frozenset({"database"}), _restart_postgres),
    Fault("PostgreSQL away", frozenset({"database"}), _postgres_away),
    Fault("lose LISTEN", frozenset({"database"}), _lose_listen),
    Fault("prune workers", frozenset({"database"}), _prune_workers),
    Fault("freeze backend", frozenset({"database"}), _freeze_backend),
    *(Fault(f"kill daemon {name}", frozenset({name}), _kill_daemon(name)) for name in HOSTS),
    *(Fault(f"drain daemon {name}", frozenset({name}), _drain(name)) for name in HOSTS),
    *(Fault(f"freeze daemon {name}", frozenset({name}), _freeze_daemon(name)) for name in HOSTS),
    KILL_COG,
    FULL_DISK,
]


def faults_for(world: World, only: str = "") -> list[Fault]:
    """Every fault that this machine allows and whose name holds `only`."""
    possible = [fault for fault in FAULTS if fault is not FULL_DISK or world.small_disk is not None]
    possible = [fault for fault in possible if fault is not KILL_COG or PYTHON_OF_COG.exists()]
    return [fault for fault in possible if only in fault.name]
