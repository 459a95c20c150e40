"""The HTTP endpoints of the Comfy API v2."""

from __future__ import annotations

from functools import partial

from vidqueue.api.compat import comfy, comfy_assets, comfy_events
from vidqueue.api.compat.comfy_views import AssetView, ComfyJobView, comfy_problem
from vidqueue.api.http.endpoint import JSON, Answer, CompatApi, Endpoint, download_answers
from vidqueue.jobs.submit import REFUSALS

_JOB, _ASSET = "/api/v2/jobs/{job_id:uuid}", "/api/v2/assets/{file_id:uuid}"
_FORM = {
    "multipart/form-data": {
        "type": "object",
        "properties": {
            "file": {"type": "string", "contentMediaType": "application/octet-stream"},
            "content_type": {"type": "string"},
            "file_path": {"type": "string"},
            "expected_hash": {"type": "string"},
        },
        "required": ["file"],
    }
}
_endpoint = partial(
    Endpoint,
    tag="comfy",
    errors_as=comfy_problem,
    compat_api=CompatApi("comfy_api", "The Comfy API", "/api/v2/"),
)
_job = partial(Answer, content={JSON: ComfyJobView})
_asset = partial(Answer, content={JSON: AssetView})

ENDPOINTS: tuple[Endpoint, ...] = (
    _endpoint(
        method="POST",
        path="/api/v2/jobs",
        handler=comfy.create_comfy_job,
        answers={201: _job("The job is queued, durably.")},
        errors=(
            *REFUSALS,
            "not_found",
            "workflow_format_ui",
            "missing_asset",
            "missing_model",
            "idempotency_key_reuse",
        ),
    ),
    _endpoint(
        method="GET",
        path="/api/v2/jobs",
        handler=comfy.list_comfy_jobs,
        answers={200: Answer("Some jobs.", {JSON: comfy.ComfyJobList})},
        errors=("not_found",),
    ),
    _endpoint(method="GET", path=_JOB, handler=comfy.get_comfy_job, answers={200: _job("The job.")}),
    _endpoint(
        method="POST",
        path=f"{_JOB}/cancel",
        handler=comfy.cancel_comfy_job,
        answers={200: _job("The job, canceled or asked to stop.")},
    ),
    _endpoint(
        method="GET",
        path=f"{_JOB}/events",
        handler=comfy_events.follow_comfy_job,
        answers={200: Answer("Server-sent events, until the job has ended.", {"text/event-stream": None})},
    ),
    _endpoint(
        method="GET",
        path=f"{_JOB}/workflow",
        handler=comfy.get_comfy_workflow,
        answers={200: Answer("The graph.", {JSON: comfy.WorkflowView})},
    ),
    _endpoint(
        method="GET",
        path=f"{_JOB}/logs",
        handler=comfy.get_comfy_log,
        answers={200: Answer("The log.", {"text/plain": None}), 204: Answer("There is none.")},
    ),
    _endpoint(
        method="GET",
        path="/api/v2/assets/by-hash/{digest}",
        handler=comfy_assets.find_asset,
        answers={200: _asset("The bytes are there.")},
        errors=("blob_not_found", "invalid_request"),
    ),
    _endpoint(
        method="POST",
        path="/api/v2/assets/from-hash",
        handler=comfy_assets.create_asset_from_hash,
        answers={200: _asset("The asset, which was there."), 201: _asset("A new asset.")},
        errors=("not_found", "blob_not_found", "limit_reached"),
    ),
    _endpoint(
        method="POST",
        path="/api/v2/assets",
        handler=comfy_assets.upload_asset,
        answers={200: _asset("The asset, which was there."), 201: _asset("The asset is stored.")},
        errors=(
            "not_found",
            "hash_mismatch",
            "payload_too_large",
            "request_timeout",
            "input_empty",
            "no_space",
            "limit_reached",
            "unsupported_media_type",
        ),
        raw_body=_FORM,
    ),
    _endpoint(method="GET", path=_ASSET, handler=comfy_assets.get_asset, answers={200: _asset("The asset.")}),
    _endpoint(
        method="DELETE",
        path=_ASSET,
        handler=comfy_assets.delete_asset,
        answers={204: Answer("The asset is gone.")},
        errors=("conflict",),
    ),
    _endpoint(
        method="GET",
        path=f"{_ASSET}/content",
        handler=comfy_assets.get_asset_content,
        answers=download_answers(),
        errors=("range_not_satisfiable",),
    ),
    _endpoint(
        method="GET",
        path="/api/v2/health",
        handler=comfy.comfy_health,
        public=True,
        answers={200: Answer("It answers.", {JSON: comfy.HealthView})},
        errors=("not_found",),
    ),
)
