"""The shapes of parameters that flags cannot have: what they are in JSON, and how defaults are shown. No IO."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

_KINDS: dict[type, str] = {
    bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object", type(None): "null",
}  # fmt: skip
_EXAMPLES = {"object": """'{"name": 1}'""", "array": "'[1, 2]'"}
# A type may refer to itself.
_DEEPEST = 8


def kinds_of(annotation: Any) -> frozenset[str]:
    """What a value of this type may be in JSON, such as object and string; nothing if that is not known."""
    with contextlib.suppress(Exception):  # a type of any processor, which may have no schema
        schema = TypeAdapter(annotation).json_schema()
        return frozenset(_kinds(schema, schema)) - {"null"}
    return frozenset()


def _kinds(about: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> Iterable[str]:
    about = resolved(about, root)
    options = options_of(about)
    if options and depth < _DEEPEST:
        return {kind for option in options for kind in _kinds(option, root, depth + 1)}
    if "enum" in about or "const" in about:
        return {kind_of(value) for value in about.get("enum") or [about["const"]]}
    return {about["type"]} if isinstance(about.get("type"), str) else ()


def options_of(about: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The alternatives of a union in a JSON schema; nothing where it is none."""
    return [*about.get("anyOf", ()), *about.get("oneOf", ())]


def resolved(about: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a reference to `$defs` leads to, or the schema itself."""
    found = root.get("$defs", {}).get(str(about["$ref"]).rpartition("/")[2]) if "$ref" in about else about
    return found if isinstance(found, Mapping) else {}


def kind_of(value: Any) -> str:
    """The type of a value in JSON."""
    return _KINDS.get(type(value), "")


def json_text(kinds: frozenset[str]) -> str:
    """How the value of a flag is written, where that is not plain text."""
    if not kinds or "string" in kinds:
        return ""
    return f"(JSON: {' or '.join(sorted(kinds))})"


def example_of(kinds: frozenset[str]) -> str:
    """A sentence with an example of the value in a shell; empty where there is none to give."""
    examples = [f"an {kind}, such as {_EXAMPLES[kind]}" for kind in sorted(kinds) if kind in _EXAMPLES]
    return f"Write {' or '.join(examples)}." if examples else ""


def default_text(info: FieldInfo) -> str:
    """The default of a parameter as one would write it; empty where there is none to show."""
    value = PydanticUndefined if info.is_required() else info.get_default(call_default_factory=False)
    if value is PydanticUndefined:
        return ""
    with contextlib.suppress(Exception):  # a default of any type
        value = TypeAdapter(Any).dump_python(value, mode="json")
    return value_text(value)


def value_text(value: Any) -> str:
    """A default as one would write it: a number, a boolean, a list or an object in JSON; empty for null."""
    if isinstance(value, int | float | list | dict):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else str(value)
