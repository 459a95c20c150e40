"""The OpenAPI 3.1 document, made from the list of endpoints and the catalogue of processors. No IO."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from vidqueue import __version__
from vidqueue.api.http import problems, requests
from vidqueue.api.http.endpoint import JSON, Endpoint
from vidqueue.api.http.middleware import SAFE_METHODS
from vidqueue.api.http.problems import Problem
from vidqueue.errors import DATABASE_BUSY, KINDS
from vidqueue.jobs.submit import JobRequest
from vidqueue.processors.base import Processor

Document = dict[str, Any]

_REF = "#/components/schemas/{model}"
_CONVERTER = re.compile(r"\{(\w+):\w+\}")
_UUIDS = re.compile(r"\{(\w+):uuid\}")

_EVERYWHERE = ("host_not_allowed", "internal_error")
_WITH_BODY = ("invalid_json", "invalid_request", "payload_too_large", "request_timeout", "unsupported_media_type")


def document(endpoints: Iterable[Endpoint], processors: Mapping[str, Processor]) -> Document:
    """Return the whole document."""
    endpoints = tuple(endpoints)
    paths: Document = {}
    for endpoint in endpoints:
        operations = paths.setdefault(_CONVERTER.sub(r"{\1}", endpoint.path), {})
        operations[endpoint.method.lower()] = _operation(endpoint)
    schemas = _schemas(endpoints)
    _describe_input(schemas, processors)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vidqueue",
            "version": __version__,
            "description": "A durable queue for video work. Errors are RFC 9457 problems with a stable `code`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key. None is needed while none exists.",
                }
            },
        },
    }


def _operation(endpoint: Endpoint) -> Document:
    summary, _, description = (inspect.getdoc(endpoint.handler) or "").partition("\n\n")
    operation: Document = {
        "operationId": getattr(endpoint.handler, "__name__", ""),
        "summary": summary.rstrip("."),
        "tags": [endpoint.tag],
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint),
    }
    if endpoint.needs is not None:
        operation["security"] = [{"key": []}]
        operation["x-role"] = endpoint.needs
    if description:
        operation["description"] = " ".join(description.split())
    if body := _body(endpoint):
        model = endpoint.model("body")
        required = endpoint.method != "POST" or model is None or requests.needs_body(model)
        operation["requestBody"] = {"required": required, "content": body}
    return operation


def _parameters(endpoint: Endpoint) -> list[Document]:
    uuids = _UUIDS.findall(endpoint.path)
    found: list[Document] = []
    for name in endpoint.parameters:
        schema = {"type": "string", "format": "uuid"} if name in uuids else {"type": "string"}
        found.append({"name": name, "in": "path", "required": True, "schema": schema})
    for argument, place in (("query", "query"), ("headers", "header")):
        if model := endpoint.model(argument):
            found += _fields(model, place)
    return found


def _fields(model: type[BaseModel], place: str) -> list[Document]:
    schema = model.model_json_schema(ref_template=_REF)
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": place,
            "required": name in required,
            "description": field.pop("description", ""),
            "schema": field,
        }
        for name, field in schema["properties"].items()
    ]


def _body(endpoint: Endpoint) -> Document:
    if model := endpoint.model("body"):
        return {JSON: {"schema": _ref(model)}}
    return {media_type: {"schema": schema} for media_type, schema in endpoint.raw_body.items()}


def _responses(endpoint: Endpoint) -> Document:
    responses: Document = {}
    for status, answer in endpoint.answers.items():
        described: Document = {"description": answer.description}
        if answer.content:
            described["content"] = {
                media_type: {"schema": _ref(model)} if model else {} for media_type, model in answer.content.items()
            }
        if answer.headers:
            described["headers"] = {
                name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()
            }
        responses[str(status)] = described
    by_status: dict[int, list[str]] = {}
    for code in codes_of(endpoint):
        by_status.setdefault(KINDS[code].status, []).append(code)
    for status, codes in sorted(by_status.items()):
        responses[str(status)] = {
            "description": "Refused: " + ", ".join(f"`{code}`" for code in codes) + ".",
            "content": {problems.MEDIA_TYPE: {"schema": _ref(Problem)}},
        }
    return responses


def codes_of(endpoint: Endpoint) -> list[str]:
    """Return every error code of this endpoint."""
    codes = {*_EVERYWHERE, *endpoint.errors}
    if endpoint.parameters:
        codes.add("not_found")
    if endpoint.model("body"):
        codes.update(_WITH_BODY)
    if endpoint.model("query") or endpoint.model("headers") or endpoint.raw_body:
        codes.add("invalid_request")
    if endpoint.needs is not None:
        codes.update(("unauthenticated", "forbidden"))
    if endpoint.method not in SAFE_METHODS:
        codes.add("forbidden")
    if endpoint.path.startswith("/v1/"):
        codes.update(DATABASE_BUSY)
    return [code for code in KINDS if code in codes]


def _schemas(endpoints: Iterable[Endpoint]) -> Document:
    read = {model for endpoint in endpoints if (model := endpoint.model("body"))}
    answers = [answer for endpoint in endpoints for answer in endpoint.answers.values()]
    shown = {Problem, *(model for answer in answers for model in answer.content.values() if model)}
    nested = {model for endpoint in endpoints for name in ("query", "headers") if (model := endpoint.model(name))}
    wanted = [*((model, "validation") for model in read), *((model, "serialization") for model in shown)]
    _, definitions = models_json_schema(wanted, ref_template=_REF)  # type: ignore[arg-type]
    schemas: Document = dict(definitions["$defs"])
    for model in nested:
        schemas |= model.model_json_schema(ref_template=_REF).get("$defs", {})
    return dict(sorted(schemas.items()))


def _describe_input(schemas: Document, processors: Mapping[str, Processor]) -> None:
    """Tell what `input` may be: one schema for each processor, under the processor's own name."""
    choices = []
    for name, processor in processors.items():
        template = f"#/components/schemas/{name}.{{model}}"
        schema = processor.Params.model_json_schema(ref_template=template)
        for inner, definition in schema.pop("$defs", {}).items():
            schemas[f"{name}.{inner}"] = definition
        schemas[name] = {**schema, "title": f"Input of {name}"}
        choices.append({"$ref": f"#/components/schemas/{name}"})
    # anyOf: an empty input may fit several processors, and which of them decides is said by `processor`.
    schemas[JobRequest.__name__]["properties"]["input"] |= {"anyOf": choices}
    schemas[JobRequest.__name__]["properties"]["processor"] |= {"examples": list(processors)}


def _ref(model: type[BaseModel]) -> Document:
    return {"$ref": _REF.format(model=model.__name__)}
