"""The API that is compatible with Replicate: predictions, for the official client with REPLICATE_BASE_URL set."""

from __future__ import annotations

import re
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.compat import models
from vidqueue.api.compat.models import RETURNING, Model, model_of
from vidqueue.api.compat.own_files import with_references
from vidqueue.api.compat.replicate_views import PredictionPage, PredictionView, prediction_view
from vidqueue.api.http.context import base_of, closing_of, owner_of, scope_of, services_of
from vidqueue.api.http.endpoint import json_answer
from vidqueue.api.v1.job_list import JobQuery, find_jobs
from vidqueue.api.v1.jobs import SubmitHeaders, until_final
from vidqueue.db.tables import attempts
from vidqueue.db.tables.jobs import JobRow
from vidqueue.errors import VidqueueError
from vidqueue.job import FINAL, State
from vidqueue.jobs import control
from vidqueue.jobs.submit import JobRequest, submit
from vidqueue.jobs.webhooks import PredictionReceiver
from vidqueue.ops.threads import ThreadPool
from vidqueue.services import Services

DEFAULT_WAIT_S, LONGEST_WAIT_S = 60, 60
MOST_LINES = 1000
LARGEST_RESULT = 4 << 20
PAGE = 100

_WAIT = re.compile(r"(?:^|[,;\s])wait(?:\s*=\s*(\d{1,4}))?\s*(?:$|[,;])", re.IGNORECASE)
_DURATION = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?")
_KINDS = {"start": "started", "output": "output", "logs": "progress", "completed": "completed"}
# The schema of a model may need a request to a Cog server, and workflows are files.
model_threads = ThreadPool("models", size=4)


class PredictionRequest(BaseModel):
    """What a client asks for; unknown fields are ignored, as Replicate does."""

    version: str | None = Field(None, max_length=300, description="`owner/name`, `owner/name:id` or the id.")
    input: dict[str, Any] = Field(default_factory=dict, description="Input of the model.")
    webhook: str | None = Field(
        None, min_length=1, max_length=4096, description="A URL that is told of the prediction."
    )
    webhook_events_filter: list[Literal["start", "output", "logs", "completed"]] | None = Field(
        None, min_length=1, max_length=4, description="Only these events; all by default."
    )


class PredictionHeaders(SubmitHeaders):
    """How a prediction is created."""

    cancel_after: str | None = Field(
        None, alias="Cancel-After", max_length=32, description="Longest run, such as `90s`, `5m` or `1h30m`."
    )


class PageQuery(BaseModel):
    """Which page."""

    cursor: str | None = Field(None, max_length=64, description="Where the page begins; taken from `next`.")


async def create_prediction(request: Request, body: PredictionRequest, headers: PredictionHeaders) -> Response:
    """Create a prediction of the model or version that the body names.

    Input that is an address of our own `/v1/files` is taken from the store.
    """
    if body.version is None:
        fault = {"pointer": "/version", "detail": "Field required"}
        raise VidqueueError("invalid_request", "The request names no version.", errors=[fault])
    return await _created(request, await model_threads.run(models.find_version, body.version), body, headers)


async def create_prediction_of(
    request: Request, owner: str, name: str, body: PredictionRequest, headers: PredictionHeaders
) -> Response:
    """Create a prediction of a model."""
    return await _created(request, await model_threads.run(models.find, owner, name), body, headers)


async def create_prediction_of_deployment(
    request: Request, owner: str, name: str, body: PredictionRequest, headers: PredictionHeaders
) -> Response:
    """Create a prediction of a deployment, which is the model of its name."""
    return await create_prediction_of(request, owner, name, body, headers)


async def list_predictions(request: Request, query: PageQuery) -> Response:
    """List predictions, newest first: every job that one may see."""
    services = services_of(request)
    wanted = JobQuery(cursor=query.cursor, limit=PAGE)
    found, cursor = await find_jobs(services.database, wanted, owner=scope_of(request))
    base = base_of(request)
    following = f"{base}/v1/predictions?cursor={cursor}" if cursor else None
    return json_answer(PredictionPage(next=following, results=[prediction_view(job, base=base) for job in found]))


async def get_prediction(request: Request, prediction_id: UUID) -> Response:
    """Read a prediction."""
    services = services_of(request)
    job = await control.read(services.database, prediction_id, owner=scope_of(request))
    return json_answer(await prediction_of(base_of(request), services, job))


