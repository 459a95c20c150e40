"""The Comfy API v2: jobs, for the official `comfy-sdk` and `@comfyorg/sdk` with COMFY_BASE_URL set to this daemon."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from vidqueue.api.compat.comfy_views import ComfyJobSummary, comfy_job_view, job_summary, tag_of
from vidqueue.api.http.context import base_of, owner_of, scope_of, services_of
from vidqueue.api.http.endpoint import json_answer
from vidqueue.api.v1.history import as_text
from vidqueue.api.v1.job_list import JobQuery, find_jobs
from vidqueue.api.v1.jobs import SubmitHeaders
from vidqueue.db.tables import attempts, files
from vidqueue.db.tables.jobs import JobRow
from vidqueue.errors import VidqueueError
from vidqueue.job import FINAL
from vidqueue.jobs import control
from vidqueue.jobs.submit import JobRequest, submit
from vidqueue.processors.comfy.graph import media_kind

ASSET = "core/ASSET"
# Labels are stored as tags, which have at most this number of characters.
LONGEST_LABEL = 64
MOST_LABELS = 16
MOST_LINES = 10_000
_PREFIX = "vq:files/"


class ComfyJobRequest(BaseModel):
    """The request that submits a job; unknown fields are ignored."""

    workflow: dict[str, Any] = Field(description="A graph in API format, with assets as `core/ASSET` objects.")
    metadata: dict[str, str] = Field(
        default_factory=dict, max_length=MOST_LABELS, description="Labels, which are kept as the tags `key=value`."
    )


class ComfyListQuery(BaseModel):
    """Which jobs a list shows; `metadata[key]=value` narrows it to those with a label."""

    limit: int = Field(50, ge=1, le=500)
    cursor: str | None = Field(None, max_length=64)


class ComfyJobList(BaseModel):
    """Some jobs, newest first. `next_cursor` is absent on the last page."""

    jobs: list[ComfyJobSummary]
    next_cursor: str | None = None


class WorkflowView(BaseModel):
    """The graph of a job."""

    workflow: dict[str, Any]
    format: Literal["api"] = "api"


class HealthView(BaseModel):
    """The response of the health check."""

    status: Literal["ok"] = "ok"


async def create_comfy_job(request: Request, body: ComfyJobRequest, headers: SubmitHeaders) -> Response:
    """Submit a graph as a job of the processor `comfyui`.

    An Idempotency-Key is used once: the same key again is refused, and the job that it made goes on. Keys for the
    partner nodes of ComfyUI (`extra_data`) are not kept and not handed on.
    """
    services, owner = services_of(request), owner_of(request)
    if isinstance(body.workflow.get("nodes"), list):
        raise VidqueueError("workflow_format_ui", "This is a workflow as the editor saves it, not in API format.")
    wanted = JobRequest(
        processor="comfyui",
        input={"graph": await _with_files(request, body.workflow, owner)},
        tags=[_label(key, value) for key, value in body.metadata.items()],
    )
    submitted = await submit(
        wanted, database=services.database, inputs=services.inputs, owner=owner,
        idempotency_key=headers.idempotency_key,
    )  # fmt: skip
    if not submitted.created:
        message = f"This Idempotency-Key has made the job {submitted.job.id} already."
        raise VidqueueError("idempotency_key_reuse", message)
    return _job_answer(request, submitted.job, 201)


async def get_comfy_job(request: Request, job_id: UUID) -> Response:
    """Read a job."""
    services = services_of(request)
    return _job_answer(request, await control.read(services.database, job_id, owner=scope_of(request)))


async def list_comfy_jobs(request: Request, query: ComfyListQuery) -> Response:
    """List the jobs of the processor `comfyui`, newest first."""
    services = services_of(request)
    labels = [(name, value) for name, value in request.query_params.multi_items() if name.startswith("metadata[")]
    if len(labels) > 1:
        raise VidqueueError("invalid_request", "A list can be narrowed by one label only.")
    tag = tag_of(labels[0][0].removeprefix("metadata[").removesuffix("]"), labels[0][1]) if labels else None
    if tag is not None and len(tag) > LONGEST_LABEL:
        return json_answer(ComfyJobList(jobs=[]))
    wanted = JobQuery(processor="comfyui", tag=tag, limit=query.limit, cursor=query.cursor)
    found, cursor = await find_jobs(services.database, wanted, owner=scope_of(request))
    page = ComfyJobList(jobs=[job_summary(job) for job in found], next_cursor=cursor)
    return Response(page.model_dump_json(exclude_none=True), media_type="application/json")


async def cancel_comfy_job(request: Request, job_id: UUID) -> Response:
    """Cancel a job; one that has ended is left as it is."""
    services, owner = services_of(request), scope_of(request)
    job = await control.read(services.database, job_id, owner=owner)
    if job.state not in FINAL:
        try:
            job = await control.cancel(services.database, job_id, owner=owner)
        except VidqueueError as error:
            if error.code != "conflict":
                raise
            # The job ended between the query and the cancel.
            job = await control.read(services.database, job_id, owner=owner)
    return _job_answer(request, job)


async def get_comfy_workflow(request: Request, job_id: UUID) -> Response:
    """Read the graph of a job, with its assets as `core/ASSET` objects again."""
    services = services_of(request)
    job = await control.read(services.database, job_id, owner=scope_of(request))
    graph = job.input.get("graph")
    if not isinstance(graph, dict):
        raise VidqueueError("not_found", "The job has no graph of its own; it runs a workflow of the operator.")
    return json_answer(WorkflowView(workflow=_with_assets(graph)))


async def get_comfy_log(request: Request, job_id: UUID) -> Response:
    """Read the log of a job's newest attempt as text."""
    services, scope = services_of(request), scope_of(request)
    job = await control.read(services.database, job_id, owner=scope)
    async with services.database.statement() as connection:
        lines = await attempts.read_log(connection, job_id, job.attempt, after=0, limit=MOST_LINES)
    return PlainTextResponse("".join(map(as_text, lines))) if lines else Response(status_code=204)


