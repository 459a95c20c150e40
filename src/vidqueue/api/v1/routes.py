"""The list of all HTTP endpoints; the routing and the OpenAPI document are both made from it."""

from __future__ import annotations

from pydantic import BaseModel

from vidqueue.api.http import docs
from vidqueue.api.http.endpoint import JSON, Answer, Endpoint, download_answers
from vidqueue.api.v1 import (
    audit,
    batches,
    bulk_actions,
    events,
    file_list,
    file_routes,
    health,
    history,
    job_list,
    jobs,
    keys,
    lanes,
    limits,
    metrics,
    pauses,
    previews,
    reports,
    schedules,
    suspensions,
    system,
    watch_folders,
    webhooks,
)
from vidqueue.api.v1.downloads import get_output
from vidqueue.api.v1.views import AttemptList, JobPage, JobView, LogPage
from vidqueue.jobs.submit import REFUSALS

_LINK = {"Link": 'Address of what follows, with rel="next"; absent at the end.'}
_ETAG = {"ETag": "Changes whenever the answer does."}
_SUBMITTED = {
    "Location": "Address of the job.",
    "Idempotency-Replayed": "`true` when the key had made the job before.",
    "Preference-Applied": "The wait that was granted.",
}
_EVENTS = (
    "Server-sent events. `id` is the event's number, `event` its kind (queued, running, progress, output, interrupted, "
    "cancel_requested, suspended, resumed, updated, succeeded, failed, canceled; and of the machine, without job_id: "
    "paused, resumed), `data` a JSON object with number, job_id, kind, at and what changed. A comment comes every 15 s "
    "of silence."
)


def _json(model: type[BaseModel], description: str, headers: dict[str, str] | None = None) -> Answer:
    return Answer(description, {JSON: model}, headers or {})


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        method="POST",
        path="/v1/jobs",
        handler=jobs.submit_job,
        tag="jobs",
        answers={
            200: _json(JobView, "The job has ended while you waited.", _SUBMITTED),
            202: _json(JobView, "The job is queued, durably.", _SUBMITTED),
        },
        errors=REFUSALS,
    ),
    Endpoint(
        method="GET",
        path="/v1/jobs",
        handler=job_list.list_jobs,
        tag="jobs",
        answers={200: _json(JobPage, "A page of jobs.", _LINK)},
    ),
    Endpoint(
        method="GET",
        path="/v1/jobs/{job_id:uuid}",
        handler=jobs.get_job,
        tag="jobs",
        answers={200: _json(JobView, "The job.", _ETAG), 304: Answer("Nothing has changed.", headers=_ETAG)},
    ),
    Endpoint(
        method="PATCH",
        path="/v1/jobs/{job_id:uuid}",
        handler=jobs.patch_job,
        tag="jobs",
        answers={200: _json(JobView, "The job after the change.", _ETAG)},
        errors=("precondition_failed",),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/jobs/{job_id:uuid}",
        handler=jobs.delete_job,
        tag="jobs",
        answers={204: Answer("The job is gone.")},
        errors=("conflict",),
    ),
    Endpoint(
        method="POST",
        path="/v1/jobs/{job_id:uuid}/cancel",
        handler=jobs.cancel_job,
        tag="jobs",
        answers={202: _json(JobView, "Canceled, or asked to stop.", _ETAG)},
        errors=("conflict",),
    ),
    *suspensions.ENDPOINTS,
    Endpoint(
        method="POST",
        path="/v1/jobs/{job_id:uuid}/retry",
        handler=jobs.retry_job,
        tag="jobs",
        answers={202: _json(JobView, "The job waits again.", _ETAG)},
        errors=("conflict", "dependency_failed"),
    ),
    *bulk_actions.ENDPOINTS,
    *batches.ENDPOINTS,
    *webhooks.ENDPOINTS,
    *previews.ENDPOINTS,
    *schedules.ENDPOINTS,
    *watch_folders.ENDPOINTS,
    *keys.ENDPOINTS,
    *limits.ENDPOINTS,
    *audit.ENDPOINTS,
    *file_list.ENDPOINTS,
    Endpoint(
        method="GET",
        path="/v1/jobs/{job_id:uuid}/events",
        handler=events.job_events,
        tag="events",
        answers={200: Answer(_EVENTS, {"text/event-stream": None}), 204: Answer("Ended, and nothing left to tell.")},
    ),
    Endpoint(
        method="GET",
        path="/v1/events",
        handler=events.all_events,
        tag="events",
        answers={200: Answer(_EVENTS, {"text/event-stream": None})},
    ),
    Endpoint(
        method="GET",
        path="/v1/jobs/{job_id:uuid}/attempts",
        handler=history.list_attempts,
        tag="jobs",
        answers={200: _json(AttemptList, "Every attempt.")},
    ),
    Endpoint(
        method="GET",
        path="/v1/jobs/{job_id:uuid}/logs",
        handler=history.read_log,
        tag="jobs",
        answers={200: Answer("Part of a log.", {JSON: LogPage, "text/plain": None}, _LINK)},
    ),
    Endpoint(
        method="GET",
        path="/v1/jobs/{job_id:uuid}/outputs/{name}",
        handler=get_output,
        tag="files",
        answers=download_answers(),
        errors=("range_not_satisfiable",),
    ),
    *file_routes.ENDPOINTS,
    Endpoint(
        method="GET",
        path="/v1/processors",
        handler=system.list_processors,
        tag="machine",
        answers={200: _json(system.ProcessorList, "The catalogue.")},
    ),
    Endpoint(
        method="GET",
        path="/v1/processors/{name}",
        handler=system.get_processor,
        tag="machine",
        answers={200: _json(system.ProcessorView, "The processor.")},
    ),
    *lanes.ENDPOINTS,
    *pauses.ENDPOINTS,
    *reports.ENDPOINTS,
    Endpoint(
        method="GET",
        path="/v1/stats",
        handler=system.get_stats,
        tag="machine",
        answers={200: _json(system.Statistics, "The figures.")},
    ),
    Endpoint(
        method="GET",
        path="/healthz",
        handler=health.healthz,
        tag="probes",
        public=True,
        answers={200: _json(health.Alive, "The process is well.")},
        errors=("not_ready",),
    ),
    Endpoint(
        method="GET",
        path="/readyz",
        handler=health.readyz,
        tag="probes",
        public=True,
        answers={200: _json(health.Ready, "Jobs are taken and run.")},
        errors=("not_ready",),
    ),
    *metrics.ENDPOINTS,
    Endpoint(
        method="GET",
        path="/problems",
        handler=docs.list_problems,
        tag="documents",
        public=True,
        answers={200: _json(docs.CodeList, "The codes.")},
    ),
    Endpoint(
        method="GET",
        path="/problems/{code}",
        handler=docs.get_problem,
        tag="documents",
        public=True,
        answers={200: _json(docs.CodeView, "The code.")},
    ),
    Endpoint(
        method="GET",
        path="/openapi.json",
        handler=docs.get_openapi,
        tag="documents",
        public=True,
        answers={200: Answer("This document.", {JSON: None})},
    ),
    Endpoint(
        method="GET",
        path="/docs",
        handler=docs.get_docs,
        tag="documents",
        public=True,
        answers={200: Answer("A page.", {"text/html": None})},
    ),
    Endpoint(
        method="GET",
        path="/docs/{asset}",
        handler=docs.get_docs_asset,
        tag="documents",
        public=True,
        answers={200: Answer("A script or a style.", {"text/javascript": None, "text/css": None})},
    ),
)
