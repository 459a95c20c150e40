"""Request parsing and validation: bodies within limits of size and time, JSON, queries, headers."""

from __future__ import annotations

import asyncio
import difflib
import math
from collections.abc import AsyncIterator
from functools import cache
from typing import Any, Literal, TypeVar, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import Request

from vidqueue.api.http.context import services_of
from vidqueue.errors import VidqueueError, fault_text
from vidqueue.ops.threads import ThreadPool

JSON_LIMIT = 1 << 20
# A body that brings less than this in one idle time is stalled, however regularly it drips.
LEAST_GAIN = 16 * 1024

# A body of a megabyte could hold 85,000 unknown names, and the search for a similar name is slow.
MEMBERS_LIMIT = 1000
FAULTS_TOLD = 50
SUGGESTIONS = 5
LONGEST_SUGGESTED = 64

Place = Literal["body", "query", "headers"]
Model = TypeVar("Model", bound=BaseModel)

# Bodies above this size would hold up the event loop, which renews the leases. Their threads are few and their own:
# they compete with the loop for the interpreter, and other work of threads must not wait behind them.
LARGE_BODY = 64 * 1024
_large_bodies = ThreadPool("large bodies", size=2)


async def chunks(request: Request) -> AsyncIterator[bytes]:
    """Yield the body in chunks.

    Raises:
        VidqueueError: `request_timeout` when the client stalls for inputs.upload_idle_s.
        ClientDisconnect: the client went away.
    """
    clock = asyncio.get_running_loop().time
    stream = aiter(request.stream())
    idle_s = services_of(request).settings.inputs.upload_idle_s
    left, gained = idle_s, 0
    while True:
        asked_at = clock()
        try:
            async with asyncio.timeout(left):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise _stalled(idle_s) from None
        # Only the client's time counts, not that of whoever takes the chunk.
        left, gained = left - (clock() - asked_at), gained + len(chunk)
        if gained >= LEAST_GAIN:
            left, gained = idle_s, 0
        if chunk:
            yield chunk


def _stalled(idle_s: float) -> VidqueueError:
    return VidqueueError("request_timeout", f"No more of the body arrived for {idle_s:g} s.")


def refuse_too_long(request: Request, limit: int) -> None:
    """Refuse a body whose Content-Length is too large, before reading it.

    Raises:
        VidqueueError: `payload_too_large`.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise VidqueueError("payload_too_large", f"The body has {announced} bytes; {limit} are allowed.")


def media_type_of(request: Request) -> str:
    """Return the body's media type without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, model: type[Model]) -> Model:
    """Return the JSON body as a model; a large one is parsed and validated in a thread.

    A POST without a body means `{}` where every field of the model is optional.

    Raises:
        VidqueueError: `unsupported_media_type`, `payload_too_large`, `request_timeout`, `invalid_json`,
            `invalid_request`.
    """
    if request.method == "POST" and not _announces_body(request) and not needs_body(model):
        return model()
    _require_json(request)
    refuse_too_long(request, JSON_LIMIT)
    body = await (_small_body(request) if _is_small(request) else _bounded_body(request))
    if len(body) <= LARGE_BODY:
        return _parse(body, model)
    return await _large_bodies.run(_parse, body, model)


def _is_small(request: Request) -> bool:
    """True if the body must be there as a whole in the time for `LEAST_GAIN` bytes. The server reads no more of it."""
    announced = request.headers.get("content-length", "")
    is_short = announced.isdecimal() and len(announced) < 6 and int(announced) < LEAST_GAIN
    return is_short and "transfer-encoding" not in request.headers


async def _small_body(request: Request) -> bytes:
    """As `chunks`, with one timeout for all."""
    idle_s = services_of(request).settings.inputs.upload_idle_s
    try:
        async with asyncio.timeout(idle_s):
            return await request.body()
    except TimeoutError:
        raise _stalled(idle_s) from None


async def _bounded_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in chunks(request):
        body += chunk
        if len(body) > JSON_LIMIT:
            raise VidqueueError("payload_too_large", f"The body has more than {JSON_LIMIT} bytes.")
    return bytes(body)


def needs_body(model: type[BaseModel]) -> bool:
    """True if a field of the model is required."""
    return any(field.is_required() for field in model.model_fields.values())


def _announces_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _parse(body: bytes, model: type[Model]) -> Model:
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise VidqueueError("invalid_json", f"The body is not JSON: {error}.") from None
    refuse_what_no_database_keeps(value)
    return validate(model, value, place="body")


