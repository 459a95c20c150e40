"""Which GPUs this machine has, asked of the driver through NVML; torch is never imported for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU. `memory_mb` is its whole memory in MiB."""

    uuid: str
    name: str
    memory_mb: int


def discover() -> list[Gpu]:
    """Every GPU the driver tells of; empty where there is no driver."""
    import pynvml  # noqa: PLC0415 - only a daemon with GPU lanes asks

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [_gpu(pynvml, handle) for handle in handles]
    finally:
        pynvml.nvmlShutdown()


def answers(uuid: str) -> bool:
    """Whether the driver still reaches a GPU. One that fell off the bus, or whose driver restarts, does not answer."""
    import pynvml  # noqa: PLC0415 - only a daemon with GPU lanes asks

    try:
        pynvml.nvmlInit()
        try:
            pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(uuid))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return False
    return True


def _gpu(pynvml: object, handle: object) -> Gpu:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)  # type: ignore[attr-defined]
    return Gpu(
        uuid=pynvml.nvmlDeviceGetUUID(handle),  # type: ignore[attr-defined]
        name=pynvml.nvmlDeviceGetName(handle),  # type: ignore[attr-defined]
        memory_mb=memory.total // (1 << 20),
    )
