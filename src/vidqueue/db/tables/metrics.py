"""Figures for monitoring; none of them costs more because the queue or its history is long."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from vidqueue.db.pool import Connection, row, rows

# How many are counted one by one, of the jobs that wait for a time, and of each demand where those of one processor
# wait for different reasons.
COUNTED_JOBS = 500
COUNTED_DELIVERIES = 10_000
# Queued jobs that wait for a dependency or a time, beyond those that are counted.
LATER = "later"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFigures:
    """A lane and how busy it is. Memory in MiB, `gpu_utilization` in percent."""

    host: str
    name: str
    device: str
    up: bool
    paused: bool
    blocked_by: str | None
    vram_mb: int
    busy: bool
    executor_starts: int
    gpu_memory_used_mb: int | None
    gpu_utilization: int | None
    gpu_temperature_c: int | None
    gpu_power_w: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What the database knows: of the queue, of all lanes, of webhooks, and how late this process reads events."""

    waiting: dict[tuple[str, str], int]
    running: dict[str, int]
    oldest_wait_s: dict[str, float]
    lanes: list[LaneFigures]
    webhooks_pending: int
    webhooks_oldest_s: float
    event_delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """An attempt that began (`waited_s` is its job's wait) or ended (`ran_s`, `outcome`, `error_code`)."""

    began: bool
    processor: str
    number: int
    outcome: str | None
    error_code: str | None
    host: str
    lane: str
    waited_s: float | None
    ran_s: float | None


async def figures(connection: Connection, *, event: int) -> Figures:
    """Read all figures; `event` is the number of the last event that this process has read."""
    states: dict[str, dict[str, int]] = {"queued": {}, "later": {}, "running": {}}
    for one in await rows(connection, "metrics", "in_state"):
        states[one["state"]][one["processor"]] = one["jobs"]
    ready = [tuple(one.values()) for one in await rows(connection, "metrics", "ready", limit=COUNTED_JOBS)]
    not_due = [tuple(one.values()) for one in await rows(connection, "metrics", "not_due", limit=COUNTED_JOBS)]
    webhooks = await row(connection, "metrics", "webhooks", limit=COUNTED_DELIVERIES)
    delay = await row(connection, "metrics", "delay", number=event)
    assert webhooks is not None
    return Figures(
        waiting=_by_reason(states["queued"], ready) + _by_reason_later(states["later"], not_due),
        running=states["running"],
        oldest_wait_s={one["processor"]: one["wait_s"] for one in await rows(connection, "metrics", "oldest")},
        lanes=[LaneFigures(**one) for one in await rows(connection, "metrics", "lanes")],
        webhooks_pending=webhooks["pending"],
        webhooks_oldest_s=webhooks["oldest_s"] or 0.0,
        event_delay_s=delay["delay_s"] if delay else 0.0,
    )


async def moves(connection: Connection, *, after: int, upto: int) -> list[Move]:
    """Return the attempts that began or ended with the events in this range of numbers."""
    return [Move(**one) for one in await rows(connection, "metrics", "moves", number=after, upto=upto)]


def _by_reason(totals: dict[str, int], found: list[tuple[str, str, int | None]]) -> Counter[tuple[str, str]]:
    """Share the jobs that could run among the reasons for which they wait.

    Jobs of a processor that were not counted one by one wait for its most frequent reason.
    """
    counted: Counter[tuple[str, str]] = Counter()
    for processor, reason, jobs in found:
        counted[processor, reason] += jobs or 0
    for processor, total in totals.items():
        reasons = {reason: jobs for (name, reason), jobs in counted.items() if name == processor}
        most = max(reasons, key=lambda reason: reasons[reason], default="busy")
        counted[processor, most] += max(0, total - sum(reasons.values()))
    return counted


def _by_reason_later(totals: dict[str, int], found: list[tuple[str, str, int]]) -> Counter[tuple[str, str]]:
    """Share the jobs that cannot run yet: those that wait for no time wait for a job that they depend on."""
    counted = Counter({(processor, reason): jobs for processor, reason, jobs in found})
    rest = "dependency" if sum(counted.values()) < COUNTED_JOBS else LATER
    for processor, total in totals.items():
        counted[processor, rest] += max(
            0, total - sum(jobs for (name, _), jobs in counted.items() if name == processor)
        )
    return +counted
