"""What a queue must be able to do to be measured, and the file in which its jobs leave their times."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

# Nobody waits longer than this for a queue to become empty or to pick up one job.
PATIENCE_S = 300


@dataclass(frozen=True, slots=True)
class Drained:
    """How long a queue took to do everything that waited in it, and the CPU that it used."""

    jobs: int
    seconds: float
    cpu_s: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return self.jobs / self.seconds

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of CPU for each job, over all processes of the queue and its server."""
        return 1000 * sum(self.cpu_s.values()) / self.jobs


class Contender(Protocol):
    """A queue whose consumers are at rest, except inside `drain` and `pickups`."""

    def one_by_one(self, jobs: int) -> float:
        """Submit jobs with one call each; the seconds it took."""
        ...

    def batch(self, jobs: int) -> float:
        """Submit jobs as fast as its own interface can; the seconds it took."""
        ...

    def drain(self, consumers: int) -> Drained:
        """Let so many consumers do everything that waits."""
        ...

    def pickups(self, samples: int) -> list[float]:
        """Milliseconds from the call that submits a job to the beginning of its work, on one idle consumer."""
        ...


@dataclass(slots=True)
class Marks:
    """A file to which each job appends the monotonic clock; the clock is the same for all processes."""

    path: Path
    _seen: int = field(default=0)

    def __post_init__(self) -> None:
        self.path.touch(mode=0o666)
        self.path.chmod(0o666)

    def forget(self) -> None:
        """Leave out everything that was written so far."""
        self._seen = self.path.stat().st_size

    def wait_for(self, jobs: int) -> list[int]:
        """The next `jobs` marks since `forget`, in nanoseconds."""
        deadline = time.monotonic() + PATIENCE_S
        while len(marks := self._read()) < jobs:
            assert time.monotonic() < deadline, f"{len(marks)} of {jobs} jobs were begun within {PATIENCE_S} s"
            time.sleep(0.001 if jobs == 1 else 0.05)
        return sorted(marks)

    def drained(self, jobs: int, cpu_s: Mapping[str, float]) -> Drained:
        """The drain from the first begin to the last, plus one job's share for the last one's end."""
        marks = self.wait_for(jobs)
        return Drained(jobs, (marks[-1] - marks[0]) / 1e9 * jobs / max(1, jobs - 1), cpu_s)

    def _read(self) -> list[int]:
        with self.path.open("rb") as file:
            file.seek(self._seen)
            return [int(line) for line in file.read().split(b"\n")[:-1]]


def difference(after: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """What was used between two readings of `usage.cpu_s`."""
    return {kind: used - before.get(kind, 0.0) for kind, used in after.items()}
