"""The description of the door agrees with the door, and needs nobody else's server to be read."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from vidqueue.api.http.docs import Description
from vidqueue.api.http.endpoint import Address, routes
from vidqueue.api.http.openapi import codes_of
from vidqueue.api.routes import ENDPOINTS
from vidqueue.api.web.routes import PAGES
from vidqueue.errors import KINDS
from vidqueue.processors import registry


async def read(client: httpx2.AsyncClient) -> dict[str, Any]:
    """The document."""
    document: dict[str, Any] = (await client.get("/openapi.json")).json()
    return document


def inside(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from inside(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from inside(inner)


async def test_every_address_is_described_and_every_description_has_an_address(
    client: httpx2.AsyncClient, app: Starlette
) -> None:
    described = {
        (path, method.upper()) for path, methods in (await read(client))["paths"].items() for method in methods
    }
    pages = {page.path_format for page in routes(PAGES)}
    routed = set()
    for route in app.routes:
        assert isinstance(route, Route)
        assert isinstance(route.app, Address)
        # The pages are for people; their forms change only with a token of a page.
        if route.path_format in pages:
            continue
        routed |= {(route.path_format, method) for method in route.app.methods if method != "HEAD"}
    assert described == routed


async def test_what_the_design_promises_is_there(client: httpx2.AsyncClient) -> None:
    promised = {
        "/v1/jobs": {"get", "post"},
        "/v1/jobs/{job_id}": {"get", "patch", "delete"},
        "/v1/jobs/{job_id}/cancel": {"post"},
        "/v1/jobs/{job_id}/retry": {"post"},
        "/v1/jobs/{job_id}/events": {"get"},
        "/v1/jobs/{job_id}/attempts": {"get"},
        "/v1/jobs/{job_id}/logs": {"get"},
        "/v1/jobs/{job_id}/outputs/{name}": {"get"},
        "/v1/events": {"get"},
        "/v1/files": {"get", "post"},
        "/v1/files/{file_id}": {"get", "delete"},
        "/v1/files/{file_id}/content": {"get"},
        "/v1/processors": {"get"},
        "/v1/processors/{name}": {"get"},
        "/v1/lanes": {"get"},
        "/v1/stats": {"get"},
        "/healthz": {"get"},
        "/readyz": {"get"},
        "/openapi.json": {"get"},
        "/docs": {"get"},
    }
    paths = (await read(client))["paths"]
    assert {path: set(paths.get(path, ())) for path in promised} == promised


async def test_the_document_is_sound_in_itself(client: httpx2.AsyncClient) -> None:
    document = await read(client)
    assert document["openapi"] == "3.1.0"
    schemas = document["components"]["schemas"]
    for one in inside(document):
        if isinstance(target := one.get("$ref"), str):
            assert target.removeprefix("#/components/schemas/") in schemas, target
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(names)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            given = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            assert given == set(re.findall(r"\{(\w+)\}", path))
            assert operation["summary"]
            assert all(response["description"] for response in operation["responses"].values())


async def test_the_document_is_valid_openapi(client: httpx2.AsyncClient) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(await read(client))


async def test_every_processor_tells_its_parameters(client: httpx2.AsyncClient) -> None:
    document = await read(client)
    choices = document["components"]["schemas"]["JobRequest"]["properties"]["input"]["anyOf"]
    catalogue = registry.catalogue()
    assert {"transcode", "enhance", "zoo"} <= set(catalogue)
    assert [choice["$ref"].rpartition("/")[2] for choice in choices] == list(catalogue)
    for name, processor in catalogue.items():
        described = document["components"]["schemas"][name]
        assert set(described["properties"]) == set(processor.Params.model_fields)


async def test_every_answer_fits_what_the_document_says_of_it(client: httpx2.AsyncClient) -> None:
    document = await read(client)
    job = (await client.post("/v1/jobs", json={"processor": "zoo"})).json()
    shown = {
        "JobView": job,
        "JobPage": (await client.get("/v1/jobs")).json(),
        "LogPage": (await client.get(job["urls"]["logs"])).json(),
        "AttemptList": (await client.get(job["urls"]["attempts"])).json(),
        "ProcessorList": (await client.get("/v1/processors")).json(),
        "LaneList": (await client.get("/v1/lanes")).json(),
        "Statistics": (await client.get("/v1/stats")).json(),
        "Problem": (await client.get("/v1/nothing")).json(),
    }
    for name, value in shown.items():
        assert set(document["components"]["schemas"][name]["required"]) == set(value), name


async def test_a_status_that_is_not_described_does_not_come(client: httpx2.AsyncClient) -> None:
    paths = (await read(client))["paths"]
    for endpoint in ENDPOINTS:
        path = re.sub(r"\{\w+:uuid\}", str(uuid4()), endpoint.path)
        path = re.sub(r"\{\w+\}", "nothing", path)
        if path == "/v1/events":
            continue  # without end
        described = paths[re.sub(r":uuid", "", endpoint.path)][endpoint.method.lower()]["responses"]
        answer = await client.request(endpoint.method, path)
        assert str(answer.status_code) in described, (endpoint.method, endpoint.path, answer.text)


def test_every_code_an_address_may_answer_is_known() -> None:
    for endpoint in ENDPOINTS:
        assert set(endpoint.errors) <= KINDS.keys()
        assert "internal_error" in codes_of(endpoint)


async def test_every_code_is_explained_where_its_type_points(client: httpx2.AsyncClient) -> None:
    listed = (await client.get("/problems")).json()["problems"]
    assert [one["code"] for one in listed] == list(KINDS)
    for one in listed:
        assert (await client.get(f"/problems/{one['code']}")).json() == one


async def test_the_page_needs_no_other_server_and_no_inline_script(client: httpx2.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "unsafe" not in page.headers["content-security-policy"]
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", page.text)
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(addresses) == 4
    for address in addresses:
        assert address.startswith("/")
        answer = await client.get(address)
        assert (answer.status_code, bool(answer.content)) == (200, True), address


def test_the_door_loads_nothing_heavy() -> None:
    """In a fresh interpreter, with every processor's parameters read."""
    program = (
        "import sys, vidqueue.api.app; from vidqueue.api.http import openapi; "
        "from vidqueue.api import routes; from vidqueue.processors import registry;"
        "openapi.document(routes.ENDPOINTS, registry.catalogue());"
        "print(*sorted({'torch', 'cv2', 'offapi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


async def test_the_document_is_built_once_for_all_its_readers_and_again_after_a_change() -> None:
    processors, released = ["old"], threading.Event()

    def build() -> bytes:
        text = f"{processors[0]} {len(built)}".encode()
        built.append(text)
        released.wait(20)
        return text

    built: list[bytes] = []
    description = Description(build)
    readers = [asyncio.create_task(description.read()) for _ in range(3)]
    while not built:
        await asyncio.sleep(0.01)
    # The processors change while the document is being built.
    processors[0] = "new"
    forgetting = asyncio.create_task(description.forget())
    await asyncio.sleep(0)
    released.set()
    assert await asyncio.gather(*readers) == [b"old 0"] * 3
    await forgetting
    assert [await description.read(), await description.read()] == [b"new 1"] * 2
