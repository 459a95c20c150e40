"""The JSON of a job, made from its row. It is what `JobView` describes, without the cost of a model for each answer."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic_core import to_json

from vidqueue.api.v1.views import JobUrls, JobView
from vidqueue.db.tables.jobs import JobRow

_FIELDS = tuple(JobView.model_fields)
_ACTIONS = tuple(name for name in JobUrls.model_fields if name != "self")


def job_view(job: JobRow) -> JobView:
    """A job's row as a response model."""
    return JobView.model_validate(_document(job))


def job_json(job: JobRow) -> bytes:
    """A job's row as the JSON of its response model."""
    return to_json(_document(job), inf_nan_mode="null")


def _document(job: JobRow) -> dict[str, Any]:
    path = f"/v1/jobs/{job.id}"
    made = {
        "batch": job.batch_id,
        "lane": job.lane or job.wanted_lane,
        "outputs": [_output(job.id, output) for output in job.outputs],
        "error": _error(job),
        "urls": {"self": path} | {action: f"{path}/{action}" for action in _ACTIONS},
    }
    return {name: made[name] if name in made else getattr(job, name) for name in _FIELDS}


def _output(job_id: UUID, output: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": output["name"],
        "url": f"/v1/jobs/{job_id}/outputs/{output['name']}",
        "filename": output["filename"],
        "media_type": output["media_type"],
        "size": output["size"],
        "sha256": output["sha256"],
        "facts": output["facts"],
    }


def _error(job: JobRow) -> dict[str, str] | None:
    if not job.error_code:
        return None
    return {"code": job.error_code, "message": job.error_message or "", "hint": job.error_hint or ""}