async def cancel_prediction(request: Request, prediction_id: UUID) -> Response:
    """Cancel a prediction; one that has ended is left as it is."""
    services, owner = services_of(request), scope_of(request)
    job = await control.read(services.database, prediction_id, owner=owner)
    if job.state not in FINAL:
        job = await control.cancel(services.database, prediction_id, owner=owner)
    return json_answer(await prediction_of(base_of(request), services, job))


async def _created(request: Request, model: Model, body: PredictionRequest, headers: PredictionHeaders) -> Response:
    services = services_of(request)
    job_request = JobRequest(
        processor=model.processor,
        input=model.params(with_references(body.input, request.url.netloc)),
        timeout_s=_seconds(headers.cancel_after),
        webhook=_receiver(body, base_of(request)),
    )
    submitted = await submit(
        job_request, database=services.database, inputs=services.inputs, owner=owner_of(request),
        idempotency_key=headers.idempotency_key,
    )  # fmt: skip
    job, wait_s = submitted.job, _wanted_wait(headers.prefer)
    if wait_s is not None:
        job = await until_final(services, job, min(wait_s, services.settings.api.max_wait_s), closing_of(request))
    view = await prediction_of(base_of(request), services, job)
    if job.state in FINAL:
        return json_answer(view, 201)
    # Clients take every other word for an end.
    return json_answer(view.model_copy(update={"status": "starting"}), 201 if wait_s is None else 202)


async def prediction_of(base: str, services: Services, job: JobRow) -> PredictionView:
    """Return a job as a prediction, with its log and what its model returned."""
    lines: list[str] = []
    if job.attempt:
        async with services.database.statement() as connection:
            rows = await attempts.read_log(connection, job.id, job.attempt, after=0, limit=MOST_LINES)
            lines = [row.text for row in rows]
    version = await model_threads.run(_version_of, job)
    result = await services.storage.threads.run(_result, services, job)
    return prediction_view(job, base=base, version=version, lines=lines, result=result)


async def told_prediction(services: Services, job: JobRow, base: str, kind: str) -> str:
    """A job as its webhook tells it: the prediction as it is at that moment, but no end before the event of the end."""
    view = await prediction_of(base, services, job)
    if kind in ("started", "progress"):
        view = view.model_copy(update={"status": "processing", "output": None, "completed_at": None, "error": None})
    return view.model_dump_json()


def _receiver(body: PredictionRequest, base: str) -> PredictionReceiver | None:
    if body.webhook is None:
        return None
    events = body.webhook_events_filter
    kinds = sorted({_KINDS[event] for event in events}) if events else None
    return PredictionReceiver.model_validate({"url": body.webhook, "events": kinds, "prediction_base": base})


def _version_of(job: JobRow) -> str:
    owner, _, name = model_of(job.processor, job.input)[0].partition("/")
    try:
        return models.find(owner, name).version()
    except VidqueueError:
        return ""


def _result(services: Services, job: JobRow) -> bytes | None:
    """What a Cog model returned; None where that cannot be read here."""
    if job.processor not in RETURNING or job.state is not State.SUCCEEDED:
        return None
    for one in job.outputs:
        if one["name"] == "result" and one["size"] <= LARGEST_RESULT:
            try:
                return services.storage.path(UUID(str(one["file_id"]))).read_bytes()
            except OSError:
                return None
    return None


def _wanted_wait(prefer: str | None) -> float | None:
    found = _WAIT.search(prefer or "")
    if found is None:
        return None
    return float(min(max(int(found[1] or DEFAULT_WAIT_S), 1), LONGEST_WAIT_S))


def _seconds(text: str | None) -> float | None:
    """The seconds of a duration such as `1h30m`.

    Raises:
        VidqueueError: `invalid_request`.
    """
    if text is None:
        return None
    found = _DURATION.fullmatch(text.strip())
    hours, minutes, seconds = (int(one or 0) for one in found.groups()) if found else (0, 0, 0)
    total = hours * 3600 + minutes * 60 + seconds
    if not 0 < total <= 30 * 86_400:
        raise VidqueueError("invalid_request", f"Cancel-After cannot be read: {text[:32]!r}. Write it like 1h30m.")
    return float(total)
