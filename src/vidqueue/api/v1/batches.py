"""Batches over HTTP: submit many jobs in one request, read how they go, cancel them, retry the failed ones."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import principal_of, scope_of, services_of
from vidqueue.api.http.endpoint import JSON, Answer, Endpoint, json_answer
from vidqueue.api.v1.jobs import ForOwner
from vidqueue.db.tables.batches import BatchRow
from vidqueue.job import State
from vidqueue.jobs import batches
from vidqueue.jobs.members import BatchRequest
from vidqueue.jobs.submit import REFUSALS


class BatchHeaders(BaseModel):
    """How a batch is submitted."""

    idempotency_key: str | None = Field(
        None,
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Send the same key again to get the same batch instead of a second one.",
    )


class BatchCounts(BaseModel):
    """How many jobs of a batch are in each state."""

    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int


class BatchUrls(BaseModel):
    """Addresses of what belongs to a batch."""

    self: str
    jobs: str
    cancel: str
    retry: str


class BatchView(BaseModel):
    """Jobs that were submitted together."""

    id: UUID
    owner: str
    title: str | None
    state: State = Field(
        description="queued before the first job runs, running until the last has ended; then failed if a job has "
        "failed, else canceled if one was canceled, else succeeded."
    )
    size: int = Field(description="How many jobs were submitted.")
    counts: BatchCounts
    deleted: int = Field(description="How many of its jobs have been deleted since.")
    progress: float = Field(description="Mean progress of its jobs, 0 to 1; a job that has ended counts as 1.")
    failed_jobs: list[UUID] = Field(description="The jobs that have failed, in the order of the request.")
    created_at: datetime
    started_at: datetime | None = Field(description="When the first attempt of the first job began.")
    finished_at: datetime | None = Field(description="When the last job ended; null while one has not.")
    urls: BatchUrls


class SubmittedBatchView(BatchView):
    """A batch that was just submitted."""

    jobs: list[UUID] = Field(description="Ids of the jobs, in the order of the request.")


async def submit_batch(request: Request, body: BatchRequest, headers: BatchHeaders, query: ForOwner) -> Response:
    """Submit up to 1,000 jobs at once.

    All of them are durable when this answers, or none was queued and `errors` names what is wrong with each. A string
    in the `input` of a job may be `vq:batch/<index or name>/<output>`: the output of an earlier job of the same batch.
    """
    services = services_of(request)
    submitted = await batches.submit(
        body,
        database=services.database,
        inputs=services.inputs,
        owner=principal_of(request).acting_for(query.owner),
        idempotency_key=headers.idempotency_key,
    )
    view = SubmittedBatchView(jobs=submitted.jobs, **dict(batch_view(submitted.batch)))
    replayed = {} if submitted.created else {"Idempotency-Replayed": "true"}
    return json_answer(view, 202, {"Location": view.urls.self, **replayed})


async def get_batch(request: Request, batch_id: UUID) -> Response:
    """Read a batch: counts by state, progress, and which jobs have failed."""
    return json_answer(batch_view(await batches.read(services_of(request).database, batch_id, owner=scope_of(request))))


async def cancel_batch(request: Request, batch_id: UUID) -> Response:
    """Cancel every job of a batch that has not ended.

    Waiting jobs are canceled when this answers; running ones have been asked to stop. Asking again changes nothing.
    """
    batch = await batches.cancel(services_of(request).database, batch_id, owner=scope_of(request))
    return json_answer(batch_view(batch), 202)


async def retry_batch(request: Request, batch_id: UUID) -> Response:
    """Run the failed jobs of a batch once more.

    Jobs that wait, run, have succeeded or were canceled are left as they are. A failed job stays failed if it needs the
    output of a job that will not come.
    """
    batch = await batches.retry(services_of(request).database, batch_id, owner=scope_of(request))
    return json_answer(batch_view(batch), 202)


def batch_view(batch: BatchRow) -> BatchView:
    """A row of a batch as a response model."""
    path = f"/v1/batches/{batch.id}"
    shown = {name: getattr(batch, name) for name in BatchView.model_fields if name in BatchRow.__slots__}
    shown |= {
        "state": _state(batch),
        "counts": BatchCounts(**{state.value: getattr(batch, state.value) for state in State}),
        "progress": batch.progress or 0.0,
        "urls": BatchUrls(self=path, jobs=f"/v1/jobs?batch={batch.id}", cancel=f"{path}/cancel", retry=f"{path}/retry"),
    }
    return BatchView(**shown)


def _state(batch: BatchRow) -> State:
    if batch.queued + batch.running:
        return State.RUNNING if batch.started_at or batch.queued + batch.running < batch.size else State.QUEUED
    if batch.failed:
        return State.FAILED
    return State.CANCELED if batch.canceled else State.SUCCEEDED


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/batches",
        handler=submit_batch,
        tag="batches",
        answers={
            202: Answer(
                "The jobs are queued, durably.",
                {JSON: SubmittedBatchView},
                {
                    "Location": "Address of the batch.",
                    "Idempotency-Replayed": "`true` when the key had made the batch before.",
                },
            )
        },
        errors=(*REFUSALS, "conflict"),
    ),
    Endpoint(
        method="GET",
        path="/v1/batches/{batch_id:uuid}",
        handler=get_batch,
        tag="batches",
        answers={200: Answer("The batch.", {JSON: BatchView})},
    ),
    Endpoint(
        method="POST",
        path="/v1/batches/{batch_id:uuid}/cancel",
        handler=cancel_batch,
        tag="batches",
        answers={202: Answer("Waiting jobs are canceled, running ones asked to stop.", {JSON: BatchView})},
        errors=("conflict",),
    ),
    Endpoint(
        method="POST",
        path="/v1/batches/{batch_id:uuid}/retry",
        handler=retry_batch,
        tag="batches",
        answers={202: Answer("The failed jobs wait again.", {JSON: BatchView})},
        errors=("conflict", "dependency_failed"),
    ),
)
