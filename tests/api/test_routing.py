"""The router finds an address by the first segments of its path, and refuses one that it would never find."""

from __future__ import annotations

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Scope

from vidqueue.api.http.routing import Routes


def route(path: str) -> Route:
    """An address that answers with its own path in a header."""

    async def answer(request: Request) -> Response:
        del request
        return Response(headers={"path": path})

    return Route(path, answer)


async def found(routes: Routes, path: str) -> str:
    """The path of the route that answers a request."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope: Scope = {"type": "http", "method": "GET", "path": path, "headers": [], "root_path": "", "query_string": b""}
    await routes(scope, receive, send)
    return str(dict(sent[0]["headers"])[b"path"].decode())


@pytest.mark.parametrize("path", ["/{name}", "/{name}/of", "/a{name}", "/v1/{rest:path}", "/v1/jobs/{rest:path}"])
def test_an_address_that_would_never_be_found_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="parameter"):
        Routes([route("/v1"), route(path)])


async def test_a_literal_segment_goes_before_a_parameter() -> None:
    paths = ["/v1/jobs", "/v1/{kind}", "/v1/jobs/{id:int}", "/v1/{kind}/all", "/v1/all-{kind}", "/v1/jobs/{id}/logs"]
    routes = Routes(map(route, paths))
    asked = ["/v1/jobs", "/v1/lanes", "/v1/jobs/7", "/v1/jobs/all", "/v1/jobs/7/logs", "/v1/{kind}"]
    assert [await found(routes, one) for one in asked] == [
        "/v1/jobs", "/v1/{kind}", "/v1/jobs/{id:int}", "/v1/{kind}/all", "/v1/jobs/{id}/logs", "/v1/{kind}"
    ]  # fmt: skip
    assert await found(Routes([route("/v1/all-{kind}")]), "/v1/all-lanes") == "/v1/all-{kind}"
    for nowhere in ("/", "/v2", "/v1/jobs/", "/v1/jobs/x/y", "/v1/jobs/7/logs/1"):
        with pytest.raises(HTTPException):
            await found(routes, nowhere)
