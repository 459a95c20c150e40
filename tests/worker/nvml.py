"""NVML of one GPU that tests play: what the driver tells of its memory and of the processes that use it."""

# ruff: noqa: N802 - the names are pynvml's
from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

MEBIBYTE = 1 << 20


class NVMLError(Exception):
    """As pynvml's."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value


@dataclass
class Nvml:
    """A module like `pynvml`. `used` has MiB and percent of the time by process id."""

    total_mib: int = 8000
    used: dict[int, tuple[int, int]] = field(default_factory=dict)
    names_processes: bool = True
    NVML_ERROR_NOT_FOUND = 6
    NVML_TEMPERATURE_GPU = 0
    NVMLError = NVMLError

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the daemon of this process ask us."""
        monkeypatch.setitem(sys.modules, "pynvml", self)

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:
        return 0

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return "GPU-played"

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "Played"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        used = sum(mib for mib, _ in self.used.values())
        return SimpleNamespace(total=self.total_mib * MEBIBYTE, used=used * MEBIBYTE)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=min(100, sum(percent for _, percent in self.used.values())))

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 50

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return 90_000

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        if not self.names_processes:
            raise NVMLError(3)
        return [SimpleNamespace(pid=pid, usedGpuMemory=mib * MEBIBYTE) for pid, (mib, _) in self.used.items()]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: int) -> list[Any]:
        return []

    def nvmlDeviceGetProcessUtilization(self, handle: int, since: int) -> list[Any]:
        at = int(time.time() * 1e6)
        return [SimpleNamespace(pid=pid, smUtil=percent, timeStamp=at) for pid, (_, percent) in self.used.items()]
