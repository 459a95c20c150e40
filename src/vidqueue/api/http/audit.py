"""The audit log: records who changed what, for every endpoint that changes something.

Submits, uploads and the APIs of other systems are not recorded, because jobs and files have their owner. A row
is written once the change is done, in a statement of its own; if the database is away by then, the log has it.
"""

from __future__ import annotations

from typing import Any

import structlog
from pydantic import BaseModel
from starlette.datastructures import FormData
from starlette.requests import Request

from vidqueue.api.http.context import principal_of, services_of
from vidqueue.db.tables import audit
from vidqueue.errors import VidqueueError

# Endpoints with other tags belong to the APIs of other systems, whose clients submit jobs with them.
TAGS = frozenset({"jobs", "bulk actions", "batches", "webhooks", "schedules", "keys", "machine", "files", "pages"})
MAKES_WORK = frozenset({"/v1/jobs", "/v1/batches", "/v1/files", "/submit/{name}"})
UPLOADS = "/v1/uploads"
METHODS = {"POST": "create", "PUT": "set", "PATCH": "change", "DELETE": "delete"}
# Only fields that are known to hold no secret.
TOLD = frozenset({
    "verb", "jobs", "priority", "title", "tags", "state", "processor", "tag", "text", "batch", "for_s", "minutes",
    "reason", "host", "name", "owner", "role", "cron", "timezone", "paused", "missed", "max_queued", "max_running",
    "max_per_minute", "max_stored_bytes", "max_gpu_s_per_day", "weight", "lane", "draining",
})  # fmt: skip
LONGEST = 300

log = structlog.get_logger(__name__)


def is_audited(method: str, path: str, tag: str, public: bool) -> bool:
    """True if requests to an endpoint are recorded in the audit log."""
    if method not in METHODS or public or tag not in TAGS or path.startswith(UPLOADS):
        return False
    return method != "POST" or path not in MAKES_WORK


async def record(request: Request, path: str, arguments: dict[str, Any]) -> None:
    """Record what a request has changed; a form that was refused with a notice has changed nothing."""
    if getattr(request.state, "refused", False):
        return
    values = {name: str(value) for name, value in arguments.items() if name in request.path_params}
    act = _act(request.method, path, values, _given(request, arguments))
    target = " ".join(value for name, value in values.items() if name != "verb")[:500] or None
    services = services_of(request)
    try:
        async with services.database.statement() as connection:
            detail = _given(request, arguments)
            await audit.add(connection, principal_of(request), act=act, target=target, detail=detail)
    except VidqueueError as error:
        log.warning("audit_not_written", act=act, target=target, owner=principal_of(request).owner, error=error.message)


def _act(method: str, path: str, values: dict[str, str], given: dict[str, Any]) -> str:
    """Return words such as `cancel jobs`: the last word of the address or the verb of the form, and the first one."""
    words = [word for word in path.removeprefix("/v1").strip("/").split("/") if not word.startswith("{")]
    of_form = given.get("verb") if path.startswith("/jobs") else None
    verb = values.get("verb") or of_form or (words[-1] if len(words) > 1 else METHODS[method])
    noun = words[0] if len(words) > 1 or "{" in path or verb not in words else ""
    if len(words) == 1 and "{" not in path and path.removeprefix("/v1/") in ("pause", "resume", "drain"):
        return f"{words[0]} queue"
    return f"{verb} {noun}".strip()[:100]


def _given(request: Request, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return what the request said besides its address, of the fields that are known to be harmless."""
    body, form = arguments.get("body"), getattr(request.state, "form", None)
    given: dict[str, Any] = {}
    if isinstance(body, BaseModel):
        given = body.model_dump(mode="json", exclude_unset=True)
    elif isinstance(form, FormData):
        given = {name: str(value) for name, value in form.items() if value}
        if jobs := form.getlist("job"):
            given["jobs"] = len(jobs)
    return {name: _short(value) for name, value in given.items() if name in TOLD and value not in (None, "", [], {})}


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value[:LONGEST]
    if isinstance(value, dict) and "processor" in value:
        return value["processor"]
    return value
