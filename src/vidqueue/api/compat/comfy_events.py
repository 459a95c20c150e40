"""The Comfy API v2: the events of a job as complete snapshots, without numbers and without replay."""

from __future__ import annotations

import asyncio
import base64
import json
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.compat.comfy_views import ComfyJobView, comfy_job_view
from vidqueue.api.http.context import base_of, closing_of, scope_of, services_of
from vidqueue.api.v1.events import PING, PING_S, EventStream, while_allowed
from vidqueue.db.tables import outputs
from vidqueue.job import FINAL
from vidqueue.jobs import control

# Shortest time between two snapshots, in seconds.
EVERY_S = 0.5
# Previews are no events: a running job is looked at as often as it may show one.
LOOK_S = 1.0


@dataclass(slots=True)
class _Told:
    """What a stream has sent so far."""

    status: Any = None
    progress: Any = None
    outputs: set[str] = field(default_factory=set)
    preview: int | None = None

    def frames(self, job: ComfyJobView) -> Iterator[bytes]:
        """What is new of a job."""
        if (progress := job.progress) is not None and progress != self.progress:
            self.progress = progress
            yield _frame("progress", progress.model_dump(mode="json"))
        for output in job.outputs:
            if output.id not in self.outputs:
                self.outputs.add(output.id)
                yield _frame("output", output.model_dump(mode="json"))
        status = {"status": job.status, "queue_position": job.queue_position}
        if status != self.status:
            self.status = status
            yield _frame("status", status)

    def picture(self, picture: bytes | None, node: str) -> Iterator[bytes]:
        """The preview, if it is a new one."""
        if picture is not None and (seen := zlib.crc32(picture)) != self.preview:
            self.preview = seen
            data = base64.b64encode(picture).decode()
            yield _frame("preview", {"node_id": node, "content_type": "image/jpeg", "data_base64": data})


async def follow_comfy_job(request: Request, job_id: UUID) -> Response:
    """Follow a job: `status`, `progress`, `preview` and `output`, until it has ended."""
    services = services_of(request)
    await control.read(services.database, job_id, owner=scope_of(request))
    return EventStream(while_allowed(request, _follow(request, job_id)), closing_of(request))


async def _follow(request: Request, job_id: UUID) -> AsyncIterator[bytes]:
    services, owner, told = services_of(request), scope_of(request), _Told()
    clock = asyncio.get_running_loop().time
    kept_days, base = services.settings.retention.jobs_days, base_of(request)
    with services.event_feed.subscribe(job_id=job_id, owner=owner) as subscription:
        while True:
            looked_at = clock()
            async with services.event_feed.log.connection() as connection:
                picture = await outputs.preview(connection, job_id, owner=owner)
            job = await control.read(services.database, job_id, owner=owner)
            view = comfy_job_view(job, base=base, kept_days=kept_days)
            node = (view.progress and view.progress.current_node) or ""
            frames = [*told.picture(picture, node), *told.frames(view)]
            if frames:
                yield b"".join(frames)
            if job.state in FINAL:
                return
            try:
                async with asyncio.timeout(LOOK_S if view.status in ("running", "canceling") else PING_S):
                    if not await subscription.next_many():
                        return
            except TimeoutError:
                if not frames:
                    yield PING
            await asyncio.sleep(max(0.0, looked_at + EVERY_S - clock()))


def _frame(event: str, data: dict[str, Any]) -> bytes:
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()
