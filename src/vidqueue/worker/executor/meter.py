"""Meter of an executor: what the attempt in hand has used, also where the executor is killed."""

from __future__ import annotations

from typing import Any

from vidqueue.job import Usage
from vidqueue.jobs.estimates import Estimates
from vidqueue.ops import processes
from vidqueue.sanitize import sanitize_number
from vidqueue.worker.executor.messages import Used

# Bytes or seconds of one attempt.
MOST = 1e15
# MiB of one GPU.
MOST_MIB = 1 << 24


class Meter:
    """Measures one attempt after the other; `estimates` say how long each was expected to take."""

    def __init__(self) -> None:
        self.estimates: Estimates | None = None
        self._so_far_s = 0.0
        self.reset()

    def reset(self) -> None:
        """Begin with another attempt; it may never reach the executor."""
        self.usage = Usage()
        self._pid: int | None = None

    def begin(self, pid: int) -> None:
        """There is a new executor, with this process id; the time that its start took is no attempt's."""
        self._so_far_s = processes.cpu_s(pid)

    def start(self, pid: int) -> None:
        """The executor with this process id takes the attempt in hand."""
        self._pid, self._before_s = pid, self._so_far_s

    def read(self) -> None:
        """Write down the CPU time so far; nobody can once the executor has been reaped."""
        if self._pid is not None:
            self._take(processes.cpu_s(self._pid))

    def _take(self, so_far_s: float) -> None:
        # Nothing is known of an executor that has ended. /proc counts in hundredths of a second, an executor exactly.
        if so_far_s > 0:
            self.usage.cpu_s, self._so_far_s = round(max(0.0, so_far_s - self._before_s), 2), so_far_s

    def total(self, processor: str) -> Usage:
        """Return what the attempt has used, and how long it would have been expected to take."""
        if self.estimates is not None:
            self.usage.expected_s = self.estimates.expected_s(processor, self.usage.input_bytes)
        return self.usage

    @property
    def measured(self) -> Usage | None:
        """The usage of the attempt in hand, once its executor works on it."""
        return self.usage if self._pid is not None else None

    def hear(self, used: Used) -> None:
        """The executor told what the attempt has used, because it ends; to read that in /proc would cost more."""
        self._take(_amount(used.cpu_s))
        self.usage.input_bytes, self.usage.video_s = int(_amount(used.input_bytes)), _amount(used.video_s)
        # torch's figure is of this job; NVML also counts memory that the process has kept from earlier jobs.
        if device_mb := min(MOST_MIB, int(_amount(used.device_mb))):
            self.usage.device_mb = device_mb


def _amount(told: Any) -> float:
    """Return what an executor told as an amount: it may send anything."""
    return min(max(0.0, sanitize_number(told) or 0.0), MOST)
