"""Documentation of the HTTP API: OpenAPI, its pages (Swagger UI from a package, nothing from a CDN), error codes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from vidqueue.api.http.endpoint import json_answer
from vidqueue.api.http.problems import title_of
from vidqueue.errors import KINDS, VidqueueError

# Each with the file of the offapi package; the page and its script are ours, so that a strict CSP holds.
_ASSETS = {
    "swagger.css": ("swagger_style.css", "text/css"),
    "swagger.js": ("swagger_bundle.js", "text/javascript"),
}


class CodeView(BaseModel):
    """What an error code means."""

    code: str
    title: str
    status: int = Field(description="HTTP status, where a request is refused with it.")
    retryable: bool = Field(description="Whether the same thing may go well later.")
    hint: str


class Description:
    """The OpenAPI document as JSON. It is built when it is first read: that takes a quarter of a second of CPU."""

    def __init__(self, build: Callable[[], bytes]) -> None:
        self._build = build
        self._built: bytes | None = None
        self._lock = asyncio.Lock()

    async def read(self) -> bytes:
        """Return the document, built in a thread."""
        async with self._lock:
            if self._built is None:
                self._built = await asyncio.to_thread(self._build)
            return self._built

    async def forget(self) -> None:
        """Discard the document, so that it is built again when it is next read, because the processors have changed."""
        async with self._lock:  # a build that runs now still has the old processors
            self._built = None


async def get_openapi(request: Request) -> Response:
    """Read this description as OpenAPI 3.1."""
    description: Description = request.app.state.openapi
    return Response(await description.read(), media_type="application/json")


async def get_docs(request: Request) -> Response:
    """Show this description as a page."""
    del request
    return FileResponse(str(files(__package__).joinpath("docs_page/index.html")), media_type="text/html")


async def get_docs_asset(request: Request, asset: str) -> Response:
    """Read a script or style of the page."""
    del request
    if asset == "start.js":
        return FileResponse(str(files(__package__).joinpath("docs_page/start.js")), media_type="text/javascript")
    if asset not in _ASSETS:
        raise VidqueueError("not_found", f"The documentation has no file {asset!r}.")
    name, media_type = _ASSETS[asset]
    return FileResponse(_offapi() / name, media_type=media_type, headers={"Cache-Control": "max-age=86400"})


async def get_problem(request: Request, code: str) -> Response:
    """Read what an error code means."""
    del request
    kind = KINDS.get(code)
    if kind is None:
        raise VidqueueError("not_found", f"There is no error code {code!r}.", hint="GET /problems lists them.")
    return json_answer(_code_view(code))


class CodeList(BaseModel):
    """Every code that vidqueue itself uses; processors of other packages may add their own."""

    problems: list[CodeView]


async def list_problems(request: Request) -> Response:
    """List the error codes."""
    del request
    return json_answer(CodeList(problems=[_code_view(code) for code in KINDS]))


def _code_view(code: str) -> CodeView:
    kind = KINDS[code]
    return CodeView(code=code, title=title_of(code), status=kind.status, retryable=kind.retryable, hint=kind.hint)


@cache
def _offapi() -> Path:
    # Found, not imported: importing it reads nine megabytes of scripts into memory.
    spec = find_spec("offapi")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
