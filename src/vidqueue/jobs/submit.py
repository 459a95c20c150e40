"""Submit a job: validate the request, check its inputs, and queue it in one transaction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from vidqueue.db.pool import Database
from vidqueue.db.tables import jobs
from vidqueue.db.tables.jobs import JobRow, NewJob
from vidqueue.errors import VidqueueError
from vidqueue.jobs.inputs import Inputs
from vidqueue.jobs.outlook import refuse_what_no_lane_takes
from vidqueue.jobs.parsing import accepted, parsed
from vidqueue.jobs.submit_queue import SubmitQueue
from vidqueue.jobs.webhooks import Receiver
from vidqueue.processors import registry
from vidqueue.processors.base import Parameters, Processor
from vidqueue.processors.media import MediaField
from vidqueue.processors.registry import FAULTS_TOLD
from vidqueue.settings.sections import Label

Tag = Annotated[str, Field(min_length=1, max_length=64)]


# The id of a job.
JobId = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]

MOST_MEDIA = 1000
MOST_AFTER = 100
LONGEST_KEPT_S = 100 * 365 * 86_400

# The table `jobs` has the same bounds.
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def _in_our_times(moment: datetime) -> datetime:
    """PostgreSQL keeps times that Python cannot read back; such a row would break every list it is on."""
    if not _EARLIEST <= moment <= _LATEST:
        raise ValueError("a time between the years 1970 and 9000 is needed")
    return moment


class JobRequest(BaseModel):
    """What a client asks for. Times are RFC 3339 with a zone, durations are seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    processor: str = Field(
        min_length=1, max_length=64, description="Name of a processor; GET /v1/processors lists them."
    )
    input: dict[str, Any] = Field(default_factory=dict, description="The processor's own parameters.")
    title: str | None = Field(None, max_length=500, description="A label for people.")
    tags: list[Tag] = Field(default_factory=list, max_length=32, description="Labels to filter by.")
    priority: int = Field(
        0, ge=-1000, le=1000, description="Higher goes first; one point outweighs a minute of waiting."
    )
    run_at: Annotated[AwareDatetime, AfterValidator(_in_our_times)] | None = Field(
        None, description="Not before this time."
    )
    expires_at: Annotated[AwareDatetime, AfterValidator(_in_our_times)] | None = Field(
        None, description="A job that has not begun by then fails with `expired`."
    )
    max_attempts: int | None = Field(
        None, ge=1, le=100, description="Failed attempts after which the job fails; else what its processor says."
    )
    timeout_s: float | None = Field(
        None, gt=0, le=30 * 86_400, description="Longest run of one attempt; else what its processor says."
    )
    stall_timeout_s: float | None = Field(
        None, gt=0, le=86_400, description="Longest time without progress; else what its processor says."
    )
    lane: str | None = Field(None, max_length=64, description="Only this lane.")
    labels: list[Label] = Field(
        default_factory=list, max_length=16, description="Only lanes that have all of these labels."
    )
    after: list[JobId] = Field(
        default_factory=list,
        max_length=MOST_AFTER,
        description="Ids of jobs that must have succeeded before this one begins; it fails if one of them does not.",
    )
    keep_s: float | None = Field(
        None,
        ge=0,
        le=LONGEST_KEPT_S,
        description="Seconds after its end when the job is removed with its outputs; at most as long as retention "
        "keeps all jobs, and never while an unfinished job needs them. Else what its processor says.",
    )
    cache: bool = Field(
        True,
        description="Take the outputs of an earlier job with the same processor, parameters and bytes, where the "
        "processor says that it makes the same of them. False to do the work again.",
    )
    forget_uploads: bool = Field(
        False,
        description="Remove the uploads that its input names, within five minutes, once every job that names them has "
        "succeeded or is removed. They stay while a schedule names them, or when they are uploaded anew.",
    )
    webhook: Receiver | None = Field(
        None, description="Whom to tell of this job: a URL, or an object with `url` and `events`."
    )


