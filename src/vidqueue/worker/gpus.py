"""NVML: which GPUs this machine has, whether they respond, how busy they are, and what others use of them.

torch is never imported here. A call to a driver that has lost its GPU may never return.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Container, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from vidqueue.ops import processes

# A healthy driver answers within milliseconds.
PATIENCE_S = 10.0
# The most memory of a GPU that a driver reserves for itself, in MiB.
RESERVED_MIB = 512
# The age of utilization samples by process that are still used, in microseconds.
SAMPLED_S = 2.0
_MEBIBYTE = 1 << 20


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
            memory.used // _MEBIBYTE if memory else None,
            rates.gpu if rates else None,
            told(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU),
            None if power_mw is None else round(power_mw / 1000, 1),
        )
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


@dataclass(frozen=True, slots=True)
class Others:
    """Usage of a GPU by processes that are not vidqueue's: MiB, and percent of its time (None if unknown).

    Attributes:
        ours_mib: what our own processes hold, by their mark; empty if the driver names no processes.
        memory_is_exact: False if the driver names no processes; then the memory includes our own.
        utilization_is_exact: the same of the time.
    """

    memory_mib: int
    utilization: int | None
    memory_is_exact: bool = True
    utilization_is_exact: bool = True
    ours_mib: Mapping[str, int] = field(default_factory=dict)

    def held_mib(self, mark: str) -> int:
        """Return the MiB that a lane and its servers hold; the marks of its servers begin with that of the lane."""
        return sum(mib for theirs, mib in self.ours_mib.items() if theirs == mark or theirs.startswith(f"{mark}/"))


def read_others(uuid: str) -> Others | None:
    """Return the usage of a GPU by other processes; None without a driver."""
    import pynvml  # noqa: PLC0415 - only a daemon with GPU lanes asks

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        used_mib = pynvml.nvmlDeviceGetMemoryInfo(handle).used // _MEBIBYTE
        memory = _memory_of_processes(pynvml, handle)
        if memory is None:
            shown = _utilization(pynvml, handle)
            return Others(max(0, used_mib - RESERVED_MIB), shown, memory_is_exact=False, utilization_is_exact=False)
        theirs = {pid: mib for pid, mib in memory.items() if not processes.is_ours(pid)}
        ours = _by_mark(memory, theirs)
        if not theirs:
            return Others(0, 0, ours_mib=ours)
        busy = _utilization_of(pynvml, handle, theirs.keys())
        return Others(
            sum(theirs.values()), _utilization(pynvml, handle) if busy is None else busy, True, busy is not None, ours
        )
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _memory_of_processes(pynvml: Any, handle: Any) -> dict[int, int] | None:
    """Return the MiB of each process; None if the driver reports none, or ids of another PID namespace."""
    held: dict[int, int] = {}
    for ask in (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses):
        try:
            found = ask(handle)
        except pynvml.NVMLError:
            return None
        for one in found:
            # In a container the ids may be those of the host.
            if one.usedGpuMemory is None or not processes.exists(one.pid):
                return None
            held[one.pid] = max(held.get(one.pid, 0), one.usedGpuMemory // _MEBIBYTE)
    return held


def _by_mark(memory: Mapping[int, int], theirs: Container[int]) -> dict[str, int]:
    """Return the MiB of all processes but theirs by mark; those of the daemon itself have none."""
    held: dict[str, int] = {}
    for pid, mib in memory.items():
        if pid not in theirs and (mark := processes.mark_of(pid)) is not None:
            held[mark] = held.get(mark, 0) + mib
    return held


def _utilization(pynvml: Any, handle: Any) -> int | None:
    try:
        return int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except pynvml.NVMLError:
        return None


def _utilization_of(pynvml: Any, handle: Any, pids: Collection[int]) -> int | None:
    """Return the recent utilization of a GPU by these processes in percent; None if the driver does not report it."""
    since = int((time.time() - SAMPLED_S) * 1e6)
    try:
        samples = pynvml.nvmlDeviceGetProcessUtilization(handle, since)
    except pynvml.NVMLError as error:
        # NVML raises NotFound if no process has used the GPU.
        return 0 if error.value == pynvml.NVML_ERROR_NOT_FOUND else None
    newest = {one.pid: int(one.smUtil) for one in sorted(samples, key=lambda one: one.timeStamp) if one.pid in pids}
    return min(100, sum(newest.values()))


@dataclass(frozen=True, slots=True)
class Question:
    """A query to one GPU that has not returned yet, and when it was sent."""

    answer: Future[bool] = field(default_factory=Future)
    asked_at: float = field(default_factory=time.monotonic)


_open: dict[str, Question] = {}
# What each GPU told when it last answered.
_readings: dict[str, Readings | None] = {}
_others: dict[str, Others | None] = {}


def latest(uuid: str) -> Readings | None:
    """Return the readings from the last answer of a GPU; they are as old as the last round of lane health."""
    return _readings.get(uuid)


def others(uuid: str) -> Others | None:
    """Return the latest known usage of a GPU by other processes."""
    return _others.get(uuid)


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
        _readings[uuid], _others[uuid] = (read(uuid), read_others(uuid)) if reached else (None, None)
    finally:
        answer.set_result(reached)


def _gpu(pynvml: object, handle: object) -> Gpu:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)  # type: ignore[attr-defined]
    return Gpu(
        uuid=pynvml.nvmlDeviceGetUUID(handle),  # type: ignore[attr-defined]
        name=pynvml.nvmlDeviceGetName(handle),  # type: ignore[attr-defined]
        memory_mib=memory.total // _MEBIBYTE,
    )
