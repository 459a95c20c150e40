"""The check of a value against the JSON schema of another program."""

from __future__ import annotations

from typing import Any

import pytest

from vidqueue.processors.remote.schema_check import faults

SCHEMA: dict[str, Any] = {
    "defs": {"Size": {"type": "string", "enum": ["small", "large"]}},
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "prompt": {"type": "string", "minLength": 1, "maxLength": 5},
        "steps": {"type": "integer", "minimum": 1, "maximum": 50},
        "scale": {"type": "number"},
        "size": {"allOf": [{"$ref": "#/defs/Size"}], "default": "small"},
        "seed": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "mask": {"type": "string", "nullable": True},
        "flag": {"type": "boolean"},
        "images": {"type": "array", "items": {"type": "string"}},
        "extra": {"type": "object", "properties": {"a": {"type": "integer"}}},
        "circle": {"$ref": "#/properties/circle"},
    },
}


@pytest.mark.parametrize(
    "value",
    [
        {"prompt": "a"},
        {"prompt": "a", "steps": 3.0, "scale": 2, "size": "large", "seed": None, "mask": None, "flag": True},
        {"prompt": "a", "images": [], "extra": {"b": 1}, "circle": 1},
    ],
)
def test_what_fits_has_no_faults(value: dict[str, Any]) -> None:
    assert list(faults(SCHEMA, SCHEMA, value)) == []


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({}, ("prompt",)),
        ({"prompt": ""}, ("prompt",)),
        ({"prompt": "sixsix"}, ("prompt",)),
        ({"prompt": None}, ("prompt",)),
        ({"prompt": "a", "steps": 0}, ("steps",)),
        ({"prompt": "a", "steps": 51}, ("steps",)),
        ({"prompt": "a", "steps": 1.5}, ("steps",)),
        ({"prompt": "a", "steps": True}, ("steps",)),
        ({"prompt": "a", "scale": "1"}, ("scale",)),
        ({"prompt": "a", "size": "medium"}, ("size",)),
        ({"prompt": "a", "seed": "x"}, ("seed",)),
        ({"prompt": "a", "flag": 1}, ("flag",)),
        ({"prompt": "a", "images": ["x", 2]}, ("images", 1)),
        ({"prompt": "a", "extra": {"a": "x"}}, ("extra", "a")),
        ({"prompt": "a", "stesp": 1}, ("stesp",)),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(value: dict[str, Any], place: tuple[str | int, ...]) -> None:
    assert [at for at, _ in faults(SCHEMA, SCHEMA, value)] == [place]


@pytest.mark.parametrize("schema", [None, [], {"type": 7, "enum": 3, "properties": []}, {"$ref": 3}, {"$ref": "#/x/y"}])
def test_a_schema_that_is_none_refuses_nothing(schema: Any) -> None:
    assert list(faults({}, schema, {"a": 1})) == []
