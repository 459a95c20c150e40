"""NVML: which GPUs this machine has, whether they respond, and how busy they are.

torch is never imported for it. A driver that has lost a GPU may never come back from a question.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

# A healthy driver answers within milliseconds.
PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU. `memory_mib` is its whole memory in MiB."""

    uuid: str
    name: str
    memory_mib: int


def discover() -> list[Gpu]:
    """Return every GPU that the driver lists; an empty list without a driver."""
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
    """True if the driver still reaches the GPU, which has not fallen off the bus and whose driver does not restart."""
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


@dataclass(frozen=True, slots=True)
class Readings:
    """How busy a GPU is: MiB, percent, degrees Celsius, watts; None where the driver does not tell."""

    memory_used_mib: int | None = None
    utilization: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None


def read(uuid: str) -> Readings | None:
    """Return the readings of a GPU; None without a driver."""
    import pynvml  # noqa: PLC0415 - only a daemon with GPU lanes asks

    def told(ask: Callable[..., Any], *given: Any) -> Any:
        # A driver knows each of them or not, whatever it knows of the others.
        try:
            return ask(handle, *given)
        except pynvml.NVMLError:
            return None

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        memory, rates = told(pynvml.nvmlDeviceGetMemoryInfo), told(pynvml.nvmlDeviceGetUtilizationRates)
        power_mw = told(pynvml.nvmlDeviceGetPowerUsage)
        return Readings(
            memory.used // (1 << 20) if memory else None,
            rates.gpu if rates else None,
            told(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU),
            None if power_mw is None else round(power_mw / 1000, 1),
        )
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


@dataclass(frozen=True, slots=True)
class Question:
    """A query to one GPU that has not returned yet, and when it was sent."""

    answer: Future[bool] = field(default_factory=Future)
    asked_at: float = field(default_factory=time.monotonic)


_open: dict[str, Question] = {}
# What each GPU told when it last answered.
_readings: dict[str, Readings | None] = {}


def latest(uuid: str) -> Readings | None:
    """Return the readings from the last answer of a GPU; they are as old as the last round of lane health."""
    return _readings.get(uuid)


async def answers_in_time(uuid: str) -> bool:
    """True if the GPU answers in time. A GPU with a pending query is not queried again."""
    question = _open.get(uuid)
    if question is None or question.answer.done():
        question = _open[uuid] = Question()
        # A thread of its own: a pool would lose one of its threads, and wait for it when the daemon ends.
        threading.Thread(target=_ask, args=(uuid, question.answer), name=f"nvml-{uuid}", daemon=True).start()
    left_s = question.asked_at + PATIENCE_S - time.monotonic()
    if left_s > 0:
        await asyncio.wait([asyncio.wrap_future(question.answer)], timeout=left_s)
    return question.answer.done() and question.answer.result()


def _ask(uuid: str, answer: Future[bool]) -> None:
    reached = False
    try:
        reached = answers(uuid)
        _readings[uuid] = read(uuid) if reached else None
    finally:
        answer.set_result(reached)


def _gpu(pynvml: object, handle: object) -> Gpu:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)  # type: ignore[attr-defined]
    return Gpu(
        uuid=pynvml.nvmlDeviceGetUUID(handle),  # type: ignore[attr-defined]
        name=pynvml.nvmlDeviceGetName(handle),  # type: ignore[attr-defined]
        memory_mib=memory.total // (1 << 20),
    )
