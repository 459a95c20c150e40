"""The dry run of a submit: which lanes would take the job, what memory it needs, and how long it would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from vidqueue.db.pool import Database
from vidqueue.db.tables import files, lanes
from vidqueue.db.tables.estimates import InLine
from vidqueue.db.tables.jobs import NewJob
from vidqueue.db.tables.lanes import LaneForJob
from vidqueue.errors import VidqueueError
from vidqueue.jobs.estimates import Estimates
from vidqueue.processors.media import MediaField, file_of


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would happen to a job that is submitted now. Memory in MiB; times in seconds, None if unknown.

    `expected_s` is how long it runs, `done_s` when it would be done, behind the jobs that wait already. `wait_reason`
    is None if a lane would take it at once.
    """

    job: NewJob
    lanes: list[LaneForJob]
    wait_reason: str | None
    expected_s: float | None
    done_s: float | None


async def look(
    job: NewJob, media: Sequence[MediaField], *, database: Database, estimates: Estimates, node: UUID
) -> Outlook:
    """Return the outlook of a checked request."""
    stored = [file_id for one in media if (file_id := file_of(one.reference))]
    async with database.statement() as connection:
        found = await files.get_many(connection, stored, owner=job.owner) if stored else {}
        fitting, reason = await lanes.for_job(connection, job, node=node if stored else None)
    input_bytes = sum(file.size for file in found.values()) or None
    new = InLine(uuid4(), job.processor, job.device, job.lane, input_bytes, job.labels)
    expected_s, done_s = await estimates.of_new(new)
    at_once = reason == "busy" and any(lane.is_free for lane in fitting)
    return Outlook(job, fitting, None if at_once else reason, expected_s, done_s)


async def refuse_what_no_lane_takes(database: Database, wanted: Sequence[NewJob]) -> None:
    """Refuse jobs that no existing lane could ever take, including lanes that are paused or offline.

    A lane whose name is not known may still come, and so may the first lane for a kind of work.

    Raises:
        VidqueueError: `no_lane`.
    """
    # Most jobs require nothing that a lane could lack.
    asking = [job for job in wanted if job.lane is not None or job.vram_mb > 0 or job.labels]
    if not asking:
        return
    async with database.statement() as connection:
        known = await lanes.capacities(connection)
    for job in asking:
        named = [lane for lane in known if job.lane in (None, lane.name)]
        taking = [lane for lane in named if job.device in lane.takes]
        if job.lane is not None and named and not taking:
            raise VidqueueError("no_lane", f"The lane {job.lane} does not accept {job.device} jobs.")
        labeled = [lane for lane in taking if set(job.labels) <= set(lane.labels)]
        if taking and not labeled:
            words = ", ".join(sorted(set(job.labels)))
            raise VidqueueError("no_lane", f"No lane that accepts {job.device} jobs has the labels: {words}.")
        if taking and not any(lane.device == "cpu" or job.vram_mb <= lane.vram_mb for lane in labeled):
            largest = max(lane.vram_mb for lane in labeled)
            which = f"the lane {job.lane} has" if job.lane else "the largest GPU lane has"
            raise VidqueueError(
                "no_lane", f"The job needs {job.vram_mb:,} MiB of GPU memory, and {which} {largest:,} MiB."
            )
