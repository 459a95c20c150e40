"""The first page: the lanes with what they run, counts by state, recent failures, the disk, and what is paused."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import scope_of, services_of
from vidqueue.api.v1.system import statistics
from vidqueue.api.v1.views import lane_view
from vidqueue.api.web import render
from vidqueue.db.tables import dashboard, lanes
from vidqueue.errors import VidqueueError
from vidqueue.jobs import pauses
from vidqueue.services import Services
from vidqueue.storage.disk_space import MEBIBYTE


@dataclass(frozen=True, slots=True)
class Disk:
    """Space on the volume of the data folder, in bytes. Below `mark` no job begins."""

    total: int
    free: int
    mark: int

    @property
    def used(self) -> float:
        """Share of the volume that is in use."""
        return 1 - self.free / self.total if self.total else 1.0

    @property
    def is_short(self) -> bool:
        """True if there is less space than the mark."""
        return self.free < self.mark


async def show(request: Request) -> Response:
    """Show what runs, what waits, and what failed."""
    services, owner = services_of(request), scope_of(request)
    stats = await statistics(services.database, owner=owner)
    async with services.database.transaction() as connection:
        online = await lanes.page(connection)
        failures = await dashboard.failures(connection, owner=owner)
        gauges = await dashboard.gauges(connection)
        previews = await dashboard.previews(connection, [lane.job_id for lane in online if lane.job_id is not None])
    held = await pauses.read(services.database)
    return render.page(
        request,
        "overview.html",
        stats=stats,
        lanes=[lane_view(lane, owner=owner) for lane in online],
        failures=failures,
        gauges=gauges,
        previews=previews,
        pauses=held,
        everything=next((one for one in held if one.scope == "everything"), None),
        disk=await disk_of(services),
        stuck=services.watchdog.stuck(),
    )


async def disk_of(services: Services) -> Disk | None:
    """Return the space of the data folder; None if its disk does not respond."""
    settings = services.settings
    try:
        usage = await services.storage.threads.run(shutil.disk_usage, settings.data_dir)
    except (OSError, VidqueueError):
        return None
    return Disk(usage.total, usage.free, settings.disk.low_water_mib * MEBIBYTE)
