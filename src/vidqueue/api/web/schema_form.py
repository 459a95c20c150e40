"""A processor's form, made from the JSON schema of its parameters, and parameters made from what the form sends."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vidqueue.errors import VidqueueError
from vidqueue.processors.base import Processor
from vidqueue.processors.media import schema_of

Kind = Literal["media", "choice", "switch", "number", "text", "json"]
# Names of the form's own fields must not meet those of parameters.
PREFIX = "p."
UNITS = {"s": "s", "ms": "ms", "mb": "MB", "mib": "MiB", "kbit": "kbit/s", "px": "px"}
ABBREVIATIONS = {"crf": "CRF", "fps": "FPS", "json": "JSON", "url": "URL"}
ACCEPT = {"media-video": "video/*", "media-audio": "audio/*,video/*", "media-image": "image/*"}


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter as a form shows it. `accept` is which files a browser offers for media."""

    name: str
    kind: Kind
    label: str
    description: str
    required: bool
    default: Any
    choices: tuple[str, ...] = ()
    whole: bool = False
    least: float | None = None
    most: float | None = None
    accept: str = ""

    @property
    def key(self) -> str:
        """The name of the field in the form."""
        return PREFIX + self.name

    @property
    def shown_default(self) -> str:
        """The default as a form shows it."""
        if self.default in (None, "", [], {}):
            return ""
        return str(self.default) if isinstance(self.default, str | int | float) else json.dumps(self.default)


def fields_of(processor: Processor) -> list[Field]:
    """Return the fields of a processor, those that are required first."""
    schema = schema_of(processor.Params)
    required = set(schema.get("required", ()))
    found = [_field(name, one, schema, required=name in required) for name, one in schema.get("properties", {}).items()]
    return sorted(found, key=lambda field: (not field.required, field.kind != "media"))


def source_of(fields: Sequence[Field]) -> Field | None:
    """Return the medium that a job is made for each of, if many are given."""
    return next((field for field in fields if field.kind == "media"), None)


def parameters(fields: Sequence[Field], given: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters that the form's texts mean; what is left empty, or as it is by default, is left out.

    Raises:
        VidqueueError: `invalid_params`, with the place.
    """
    found: dict[str, Any] = {}
    for field in fields:
        value = _value(field, given.get(field.key, "").strip())
        if value is not None and (field.required or value != field.default):
            found[field.name] = value
    return found


def texts(fields: Sequence[Field], given: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of a form that mean these parameters; one that is not given has its default."""
    found: dict[str, str] = {}
    for field in fields:
        value = given.get(field.name, field.default)
        if field.kind == "switch":
            found[field.key] = "on" if value else ""
        elif field.name in given and value is not None:
            found[field.key] = value if isinstance(value, str) and field.kind != "json" else json.dumps(value)
    return found


def _value(field: Field, text: str) -> Any:
    if field.kind == "switch":
        return text == "on"
    if not text:
        return None
    if field.kind == "number":
        return _number(field, text)
    if field.kind == "json":
        try:
            return json.loads(text)
        except ValueError as error:
            raise _refusal(field, f"This is not JSON: {error}") from None
    return text


def _number(field: Field, text: str) -> float | int:
    try:
        return int(text) if field.whole else float(text)
    except ValueError:
        raise _refusal(field, "This is not a whole number." if field.whole else "This is not a number.") from None


def _refusal(field: Field, detail: str) -> VidqueueError:
    errors = [{"pointer": f"/input/{field.name}", "detail": detail}]
    return VidqueueError("invalid_params", f"{field.label}: {detail}", errors=errors)


def _field(name: str, node: Mapping[str, Any], root: Mapping[str, Any], *, required: bool) -> Field:
    inner = _inner(node, root)
    kind = _kind(inner)
    return Field(
        name=name,
        kind=kind,
        label=_label(name),
        description=str(node.get("description", inner.get("description", ""))),
        required=required,
        default=node.get("default"),
        choices=tuple(map(str, inner.get("enum", ()))),
        whole=inner.get("type") == "integer",
        least=inner.get("minimum", inner.get("exclusiveMinimum")),
        most=inner.get("maximum", inner.get("exclusiveMaximum")),
        accept=ACCEPT.get(str(inner.get("format")), ""),
    )


def _label(name: str) -> str:
    """The name in words, with its unit at the end."""
    words, _, unit = name.rpartition("_")
    if words and unit in UNITS:
        return f"{_sentence(words)} ({UNITS[unit]})"
    return _sentence(name)


def _sentence(name: str) -> str:
    first, *others = (ABBREVIATIONS.get(word, word) for word in name.split("_"))
    return " ".join([first if first.isupper() else first.capitalize(), *others])


def _inner(node: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema behind a reference, and without the null that makes a parameter optional."""
    for _ in range(8):
        if isinstance(reference := node.get("$ref"), str) and reference.startswith("#/$defs/"):
            node = root.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
            continue
        branches = [one for one in node.get("anyOf", ()) if one.get("type") != "null"]
        if len(branches) != 1:
            return _joined(node, branches)
        node = branches[0]
    return node


def _joined(node: Mapping[str, Any], branches: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """One set of choices, if each branch of a union is one; else the node itself."""
    sets = [one.get("enum", [one["const"]] if "const" in one else []) for one in branches]
    return {"enum": [choice for several in sets for choice in several]} if sets and all(sets) else node


def _kind(node: Mapping[str, Any]) -> Kind:
    if str(node.get("format", "")).startswith("media-"):
        return "media"
    if "enum" in node and all(isinstance(choice, str) for choice in node["enum"]):
        return "choice"
    match node.get("type"):
        case "boolean":
            return "switch"
        case "integer" | "number":
            return "number"
        case "string":
            return "text"
        case _:
            return "json"
