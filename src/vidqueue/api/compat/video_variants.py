"""Pictures of a finished video, for `/v1/videos/{id}/content?variant=`: a job of `thumbnails` makes each, once."""

from __future__ import annotations

import contextlib
from typing import Any
from uuid import UUID

from starlette.requests import Request

from vidqueue.api.http.context import closing_of, principal_of, services_of
from vidqueue.api.v1.jobs import until_final
from vidqueue.db.tables import jobs
from vidqueue.db.tables.jobs import JobRow
from vidqueue.errors import VidqueueError
from vidqueue.job import FINAL, State
from vidqueue.jobs import control
from vidqueue.jobs.submit import JobRequest, submit
from vidqueue.principal import Role
from vidqueue.services import Services

PROCESSOR = "thumbnails"
# The parameter of the processor that makes each, which is also the name of its output.
MAKERS = {"thumbnail": "poster", "spritesheet": "sprite"}
_NOTHING = {"poster": False, "sheet": False, "sprite": False, "preview": "none"}


async def variant_of(request: Request, job: JobRow, made: dict[str, Any], variant: str) -> tuple[UUID, str]:
    """Return the job and the output with a picture of a video; a job is submitted if there is none.

    Raises:
        VidqueueError: `not_found`, there is none of this file; `not_ready`, it takes longer than one may wait.
    """
    services, maker = services_of(request), MAKERS[variant]
    if not made["media_type"].startswith("video/"):
        raise VidqueueError("not_found", f"The output is not a video, so it has no {variant}.")
    key = _key(job.id, variant)
    async with services.database.statement() as connection:
        known = await jobs.of_key(connection, job.owner, key)
    if known is None:
        known = (await _submitted(request, job, made["name"], maker, key), None)
    making = await control.read(services.database, known[0], owner=job.owner)
    making = await until_final(services, making, services.settings.api.max_wait_s, closing_of(request))
    if making.state not in FINAL:
        raise VidqueueError("not_ready", f"The {variant} is being made by job {making.id}.")
    names = [one["name"] for one in making.outputs if one["name"].startswith(f"{maker}.")]
    if making.state is not State.SUCCEEDED or not names:
        raise VidqueueError("not_found", f"There is no {variant}: job {making.id}, which made it, has {making.state}.")
    image = [name for name in names if not name.endswith(".vtt")]
    return making.id, image[0]


async def remove_variants(services: Services, job: JobRow) -> None:
    """Delete the pictures of a video that is to be deleted."""
    for variant in MAKERS:
        async with services.database.statement() as connection:
            known = await jobs.of_key(connection, job.owner, _key(job.id, variant))
        if known is not None:
            with contextlib.suppress(VidqueueError):
                await control.cancel(services.database, known[0], owner=job.owner)
            with contextlib.suppress(VidqueueError):
                await control.delete(services.database, services.storage, known[0], owner=job.owner)


async def _submitted(request: Request, job: JobRow, output: str, maker: str, key: str) -> UUID:
    principal, services = principal_of(request), services_of(request)
    if not principal.role.includes(Role.SUBMIT):
        hint = "Use a key with the role submit."
        raise VidqueueError("forbidden", "This key may not submit the job that makes pictures of a video.", hint=hint)
    wanted = JobRequest(
        processor=PROCESSOR,
        input={"video": f"vq:jobs/{job.id}/{output}", **_NOTHING, maker: True},
        title=f"{maker.capitalize()} of the video {job.id}",
    )
    submitted = await submit(
        wanted, database=services.database, inputs=services.inputs, owner=job.owner, idempotency_key=key
    )
    return submitted.job.id


def _key(job_id: UUID, variant: str) -> str:
    return f"vidqueue/videos/{job_id}/{variant}"
