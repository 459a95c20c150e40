"""The text of `/metrics`: figures of the database and of this process, in the format of Prometheus."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from vidqueue import __version__
from vidqueue.api.metrics.tally import Tally
from vidqueue.db.pool import Database
from vidqueue.db.tables import metrics
from vidqueue.db.tables.metrics import Figures, LaneFigures
from vidqueue.errors import VidqueueError
from vidqueue.ops.supervise import supervise
from vidqueue.ops.watchdog import Watchdog
from vidqueue.services import Services

CONTENT_TYPE = CONTENT_TYPE_LATEST
# For the database, and for the disk, each. Prometheus gives up after ten seconds.
PATIENCE_S = 3.0
# Scrapes within this time share one answer: many scrapers cost as much as one.
SHARED_S = 1.0
MEBIBYTE = 1 << 20

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Disk:
    """The volume of the data folder, in bytes."""

    free: int
    total: int


class Metrics:
    """Makes the answers of one process. Nothing is read and nothing followed before the first scrape."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._tally = Tally(services.database, services.event_feed, self._registry)
        self._following: asyncio.Task[None] | None = None
        self._making: asyncio.Task[bytes] | None = None
        self._made_at = float("-inf")

    async def text(self) -> bytes:
        """Return the newest figures, which are at most SHARED_S old."""
        if self._following is None:
            self._following = supervise(self._tally.follow, "metrics")
        if self._making is None or (self._making.done() and time.monotonic() - self._made_at >= SHARED_S):
            self._making = asyncio.create_task(self._make(), name="metrics")
        # Shielded: a caller that goes away does not take the answer from the others.
        return await asyncio.shield(self._making)

    def close(self) -> None:
        """Stop what is under way."""
        for task in filter(None, (self._following, self._making)):
            task.cancel()

    async def _make(self) -> bytes:
        try:
            figures, disk = await asyncio.gather(self._figures(), self._disk())
            watchdog, pools = self._services.watchdog, self._services.pools
            families = [*_of_process(watchdog, pools), *_of_disk(disk), *_of_database(figures)]
            # In a thread: some hundred lines take milliseconds, which are no other client's.
            return await asyncio.to_thread(generate_latest, _Together(families, self._registry))
        finally:
            self._made_at = time.monotonic()

    async def _figures(self) -> Figures | None:
        try:
            async with asyncio.timeout(PATIENCE_S), self._services.database.statement() as connection:
                return await metrics.figures(connection, event=self._services.event_feed.position)
        except (TimeoutError, VidqueueError) as error:
            log.debug("metrics_without_database", error=str(error))
            return None

    async def _disk(self) -> Disk | None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                usage = await self._services.storage.threads.run(shutil.disk_usage, self._services.settings.data_dir)
                return Disk(usage.free, usage.total)
        except (TimeoutError, VidqueueError, OSError):
            return None


class _Together(CollectorRegistry):
    """Families of one answer, and the registry of what is counted all the time."""

    def __init__(self, families: Iterable[Metric], counted: CollectorRegistry) -> None:
        super().__init__(auto_describe=False)
        self._families = list(families)
        self._counted = counted

    def collect(self) -> Iterator[Metric]:
        yield from self._families
        yield from self._counted.collect()


