"""Resource usage of one job as measured in its executor: the size of its inputs, and the GPU memory of torch."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidqueue.ops import processes
from vidqueue.worker.executor.messages import RunJob, Used

_MEBIBYTE = 1 << 20


class UsageOfJob:
    """Measures one job from its creation to the end of the job."""

    def __init__(self) -> None:
        self._pool = 0
        if (cuda := _cuda()) is not None:
            cuda.reset_peak_memory_stats()
            self._pool = cuda.memory_reserved()

    def total(self, order: RunJob, seen_s: Mapping[Path, float]) -> Used:
        """Return the usage of the job; outputs that a processor probed do not count as inputs."""
        inputs = set(map(Path, order.inputs.values()))
        size = 0
        for path in inputs:
            with contextlib.suppress(OSError):
                size += path.stat().st_size
        video_s = round(sum(seen_s.get(path, 0.0) for path in inputs), 3)
        return Used(size, video_s, self._device_mb(), processes.own_cpu_s())

    def _device_mb(self) -> int:
        """Return the most GPU memory that torch held, in MiB; 0 where the job used none."""
        if (cuda := _cuda()) is None:
            return 0
        reserved = cuda.max_memory_reserved()
        # If the pool did not grow, its size is that of an earlier job, so only the memory of tensors counts.
        peak = reserved if reserved > self._pool else cuda.max_memory_allocated()
        return int(peak) // _MEBIBYTE


def _cuda() -> Any:
    """Return torch.cuda if a processor has used it; torch is not imported for this."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
