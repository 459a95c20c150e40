"""A daemon's start, its rest, and what a warm executor saves: start to ready, CPU and memory at rest, `import torch`.

The daemon runs with its embedded PostgreSQL, as for people who have no server; both are counted.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import usage
from benchmarks.contenders.base import Marks, difference
from benchmarks.contenders.ours import Vidqueue, daemon_with_noop
from benchmarks.measure import Report, interleaved, machine
from tests.daemon import Daemon

PART = "rest"


def starts(folder: Path, rounds: int, report: Report) -> None:
    """Seconds from the start of the process to its `daemon_ready`, on a new folder and on one that was used before."""
    used = folder / "used"
    _ready_s(used)
    number = iter(range(rounds))
    systems = {
        "new folder": lambda: _ready_s(folder / f"new{next(number)}"),
        "initialised folder": lambda: _ready_s(used),
    }
    report.add(PART, "start to ready", "s", interleaved(systems, rounds))


def _ready_s(folder: Path) -> float:
    daemon = daemon_with_noop(folder)
    begun = time.perf_counter()
    daemon.start()
    took = time.perf_counter() - begun
    daemon.stop()
    return took


def rest(daemon: Daemon, seconds: float, rounds: int, report: Report) -> None:
    """Share of one core and memory of daemon and PostgreSQL while nothing is to be done and no executor runs."""
    pid = daemon.process.pid
    shares: dict[str, list[float]] = {}
    memory = []
    for _ in range(rounds):
        before = usage.cpu_s(pid)
        time.sleep(seconds)
        for kind, used in difference(usage.cpu_s(pid), before).items():
            shares.setdefault(kind, []).append(100 * used / seconds)
        memory.append(usage.memory_mb(pid))
    sums = [sum(round_) for round_ in zip(*shares.values(), strict=True)]
    report.add(PART, f"CPU at rest, {seconds:.0f} s each", "% of a core", {"all": sums, **shares}, against="all")
    report.add(PART, "memory at rest (PSS)", "MB", {"daemon and PostgreSQL": memory})


def warmth(daemon: Daemon, folder: Path, rounds: int, report: Report) -> None:
    """A job on a warm executor, against a process that imports torch."""
    vidqueue = Vidqueue(daemon, Marks(folder / "marks"))
    vidqueue.pickups(1)
    systems = {"cold `import torch`": _import_torch_ms, "job on a warm executor": lambda: vidqueue.pickups(5)[-1]}
    report.add(PART, "until the work begins", "ms", interleaved(systems, rounds))


def _import_torch_ms() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return 1000 * (time.perf_counter() - begun)


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rest", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the table shows their medians (5)")
    parser.add_argument("--seconds", type=float, default=20, help="length of each look at the daemon at rest (20)")
    parser.add_argument("--out", type=Path, help="file to write the table to, as .md and .json")
    wanted = parser.parse_args()
    report = Report(machine=machine())
    with tempfile.TemporaryDirectory(prefix="vidqueue-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        starts(folder, wanted.rounds, report)
        daemon = daemon_with_noop(folder / "resting").start()
        try:
            time.sleep(5)  # the work of the start is not rest
            rest(daemon, wanted.seconds, wanted.rounds, report)
            warmth(daemon, folder, wanted.rounds, report)
        finally:
            daemon.stop()
    report.publish(wanted.out)


if __name__ == "__main__":
    main()
