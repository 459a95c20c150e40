"""The processors that the daemon offers, with flags made from the schemas that it answers.

A command line needs its flags before it is parsed, so the address of the daemon is looked for in the words themselves.
Without an answer the processors that are installed here have to do.
"""

from __future__ import annotations

import json
import keyword
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, create_model

from vidqueue.cli import shapes
from vidqueue.cli.client import Client
from vidqueue.cli.exits import CommandError
from vidqueue.cli.flags import joined_choices
from vidqueue.cli.options import DEFAULT_URL
from vidqueue.job import OutputDraft
from vidqueue.processors import registry
from vidqueue.processors.base import Context, MediaRef, Parameters, Processor
from vidqueue.processors.media import FORMATS, schema_of

PATIENCE_S = 5.0
_SCALARS: dict[str, type] = {"string": str, "integer": int, "number": float, "boolean": bool}
_BOUNDS = {
    "minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt",
    "minLength": "min_length", "maxLength": "max_length",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Offered:
    """What can be submitted: `processors` of the daemon, and `absent` ones that are installed here only."""

    processors: Mapping[str, Processor]
    absent: Mapping[str, Processor]
    url: str


@cache
def offered() -> Offered:
    """The processors of the daemon that this command line talks to; those installed here if none answers."""
    url, here = url_of(sys.argv[1:]), registry.catalogue()
    try:
        with Client(url) as client:
            views = client.call("GET", "/v1/processors", timeout=PATIENCE_S)["processors"]
    except (CommandError, KeyError, TypeError):
        return Offered(here, {}, url)  # the command that follows says what is the matter
    there = {view["name"]: _processor_of(view, here.get(view["name"])) for view in views}
    return Offered(there, {name: one for name, one in here.items() if name not in there}, url)


def url_of(words: Sequence[str]) -> str:
    """The address that a command line names, else that of the environment, else the usual one."""
    for index, word in enumerate(words):
        if word == "--":
            break
        if word.startswith("--url="):
            return word.removeprefix("--url=")
        if word == "--url" and index + 1 < len(words):
            return words[index + 1]
    return os.environ.get("VIDQUEUE_URL") or DEFAULT_URL


def _processor_of(view: Mapping[str, Any], here: Processor | None) -> Processor:
    """The processor that is installed here if it takes the same parameters, because it checks more; else a stand-in."""
    schema = view["input_schema"]
    if here is not None and json.loads(json.dumps(schema_of(here.Params))) == schema:
        return here

    def run(self: Processor, params: Any, ctx: Context) -> list[OutputDraft]:
        del self, params, ctx
        raise NotImplementedError

    described = {"name": view["name"], "__doc__": view["description"], "Params": model_of(schema), "run": run}
    kind: type[Processor] = type("Offered", (Processor,), described)
    return kind()


def model_of(schema: Mapping[str, Any]) -> type[Parameters]:
    """A model with a field for each property of a JSON schema that a flag can name."""
    required = schema.get("required", ())
    fields: dict[str, Any] = {}
    for name, about in schema.get("properties", {}).items():
        if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
            continue
        default = ... if name in required else about.get("default")
        fields[name] = (_annotation(about, schema), Field(default, description=about.get("description")))
    config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a field may be called `copy` or `json`
        base: type[Parameters] = type("Base", (Parameters,), {"model_config": config, "__module__": __name__})
        return create_model("Offered", __base__=base, **fields)


def _annotation(about: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """The type that a schema says; Any where only JSON can say the value."""
    about = shapes.resolved(about, root)
    if "enum" in about or "const" in about:
        return Literal[tuple(about.get("enum") or [about["const"]])]
    if "anyOf" in about:
        options = [one for one in about["anyOf"] if one.get("type") != "null"]
        types = [_annotation(one, root) for one in options]
        inner = joined_choices(types) or (Any if Any in types else reduce(or_, types))
        return inner | None if inner is not Any and len(options) < len(about["anyOf"]) else inner
    if about.get("type") == "array":
        inner = _annotation(about.get("items", {}), root)
        several: Any = list
        return Any if inner is Any else several[inner]
    plain = _SCALARS.get(about.get("type", ""))
    if plain is None:
        return Any
    marks: list[Any] = [MediaRef(FORMATS[about["format"]])] if about.get("format") in FORMATS else []
    bounds = {ours: about[theirs] for theirs, ours in _BOUNDS.items() if theirs in about}
    return Annotated[(plain, *marks, Field(**bounds))]
