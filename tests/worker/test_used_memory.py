"""The GPU memory of a job as torch counts it, played by the allocator's own rules: a pool that grows and is kept."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from vidqueue.worker.executor.messages import RunJob
from vidqueue.worker.executor.used import UsageOfJob

MIB = 1 << 20


class Allocator:
    """torch's caching allocator, as far as its statistics go: freed memory stays reserved."""

    def __init__(self, *, initialized: bool = True) -> None:
        self._initialized = initialized
        self._reserved = self._most_reserved = self._most_allocated = 0

    def is_initialized(self) -> bool:
        return self._initialized

    def reset_peak_memory_stats(self) -> None:
        self._most_reserved, self._most_allocated = self._reserved, 0

    def memory_reserved(self) -> int:
        return self._reserved

    def max_memory_reserved(self) -> int:
        return self._most_reserved

    def max_memory_allocated(self) -> int:
        return self._most_allocated

    def use(self, mib: int) -> None:
        """Allocate, and free again."""
        self._most_allocated = max(self._most_allocated, mib * MIB)
        self._reserved = max(self._reserved, mib * MIB)
        self._most_reserved = max(self._most_reserved, self._reserved)


@pytest.fixture
def allocator(monkeypatch: pytest.MonkeyPatch) -> Allocator:
    played = Allocator()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=played))
    return played


def _measured(allocator: Allocator, mib: int) -> int:
    usage = UsageOfJob()
    allocator.use(mib)
    return usage.total(RunJob("test", {}, {}, "/", {}), {Path("/nowhere"): 1.0}).device_mb


def test_a_job_that_makes_the_pool_grow_needs_all_of_it(allocator: Allocator) -> None:
    assert [_measured(allocator, 500), _measured(allocator, 900)] == [500, 900]


def test_a_small_job_after_a_large_one_is_not_taken_for_large(allocator: Allocator) -> None:
    assert [_measured(allocator, 900), _measured(allocator, 200)] == [900, 200]


def test_a_job_without_a_gpu_has_held_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=Allocator(initialized=False)))
    assert UsageOfJob().total(RunJob("test", {}, {}, "/", {}), {}).device_mb == 0