# Codes that a submit may be refused with.
REFUSALS = (
    "limit_reached",
    "unknown_processor",
    "processor_fault",
    "unknown_model",
    "invalid_params",
    "idempotency_mismatch",
    "unsupported_input",
    "input_not_found",
    "input_forbidden",
    "input_not_a_file",
    "input_empty",
    "input_is_a_playlist",
    "no_video_stream",
    "still_image",
    "no_audio_stream",
    "not_an_image",
    "media_damaged",
    "input_unreachable",
    "invalid_url",
    "address_forbidden",
    "dependency_failed",
    "no_lane",
)


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job, and whether this request made it (False: its idempotency key had made it before)."""

    job: JobRow
    created: bool


async def submit(
    request: JobRequest,
    *,
    database: Database,
    inputs: Inputs,
    owner: str,
    idempotency_key: str | None = None,
    queue: SubmitQueue | None = None,
    examine: bool = False,
) -> Submitted:
    """Accept a job, durably: when this returns, it is committed. Those that share a `queue` may share a commit.

    With `examine` damaged files are refused, as far as that is known soon; users of other systems expect a failed job.

    Raises:
        VidqueueError: the request cannot be accepted; nothing was queued.
    """
    if idempotency_key is not None and (earlier := await _made_before(request, database, owner, idempotency_key)):
        return Submitted(earlier, created=False)
    new, _ = await checked_with_media(
        request, inputs=inputs, owner=owner, idempotency_key=idempotency_key, examine=examine
    )
    await refuse_what_no_lane_takes(database, [new])
    return Submitted(*await (queue or SubmitQueue(database, database)).add(new))


async def checked(request: JobRequest, *, inputs: Inputs, owner: str, idempotency_key: str | None = None) -> NewJob:
    """Check everything about a job that can be known before it is queued, and return it as a row for the queue.

    Raises:
        VidqueueError: the request cannot be accepted.
    """
    return (await checked_with_media(request, inputs=inputs, owner=owner, idempotency_key=idempotency_key))[0]


async def checked_with_media(
    request: JobRequest, *, inputs: Inputs, owner: str, idempotency_key: str | None = None, examine: bool = False
) -> tuple[NewJob, list[MediaField]]:
    """As `checked`, with the media that the job names. `examine` as in `submit`.

    Raises:
        VidqueueError: the request cannot be accepted.
    """
    media, new = await accepted([request], _parsed, request, owner, idempotency_key)
    await check_media(media, inputs, owner, examine=examine)
    if request.webhook is not None:
        inputs.check_receiver(request.webhook)
    return new, media


def _parsed(request: JobRequest, owner: str, idempotency_key: str | None) -> tuple[list[MediaField], NewJob]:
    processor = registry.find(request.processor)
    params = registry.accept(processor, request.input)
    with registry.blaming(processor):
        after = tuple(map(UUID, request.after))
        new = new_job(request, processor, params, request.input, after, owner=owner, idempotency_key=idempotency_key)
        return list(processor.media(params)), new


async def check_media(media: Sequence[MediaField], inputs: Inputs, owner: str, *, examine: bool = False) -> None:
    """Check every media reference of a job.

    Raises:
        VidqueueError: the first fault, with one entry in `errors` for each place that is at fault.
    """
    if len(media) > MOST_MEDIA:
        raise VidqueueError("invalid_params", f"A job has at most {MOST_MEDIA} inputs; this one has {len(media)}.")
    wanted = {(one.reference, one.kind) for one in media}
    refused = await inputs.check_many(wanted, owner=owner, examine=examine) if wanted else {}
    faults = [(one, error) for one in media if (error := refused.get((one.reference, one.kind)))]
    if faults:
        errors = [{"pointer": f"/input{one.pointer}", "detail": error.message} for one, error in faults[:FAULTS_TOLD]]
        first = faults[0][1]
        raise VidqueueError(first.code, first.message, hint=first.hint, errors=errors)


async def _made_before(request: JobRequest, database: Database, owner: str, key: str) -> JobRow | None:
    """The job this request made earlier, answered even when its inputs are gone by now."""
    async with database.statement() as connection:
        known = await jobs.of_key(connection, owner, key)
        # Another request under this key goes on, and is refused where the job would be queued.
        if known is None or known[1] != await parsed(request.input, fingerprint, request):
            return None
        return await jobs.get(connection, known[0])


def new_job(
    request: JobRequest,
    processor: Processor,
    params: Parameters,
    raw: dict[str, Any],
    after: tuple[UUID, ...],
    *,
    owner: str,
    idempotency_key: str | None = None,
) -> NewJob:
    """A checked request as the queue takes it, with these raw parameters, to begin after these jobs."""
    return NewJob(
        processor=processor.name,
        input=raw,
        owner=owner,
        device=processor.device_for(params),
        vram_mb=processor.vram_mb(params),
        title=request.title,
        tags=tuple(request.tags),
        priority=request.priority,
        run_at=request.run_at,
        expires_at=request.expires_at,
        max_attempts=request.max_attempts,
        timeout_s=request.timeout_s,
        stall_timeout_s=request.stall_timeout_s,
        lane=request.lane or processor.lane_for(params),
        idempotency_key=idempotency_key,
        request_hash=fingerprint(request) if idempotency_key is not None else None,
        webhook=request.webhook.model_dump(mode="json", exclude_none=True) if request.webhook is not None else None,
        after=after,
        keep_s=request.keep_s,
        cache=request.cache,
        forget_uploads=request.forget_uploads,
        labels=tuple(sorted(set(request.labels))),
    )


def fingerprint(request: BaseModel) -> str:
    """What a request asks for, in hex: equal requests under one idempotency key are one request."""
    asked = request.model_dump(mode="json")
    # A key that older programs did not know must not make another request of the same one. They did know `webhook` for
    # the jobs of a batch.
    if asked.get("webhook") is None:
        asked.pop("webhook", None)
    for job in [asked, *asked.get("jobs", [])]:
        for newer in ("after", "keep_s", "labels", "forget_uploads"):
            # 0 is a value of keep_s, and equal to False.
            if not job.get(newer) and (job.get(newer) != 0 or job.get(newer) is False):
                job.pop(newer, None)
        if job.get("cache", True):
            job.pop("cache", None)
    # Sorted: the order of an object's members says nothing.
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
