"""A job as a prediction, in the shape that the clients of Replicate expect."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from vidqueue.api.compat.models import RETURNING, model_of
from vidqueue.db.tables.jobs import JobRow
from vidqueue.job import State

STATUS = {State.QUEUED: "starting", State.RUNNING: "processing"}
BAR = 10


class PredictionUrls(BaseModel):
    """Addresses of what belongs to a prediction."""

    get: str
    cancel: str
    stream: str
    web: str


class PredictionView(BaseModel):
    """A prediction: a job, as the clients of Replicate see it."""

    id: str = Field(description="The id of the job.")
    model: str
    version: str
    status: str = Field(description="starting, processing, succeeded, failed or canceled.")
    input: dict[str, Any]
    output: Any = Field(description="The address of the file, or of several; or what the model returned.")
    logs: str
    error: str | None
    metrics: dict[str, float]
    created_at: str
    started_at: str | None
    completed_at: str | None
    source: str = "api"
    data_removed: bool = False
    deadline: str | None = Field(description="When a running prediction is ended.")
    deployment: str | None = None
    urls: PredictionUrls


class PredictionPage(BaseModel):
    """Some predictions, newest first."""

    next: str | None
    previous: str | None = None
    results: list[PredictionView]


def prediction_view(
    job: JobRow, *, base: str, version: str = "", lines: list[str] | None = None, result: bytes | None = None
) -> PredictionView:
    """A job's row as a prediction. `base` is the daemon's own address, `result` the JSON that a Cog model returned."""
    model, given = model_of(job.processor, job.input)
    url = f"{base}/v1/predictions/{job.id}"
    return PredictionView(
        id=str(job.id),
        model=model,
        version=version or "hidden",
        status=STATUS.get(job.state, job.state.value),
        input=given,
        output=_output(job, base, result) if job.state is State.SUCCEEDED else None,
        logs="\n".join([*(lines or []), *_bar(job)]),
        error=f"{job.error_message} {job.error_hint or ''}".strip() if job.state is State.FAILED else None,
        metrics=_metrics(job),
        created_at=job.created_at.isoformat(),
        started_at=job.started_at.isoformat() if job.started_at else None,
        completed_at=job.finished_at.isoformat() if job.finished_at else None,
        deadline=(job.started_at + timedelta(seconds=job.timeout_s)).isoformat() if job.started_at else None,
        urls=PredictionUrls(get=url, cancel=f"{url}/cancel", stream=f"{url}/stream", web=f"{base}/jobs/{job.id}"),
    )


def address_of_output(base: str, job_id: UUID, name: str) -> str:
    """The address of the bytes of an output."""
    return f"{base}/v1/jobs/{job_id}/outputs/{name}"


def _output(job: JobRow, base: str, result: bytes | None) -> Any:
    urls = {one["name"]: address_of_output(base, job.id, one["name"]) for one in job.outputs}
    if job.processor in RETURNING and result is not None:
        return _with_urls(json.loads(result), urls)
    files = [url for name, url in urls.items() if job.processor not in RETURNING or name != "result"]
    return files[0] if len(files) == 1 else files


def _with_urls(value: Any, urls: dict[str, str]) -> Any:
    """What a model returned, with the address of each file in place of its name."""
    if isinstance(value, dict):
        if set(value) == {"output"} and value["output"] in urls:
            return urls[value["output"]]
        return {key: _with_urls(inner, urls) for key, inner in value.items()}
    return [_with_urls(inner, urls) for inner in value] if isinstance(value, list) else value


def _bar(job: JobRow) -> list[str]:
    """A line like tqdm's, from which the clients read the progress."""
    if job.state is not State.RUNNING:
        return []
    done = int(job.progress * BAR)
    return [f"{int(job.progress * 100):3d}%|{'#' * done:<{BAR}}| {int(job.progress * 100)}/100"]


def _metrics(job: JobRow) -> dict[str, float]:
    if job.finished_at is None:
        return {}
    total = {"total_time": (job.finished_at - job.created_at).total_seconds()}
    if job.started_at is None:
        return total
    return total | {"predict_time": (job.finished_at - job.started_at).total_seconds()}
