"""Checks a JSON value against the JSON schema of another program: types, enums, bounds, required and unknown fields.

A part of JSON Schema, as pydantic and Cog write it. What it does not know it lets pass: the other program checks again.
Patterns are not tried, because their cost is in the hands of whoever wrote them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.processors.media import FOREIGN_FORMATS, MediaField, Path, json_pointer, media_in

Fault = tuple[Path, str]

DEEPEST = 32
FAULTS_TOLD = 50
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "integer": (int, float),
    "number": (int, float),
    "null": (type(None),),
}


def refuse_faults(schema: Mapping[str, Any] | None, given: Any, at: Path, whose: str) -> None:
    """Refuse input that does not fit the schema of a model, if that is known.

    Raises:
        VidqueueError: `invalid_params`, with the place of each of the first faults.
    """
    if schema is None:
        return
    found = [
        {"pointer": "/input" + json_pointer(place), "detail": wrong}
        for place, wrong in islice(faults(schema, schema, given, at=at), FAULTS_TOLD)
    ]
    if found:
        told = f"{found[0]['pointer']}: {found[0]['detail']}"
        raise VidqueueError("invalid_params", f"{whose} does not accept this input. {told}", errors=found)


def files_in(schema: Mapping[str, Any] | None, value: Any, at: Path) -> Iterator[MediaField]:
    """Each file in the input of a model; without a schema, references to our own files."""
    if schema is None:
        return _own_files(value, at)
    return media_in(schema, value, at=at, formats=FOREIGN_FORMATS)


def _own_files(value: Any, at: Path) -> Iterator[MediaField]:
    if isinstance(value, str) and value.startswith(("vq:files/", "vq:jobs/")):
        yield MediaField(at, value, "any")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _own_files(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _own_files(inner, (*at, index))


def faults(root: Mapping[str, Any], schema: Any, value: Any, *, at: Path = (), depth: int = 0) -> Iterator[Fault]:
    """Each fault of a value: its place and what is wrong. `root` is what a `$ref` leads into."""
    schema = _resolved(root, schema)
    if not isinstance(schema, Mapping) or depth > DEEPEST or (value is None and schema.get("nullable")):
        return
    wrong = _wrong(schema, value)
    if wrong:
        yield at, wrong
        return
    for part in _list(schema.get("allOf")):
        yield from faults(root, part, value, at=at, depth=depth + 1)
    for word in ("anyOf", "oneOf"):
        yield from _of_one(root, _list(schema.get(word)), value, at, depth)
    if isinstance(value, dict):
        yield from _of_object(root, schema, value, at, depth)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from faults(root, schema.get("items"), inner, at=(*at, index), depth=depth + 1)


def _of_one(root: Mapping[str, Any], branches: list[Any], value: Any, at: Path, depth: int) -> Iterator[Fault]:
    """The faults of the last branch if the value fits none of them."""
    found: list[Fault] = []
    for branch in branches:
        found = list(faults(root, branch, value, at=at, depth=depth + 1))
        if not found:
            return
    yield from found


def _of_object(
    root: Mapping[str, Any], schema: Mapping[str, Any], value: dict[str, Any], at: Path, depth: int
) -> Iterator[Fault]:
    properties, others = schema.get("properties"), schema.get("additionalProperties")
    if not isinstance(properties, Mapping):
        return
    for name in _list(schema.get("required")):
        if name not in value:
            yield (*at, name), "the field is required"
    for name, inner in value.items():
        if name in properties:
            yield from faults(root, properties[name], inner, at=(*at, name), depth=depth + 1)
        elif others is False or (others is None and depth == 0):
            yield (*at, name), f"there is no such field; known: {', '.join(map(str, list(properties)[:50]))}"


def _wrong(schema: Mapping[str, Any], value: Any) -> str:
    kind = schema.get("type")
    known = [one for one in (kind if isinstance(kind, list) else [kind]) if one in _TYPES]
    if known and not any(_is(one, value) for one in known):
        return f"{' or '.join(known)} is needed"
    choices = schema.get("enum")
    if isinstance(choices, list) and value not in choices:
        return f"one of {', '.join(map(repr, choices[:50]))} is needed"
    return _out_of_bounds(schema, value)


def _out_of_bounds(schema: Mapping[str, Any], value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        least, most = schema.get("minimum"), schema.get("maximum")
        if isinstance(least, int | float) and value < least:
            return f"{value} is less than the minimum of {least}"
        if isinstance(most, int | float) and value > most:
            return f"{value} is greater than the maximum of {most}"
    if isinstance(value, str):
        least, most = schema.get("minLength"), schema.get("maxLength")
        if isinstance(least, int) and len(value) < least:
            return f"{least} characters are needed at least"
        if isinstance(most, int) and len(value) > most:
            return f"{most} characters are possible at most"
    return ""


def _is(kind: str, value: Any) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[kind])


def _resolved(root: Mapping[str, Any], schema: Any) -> Any:
    for _ in range(DEEPEST):
        if not isinstance(schema, Mapping) or not isinstance(reference := schema.get("$ref"), str):
            return schema
        schema = root if reference.startswith("#") else None
        for word in reference.split("/")[1:]:
            schema = schema.get(word.replace("~1", "/").replace("~0", "~")) if isinstance(schema, Mapping) else None
    return None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