def _gauge(name: str, text: str, labels: Iterable[str], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(f"vidqueue_{name}", text, labels=list(labels))
    for labelled, value in values:
        family.add_metric(labelled, value)
    return family


def _of_process(watchdog: Watchdog, pools: dict[str, Database]) -> Iterator[Metric]:
    yield _gauge("info", "The version of the daemon.", ["version"], [((__version__,), 1)])
    stuck = len(watchdog.stuck())
    yield _gauge("tasks_stuck", "Background tasks of this process without a heartbeat.", (), [((), stuck)])
    hanging = sum(watchdog.hanging().values())
    yield _gauge("calls_hanging", "Calls to folders that do not return.", (), [((), hanging)])
    stats = {(name,): database.pool.get_stats() for name, database in pools.items()}
    for word, key, text in (
        ("connections", "pool_size", "Connections to the database."),
        ("connections_idle", "pool_available", "Connections to the database that nobody uses."),
        ("requests_waiting", "requests_waiting", "Callers that wait for a connection."),
    ):
        yield _gauge(f"pool_{word}", text, ["pool"], [(name, one.get(key, 0)) for name, one in stats.items()])
    refused = CounterMetricFamily("vidqueue_pool_refused", "Callers that got no connection in time.", labels=["pool"])
    for name, one in stats.items():
        refused.add_metric(name, one.get("requests_errors", 0))
    yield refused


def _of_disk(disk: Disk | None) -> Iterator[Metric]:
    if disk is not None:
        yield _gauge("disk_free_bytes", "Free space on the volume of the data folder.", (), [((), disk.free)])
        yield _gauge("disk_size_bytes", "Size of the volume of the data folder.", (), [((), disk.total)])


def _of_database(figures: Figures | None) -> Iterator[Metric]:
    yield _gauge("database_up", "Whether the database answered.", (), [((), figures is not None)])
    if figures is None:
        return
    reasons = ["processor", "reason"]
    yield _gauge("jobs_waiting", "Queued jobs by the reason why they wait.", reasons, figures.waiting.items())
    running = (((name,), jobs) for name, jobs in figures.running.items())
    yield _gauge("jobs_running", "Jobs that run.", ["processor"], running)
    oldest = (((name,), wait_s) for name, wait_s in figures.oldest_wait_s.items())
    text = "Wait of the job that waits longest, among those that could run."
    yield _gauge("oldest_wait_seconds", text, ["processor"], oldest)
    pending = figures.webhooks_pending
    yield _gauge(
        "webhooks_pending", "Webhook deliveries that wait; 10,000 means at least as many.", (), [((), pending)]
    )
    oldest_s = figures.webhooks_oldest_s
    yield _gauge("webhooks_oldest_seconds", "Age of the oldest webhook delivery that waits.", (), [((), oldest_s)])
    text = "Age of the oldest event that this process has not told its listeners yet."
    yield _gauge("event_delay_seconds", text, (), [((), figures.event_delay_s)])
    yield from _of_lanes(figures.lanes)


def _of_lanes(lanes: list[LaneFigures]) -> Iterator[Metric]:
    labels = ["host", "lane", "device"]
    for word, text in (
        ("up", "Whether a daemon offers the lane; lanes of the last day."),
        ("busy", "Whether the lane has a job; its mean over time is the busy share."),
        ("paused", "Whether somebody has paused the lane."),
    ):
        yield _gauge(f"lane_{word}", text, labels, [(_labels(lane), getattr(lane, word)) for lane in lanes])
    blocked = [((*_labels(lane), lane.blocked_by), 1) for lane in lanes if lane.blocked_by]
    yield _gauge("lane_blocked", "Lanes that their daemon has blocked, by reason.", [*labels, "reason"], blocked)
    starts = CounterMetricFamily("vidqueue_executor_starts", "Starts of the lane's executor.", labels=labels)
    for lane in lanes:
        starts.add_metric(_labels(lane), lane.executor_starts)
    yield starts
    yield from _of_gpus([lane for lane in lanes if lane.device == "gpu" and lane.up])


def _of_gpus(lanes: list[LaneFigures]) -> Iterator[Metric]:
    for name, text, column, unit in (
        ("gpu_memory_bytes", "Memory of the lane's GPU.", "vram_mb", MEBIBYTE),
        ("gpu_memory_used_bytes", "Memory of the lane's GPU in use, by anybody.", "gpu_memory_used_mb", MEBIBYTE),
        ("gpu_utilization_ratio", "Share of the time in which the lane's GPU worked.", "gpu_utilization", 0.01),
        ("gpu_temperature_celsius", "Temperature of the lane's GPU.", "gpu_temperature_c", 1),
        ("gpu_power_watts", "Power that the lane's GPU draws.", "gpu_power_w", 1),
    ):
        known = [
            ((lane.host, lane.name), value * unit) for lane in lanes if (value := getattr(lane, column)) is not None
        ]
        yield _gauge(name, text, ["host", "lane"], known)


def _labels(lane: LaneFigures) -> tuple[str, str, str]:
    return lane.host, lane.name, lane.device
