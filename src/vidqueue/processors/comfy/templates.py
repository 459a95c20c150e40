"""Workflows: a graph with typed parameters, in two files, `<name>.json` and `<name>.toml`; the second may be missing.

They lie in the operator's folder, which goes first, and in the package. They are read when a job is submitted and when
it runs, so that a change needs no restart.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vidqueue.errors import VidqueueError
from vidqueue.processors.comfy.graph import Graph, check_graph, place_of
from vidqueue.processors.comfy.settings import ComfyuiSettings

Place = tuple[str, str]

SHIPPED = Path(__file__).with_name("workflows")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_KINDS = {"text": "string", "integer": "integer", "number": "number", "boolean": "boolean", "seed": "integer"}


class Parameter(BaseModel):
    """A parameter of a workflow, as its file describes it. Without a default it is required."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sets: str | list[str]
    type: Literal["text", "integer", "number", "boolean", "choice", "image", "audio", "video", "media", "seed"] = "text"
    default: Any = None
    optional: bool = False
    minimum: float | None = None
    maximum: float | None = None
    multiple_of: float | None = Field(None, gt=0)
    choices: list[Any] = []
    description: str = ""

    @property
    def required(self) -> bool:
        """True if a job must give it."""
        return self.default is None and not self.optional and self.type != "seed"

    @property
    def is_media(self) -> bool:
        """True if it is a reference to media."""
        return self.type in ("image", "audio", "video", "media")

    def schema_of(self) -> dict[str, Any]:
        """The parameter as JSON schema."""
        if self.is_media:
            shape: dict[str, Any] = {"type": "string", "format": f"media-{self.type.replace('media', 'any')}"}
        elif self.type == "choice":
            shape = {"enum": self.choices}
        else:
            shape = {"type": _KINDS[self.type]}
        bounds = {"minimum": self.minimum, "maximum": self.maximum, "multipleOf": self.multiple_of}
        shape |= {name: value for name, value in bounds.items() if value is not None}
        shape |= {"description": self.description} if self.description else {}
        return shape | ({"default": self.default} if self.default is not None else {})

    def fault(self, value: Any) -> str:
        """What is wrong with a value; empty if nothing is."""
        if self.type == "choice":
            return "" if value in self.choices else f"{value!r} is not among: {', '.join(map(str, self.choices))}"
        if self.type == "boolean":
            return "" if isinstance(value, bool) else "must be true or false"
        if self.type in ("integer", "number", "seed"):
            return self._fault_of_number(value)
        return "" if isinstance(value, str) else "must be a text"

    def _fault_of_number(self, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int if self.type != "number" else int | float):
            return "must be a number" if self.type == "number" else "must be a whole number"
        if self.minimum is not None and value < self.minimum:
            return f"must be at least {self.minimum:g}"
        if self.maximum is not None and value > self.maximum:
            return f"must be at most {self.maximum:g}"
        if self.multiple_of is not None and value % self.multiple_of:
            return f"must be a multiple of {self.multiple_of:g}"
        return ""


class Description(BaseModel):
    """The TOML file of a workflow."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""
    parameters: dict[str, Parameter] = {}


@dataclass(frozen=True, slots=True)
class Filled:
    """A graph with values: what to set, what to upload, where each came from, and the seeds that were drawn."""

    graph: Graph
    values: dict[Place, Any] = field(default_factory=dict)
    media: dict[Place, str] = field(default_factory=dict)
    pointers: dict[Place, str] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workflow:
    """A graph, and the parameters that change it."""

    name: str
    graph: Graph
    about: Description

    def schema_of(self) -> dict[str, Any]:
        """The parameters as a JSON schema, which also says where media stand."""
        parameters = self.about.parameters
        return {
            "type": "object",
            "description": self.about.description,
            "properties": {name: one.schema_of() for name, one in parameters.items()},
            "required": [name for name, one in parameters.items() if one.required],
            "additionalProperties": False,
        }

    def faults(self, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """What is wrong with these values: the name and the words of each fault."""
        parameters = self.about.parameters
        for name in values.keys() - parameters.keys():
            yield name, f"{self.name} has no such parameter; it has: {', '.join(parameters) or 'none'}"
        for name, one in parameters.items():
            value = values.get(name)
            if value is None:
                if one.required:
                    yield name, "is required"
            elif fault := one.fault(value):
                yield name, fault

    def filled(self, values: Mapping[str, Any], *, seed: int = 0) -> Filled:
        """The graph with these values, which have no fault; `seed` stands for seeds that are not among them."""
        filled = Filled(self.graph)
        for name, one in self.about.parameters.items():
            value = values.get(name, one.default)
            if value is None and one.type == "seed":
                value = filled.seeds[name] = seed
            if value is None:
                continue
            for place in _places(self.graph, one):
                filled.pointers[place] = f"/input/inputs/{name}"
                if one.is_media:
                    filled.media[place] = name
                else:
                    filled.values[place] = value
        return filled


def known(config: ComfyuiSettings) -> list[str]:
    """The names of all workflows."""
    folders = [folder for folder in (config.workflows, SHIPPED) if folder is not None]
    return sorted({path.stem for folder in folders for path in folder.glob("*.json")})


def find(name: str, config: ComfyuiSettings) -> Workflow:
    """Read a workflow.

    Raises:
        VidqueueError: `unknown_model`, there is none of this name, or its files are at fault.
    """
    for folder in (config.workflows, SHIPPED):
        path = folder / f"{name}.json" if folder is not None and _NAME.fullmatch(name) else None
        if path is not None and path.is_file():
            return _read(name, path)
    names = ", ".join(known(config)) or "none"
    message = f"There is no workflow {name[:100]!r}. Known: {names}."
    raise VidqueueError("unknown_model", message, errors=[{"pointer": "/input/workflow", "detail": message}])


def _read(name: str, path: Path) -> Workflow:
    try:
        described = path.with_suffix(".toml")
        about = Description.model_validate(tomllib.loads(described.read_text("utf-8")) if described.exists() else {})
        graph = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(graph, dict):
            raise ValueError(f"{name}.json is not an object")
        check_graph(graph)
        for parameter, one in about.parameters.items():
            if not _places(graph, one):
                raise ValueError(f"parameter {parameter} sets {one.sets}, which {name}.json does not have")
    except (OSError, ValueError, ValidationError, VidqueueError) as error:
        message = f"The workflow {name!r} cannot be used: {str(error)[:1000]}"
        raise VidqueueError("unknown_model", message, hint=f"Correct {path} or the TOML file beside it.") from None
    return Workflow(name, graph, about)


def _places(graph: Mapping[str, Any], one: Parameter) -> list[Place]:
    """The inputs of nodes that a parameter sets; none if one of them is not in the graph."""
    found = [place_of(graph, key) for key in ([one.sets] if isinstance(one.sets, str) else one.sets)]
    return [] if None in found else [place for place in found if place is not None]