async def comfy_health(request: Request) -> Response:
    """Check whether the API is available."""
    return json_answer(HealthView())


def _job_answer(request: Request, job: JobRow, status: int = 200) -> Response:
    kept_days = services_of(request).settings.retention.jobs_days
    return json_answer(comfy_job_view(job, base=base_of(request), kept_days=kept_days), status)


async def _with_files(request: Request, workflow: dict[str, Any], owner: str) -> dict[str, Any]:
    """The graph with references to the store in place of assets.

    Raises:
        VidqueueError: `missing_asset`, an asset that this owner does not have, or that stands where no media is read.
    """
    wanted: set[UUID] = set()
    graph = {node_id: _node(node_id, node, wanted) for node_id, node in workflow.items()}
    if wanted:
        async with services_of(request).database.statement() as connection:
            found = await files.get_many(connection, wanted, owner=owner)
        if missing := sorted(map(str, wanted - found.keys())):
            raise VidqueueError("missing_asset", f"There is no asset {missing[0]}.")
    return graph


def _node(node_id: str, node: Any, wanted: set[UUID]) -> Any:
    if not isinstance(node, dict) or not isinstance(node.get("inputs"), dict):
        return node
    inputs = {
        name: _reference(node, f"{node_id}.{name}", name, value, wanted) if _is_asset(value) else value
        for name, value in node["inputs"].items()
    }
    return {**node, "inputs": inputs}


def _is_asset(value: Any) -> bool:
    return isinstance(value, dict) and value.get("__type") == ASSET


def _reference(node: dict[str, Any], place: str, name: str, asset: Any, wanted: set[UUID]) -> str:
    file_id = _asset_id(asset, place)
    reference = f"{_PREFIX}{file_id}"
    if media_kind(str(node.get("class_type")), name, reference) is None:
        raise VidqueueError("missing_asset", f"{place} of the workflow takes no asset.")
    wanted.add(file_id)
    return reference


def _asset_id(value: dict[str, Any], place: str) -> UUID:
    info = value.get("info")
    try:
        return UUID(str(info["id"]) if isinstance(info, dict) else "")
    except (KeyError, ValueError):
        raise VidqueueError("missing_asset", f"The asset at {place} has no id.") from None


def _with_assets(graph: dict[str, Any]) -> dict[str, Any]:
    shown = {}
    for node_id, node in graph.items():
        inputs = {
            name: {"__type": ASSET, "info": {"id": value.removeprefix(_PREFIX)}}
            if isinstance(value, str) and value.startswith(_PREFIX)
            else value
            for name, value in node.get("inputs", {}).items()
        }
        shown[node_id] = {**node, "inputs": inputs}
    return shown


def _label(key: str, value: str) -> str:
    tag = tag_of(key, value)
    if not key or "=" in key or len(tag) > LONGEST_LABEL:
        message = f"A label has no `=` in its key and at most {LONGEST_LABEL - 1} characters in all."
        raise VidqueueError("invalid_request", message)
    return tag
