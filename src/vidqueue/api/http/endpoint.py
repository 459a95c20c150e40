"""One description of each address, from which both the routing and the OpenAPI document are made.

A handler says by its signature what it reads: parameters named in the path, `query`, `headers` and `body` (each a
pydantic model). So the document cannot tell anything that the code does not do.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from typing import Any, get_type_hints

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from vidqueue.api.http import audit, requests
from vidqueue.api.http.context import services_of
from vidqueue.api.http.identity import require_role
from vidqueue.api.http.problems import ErrorShape, RefusedError
from vidqueue.errors import VidqueueError
from vidqueue.principal import Role

Handler = Callable[..., Awaitable[Response]]

JSON = "application/json"
_PATH_WORD = re.compile(r"\{(\w+)(?::\w+)?\}")


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that is not an error: its media types with the models of their content, and its own headers."""

    description: str
    content: Mapping[str, type[BaseModel] | None] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CompatApi:
    """An API in the shape of another system's, which the operator can disable with `<section>.enabled`.

    `prefix` is the common prefix of its addresses; unknown addresses below it get its form of errors too. Addresses
    that a second API has too are enabled if one of both is: `also` names its section.
    """

    section: str
    name: str
    prefix: str = ""
    also: str = ""

    def is_enabled(self, request: Request) -> bool:
        """False if the operator has disabled the API."""
        settings = services_of(request).settings
        return any(getattr(settings, one).enabled for one in (self.section, self.also) if one)

    def require_enabled(self, request: Request) -> None:
        """Refuse a request if the operator has disabled this API.

        Raises:
            VidqueueError: `not_found`.
        """
        if not self.is_enabled(request):
            hint = f"Set {self.section}.enabled to true to enable it."
            raise VidqueueError("not_found", f"{self.name} is disabled.", hint=hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An HTTP endpoint: a method of an address, its handler, and what the OpenAPI document says about it.

    Attributes:
        path: a path of Starlette, such as `/v1/jobs/{job_id:uuid}`.
        answers: its responses by status.
        errors: codes of errors that it may respond with, besides those that every address has.
        raw_body: media types of a body that the handler streams itself.
        public: answered without a key.
        role: the role that the key of a request must have; by default READ for GET, else SUBMIT.
        errors_as: adds the fields of another system's errors to a problem document.
        compat_api: the API of another system that it belongs to, if any.
    """

    method: str
    path: str
    handler: Handler
    tag: str
    answers: Mapping[int, Answer]
    errors: tuple[str, ...] = ()
    raw_body: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    public: bool = False
    role: Role | None = None
    errors_as: ErrorShape | None = None
    compat_api: CompatApi | None = None

    @property
    def needs(self) -> Role | None:
        """The role that a request needs; None if it needs no key."""
        if self.public:
            return None
        return self.role or (Role.READ if self.method == "GET" else Role.SUBMIT)

    @property
    def parameters(self) -> list[str]:
        """Names of the path parameters."""
        return _PATH_WORD.findall(self.path)

    def model(self, name: str) -> type[BaseModel] | None:
        """The model of the handler's argument `query`, `headers` or `body`, if it has one."""
        model: type[BaseModel] | None = _hints(self.handler).get(name)
        return model

    async def call(self, request: Request) -> Response:
        """Authenticate the request, read the handler's arguments from it, and call the handler."""
        request.state.errors_as = self.errors_as
        if self.needs is not None:
            # Before the body, so that no body of a client without permission is read.
            await require_role(request, self.needs)
        if self.compat_api is not None:
            self.compat_api.require_enabled(request)
        arguments: dict[str, Any] = dict(request.path_params)
        if "\0" in request.scope["path"]:
            # No database keeps a NUL, so nothing can have this name.
            raise VidqueueError("not_found", "There is nothing at an address with a NUL character.")
        if query := self.model("query"):
            arguments["query"] = requests.read_query(request, query)
        if headers := self.model("headers"):
            arguments["headers"] = requests.read_headers(request, headers)
        if body := self.model("body"):
            arguments["body"] = await requests.read_body(request, body)
        response = await self.handler(request, **arguments)
        if audit.is_audited(self.method, self.path, self.tag, self.public):
            await audit.record(request, self.path, arguments)
        return response


class Address:
    """All methods of one path; HEAD is answered like GET, and 405 names every method there is."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._by_method = {endpoint.method: endpoint for endpoint in endpoints}

    @property
    def methods(self) -> list[str]:
        """Methods for the `Allow` header."""
        return sorted({*self._by_method, *(["HEAD"] if "GET" in self._by_method else [])})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive, send)
        endpoint = self._by_method.get("GET" if request.method == "HEAD" else request.method)
        if endpoint is None:
            allowed = ", ".join(self.methods)
            raise RefusedError(
                "method_not_allowed",
                f"{request.method} is not supported here. Use {_either(self.methods)}.",
                headers={"Allow": allowed},
            )
        response = await endpoint.call(request)
        await response(scope, receive, send)


def download_answers(*media_types: str) -> dict[int, Answer]:
    """Return the answers of an address that serves stored bytes whole or in ranges."""
    etag = {"ETag": "The sha256 of the bytes."}
    content = dict.fromkeys((*media_types, "application/octet-stream"))
    ranged = {"Accept-Ranges": "`bytes`."} | etag
    return {
        200: Answer("The bytes.", content, ranged),
        206: Answer("Some of the bytes.", content, ranged),
        304: Answer("You have these bytes.", headers=etag),
    }


def routes(endpoints: Iterable[Endpoint]) -> list[Route]:
    """Return one Starlette route for each path."""
    by_path = groupby(sorted(endpoints, key=_path), key=_path)
    return [Route(path, Address(group)) for path, group in by_path]


def json_answer(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response with the model."""
    return Response(model.model_dump_json(), status, headers, JSON)


def _either(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


@cache
def _hints(handler: Handler) -> dict[str, Any]:
    return get_type_hints(handler)


def _path(endpoint: Endpoint) -> str:
    return endpoint.path