def _require_json(request: Request) -> None:
    given = media_type_of(request)
    if given != "application/json" and not given.endswith("+json"):
        raise VidqueueError(
            "unsupported_media_type",
            f"The Content-Type is {given or 'missing'}; it must be application/json.",
            hint="Send `Content-Type: application/json` (curl: --json).",
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise VidqueueError(
            "unsupported_media_type", "Compressed bodies are not supported.", hint="Send it uncompressed."
        )


def refuse_what_no_database_keeps(value: Any) -> None:
    """Refuse huge numbers and NUL, which JSON allows and PostgreSQL does not. The parser bounds the depth."""
    if isinstance(value, dict):
        if len(value) > MEMBERS_LIMIT:
            raise VidqueueError("invalid_json", f"An object of the body has more than {MEMBERS_LIMIT} members.")
        for key, inner in value.items():
            refuse_what_no_database_keeps(key)
            refuse_what_no_database_keeps(inner)
    elif isinstance(value, list):
        for inner in value:
            refuse_what_no_database_keeps(inner)
    elif isinstance(value, float) and not math.isfinite(value):
        raise VidqueueError("invalid_json", "The body holds a number that is too large.")
    elif isinstance(value, str) and "\0" in value:
        raise VidqueueError("invalid_json", "The body holds a text with a NUL character.")


def read_query(request: Request, model: type[Model]) -> Model:
    """Return the query as a model. A list may be given as `a=1&a=2` or as `a=1,2`.

    Raises:
        VidqueueError: `invalid_request`.
    """
    if not request.scope["query_string"]:
        empty: Model = _empty(model, "query")
        return empty
    given: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        given.setdefault(name, []).append(value)
        if "\0" in name + value:
            fault = {"pointer": "?" + name.replace("\0", ""), "detail": "The value holds a NUL character."}
            raise VidqueueError("invalid_request", "The query cannot be accepted.", errors=[fault])
    raw = {name: _one_or_many(model, name, values) for name, values in given.items()}
    return validate(model, raw, place="query")


def _one_or_many(model: type[BaseModel], name: str, values: list[str]) -> list[str] | str:
    field = model.model_fields.get(name)
    if field is not None and get_origin(field.annotation) is list:
        return [word for value in values for word in value.split(",") if word]
    # The last one wins, as everywhere on the web.
    return values[-1]


def read_headers(request: Request, model: type[Model]) -> Model:
    """Return the headers that `model` names by its aliases.

    Raises:
        VidqueueError: `invalid_request`.
    """
    given, raw = request.headers, dict[str, str]()
    for name in _header_names(model):
        if (value := given.get(name)) is not None:
            raw[name] = value
    return validate(model, raw, place="headers") if raw else _empty(model, "headers")


@cache
def _empty(model: type[Model], place: Place) -> Model:
    """The model of a request that says nothing there; all of these requests share it."""
    return validate(model, {}, place=place)


@cache
def _header_names(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(str(field.alias or name) for name, field in model.model_fields.items())


def validate(model: type[Model], raw: Any, *, place: Place) -> Model:
    """Return the raw value as a model.

    Raises:
        VidqueueError: `invalid_request`, with one entry in `errors` for each of the first faults.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    faults = [{"pointer": _pointer(fault["loc"], place), "detail": fault_text(fault)} for fault in found[:FAULTS_TOLD]]
    for told, fault in list(zip(faults, found, strict=False))[:SUGGESTIONS]:
        told["detail"] += _suggestion(model, fault)
    first = f"{faults[0]['pointer'] or 'body'}: {faults[0]['detail']}"
    raise VidqueueError("invalid_request", f"The {place} cannot be accepted. {first}", errors=faults)


def _pointer(loc: tuple[int | str, ...], place: Place) -> str:
    words = [str(word) for word in loc]
    match place:
        case "body":
            return "".join("/" + word.replace("~", "~0").replace("/", "~1") for word in words)
        case "query":
            return "?" + "".join(words[:1])  # A fault of the query as a whole names no part of it.
        case "headers":
            return words[0]


def _suggestion(model: type[BaseModel], fault: Any) -> str:
    if fault["type"] != "extra_forbidden" or len(fault["loc"]) != 1 or len(str(fault["loc"][0])) > LONGEST_SUGGESTED:
        return ""
    close = difflib.get_close_matches(str(fault["loc"][0]), list(model.model_fields), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
