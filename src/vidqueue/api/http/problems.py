"""Errors as RFC 9457 problem+json with the stable codes of `vidqueue.errors`; every error response has this form."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.errors import KINDS, VidqueueError

MEDIA_TYPE = "application/problem+json"

_CODES = {404: "not_found", 405: "method_not_allowed"}
_HEADERS = {
    "database_unavailable": {"Retry-After": "2"},
    "overloaded": {"Retry-After": "2"},
    "query_timeout": {"Retry-After": "2"},
    "not_ready": {"Retry-After": "2"},
    "limit_reached": {"Retry-After": "10"},
    "unauthenticated": {"WWW-Authenticate": 'Bearer realm="vidqueue"'},
    "input_unreachable": {"Retry-After": "10"},
    "storage_unreachable": {"Retry-After": "10"},
    # The rest of a stalled body may never come, so the connection cannot be used again.
    "request_timeout": {"Connection": "close"},
    "upload_locked": {"Retry-After": "2"},
}
_JOB_PATH = re.compile(r"^/v1/(jobs|files)/[^/]+")


class RefusedError(VidqueueError):
    """A refusal that needs headers of its own, such as `Allow`."""

    def __init__(self, code: str, message: str, *, headers: Mapping[str, str]) -> None:
        super().__init__(code, message)
        self.headers = headers


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    pointer: str = Field(description="JSON pointer into the body, `?name` of the query, or the name of a header.")
    detail: str = Field(description="What is wrong there.")


class Problem(BaseModel):
    """An error, as RFC 9457 wants it."""

    type: str = Field(description="Address that explains the code; stable.")
    title: str = Field(description="The code in words; the same for every occurrence.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened this time.")
    code: str = Field(description="Stable code to branch on.")
    hint: str = Field(description="What to do about it.")
    errors: list[Fault] = Field(description="Each single fault, where there are several.")
    request_id: str = Field(description="The same as X-Request-ID and in the daemon's log.")
    instance: str = Field(description="Path of the request.")


# Adds to a problem what the clients of another system read, and may change its status.
ErrorShape = Callable[[Problem], Problem]


def problem(error: VidqueueError, *, request_id: str = "", instance: str = "") -> Problem:
    """Return the problem document of a VidqueueError."""
    return Problem(
        type=f"/problems/{error.code}",
        title=title_of(error.code),
        status=error.status,
        detail=error.message,
        code=error.code,
        hint=error.hint,
        errors=[Fault(**fault) for fault in error.errors],
        request_id=request_id,
        instance=instance,
    )


def answer(request: Request, error: VidqueueError, more: Mapping[str, str] | None = None) -> Response:
    """Return the response for a VidqueueError, with `more` headers."""
    described = problem(error, request_id=getattr(request.state, "request_id", ""), instance=request.url.path)
    headers = {**_HEADERS.get(error.code, {}), **getattr(error, "headers", {}), **(more or {})}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    shape = getattr(request.state, "errors_as", None) or _shape_at(request)
    shown = described if shape is None else shape(described)
    return Response(shown.model_dump_json(), shown.status, headers, MEDIA_TYPE)


def _shape_at(request: Request) -> ErrorShape | None:
    """Return how errors of an unknown address are written, if its prefix belongs to the API of another system."""
    shapes: Mapping[str, ErrorShape] = getattr(request.app.state, "error_shapes", {}) if "app" in request.scope else {}
    return next((shape for beginning, shape in shapes.items() if request.url.path.startswith(beginning)), None)


def title_of(code: str) -> str:
    """Return a code in words."""
    return code.replace("_", " ").capitalize()


def refused(request: Request, error: VidqueueError | HTTPException) -> Response:
    """Answer an error of ours, or one that Starlette raises, such as 404 for an unknown address."""
    if isinstance(error, VidqueueError):
        return answer(request, error)
    code = _CODES.get(error.status_code, "invalid_request" if error.status_code < 500 else "internal_error")
    if code == "not_found":
        return answer(request, _nothing_there(request))
    return answer(request, VidqueueError(code, error.detail))


def unexpected(request: Request) -> Response:
    """Answer an unexpected exception; its details are in the log only."""
    return answer(request, VidqueueError("internal_error", "The daemon failed with an unexpected error."))


def _nothing_there(request: Request) -> VidqueueError:
    path = request.url.path
    hint = "GET /openapi.json lists every address, /docs shows them."
    if _JOB_PATH.match(path):
        hint = f"{KINDS['not_found'].hint} {hint}"
    return VidqueueError("not_found", f"There is nothing at {path}.", hint=hint)
