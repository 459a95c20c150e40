"""The models of the compatible APIs: every processor, and what some of them run by name (Cog endpoints, workflows)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.processors import registry
from vidqueue.processors.comfy import templates
from vidqueue.processors.media import schema_of
from vidqueue.processors.remote.cog_settings import document_of

OURS, COG, COMFYUI, GENERATE = "vidqueue", "cog", "comfyui", "generate"
# Processors whose output `result` is the JSON value that the model returned.
RETURNING = (COG, "replicate")

Document = dict[str, Any]

# One file, or a list of several.
_FILES: Document = {"type": "string", "format": "uri", "items": {"type": "string", "format": "uri"}}


@dataclass(frozen=True, slots=True)
class Family:
    """A processor that runs many models.

    Attributes:
        parameter: its parameter that names the model.
        within: its parameter that has the input of the model; empty if its other parameters are that.
        names: the models of a configuration.
        document: the OpenAPI document of a model, as far as it can be known.
    """

    parameter: str
    within: str
    names: Callable[[Any], Iterable[str]]
    document: Callable[[Any, str], Document | None]


def _cog(config: Any, name: str) -> Document | None:
    document = document_of(config.endpoints[name])
    return None if document is None else dict(document)


def _workflow(config: Any, name: str) -> Document:
    return _document(templates.find(name, config).schema_of(), {})


def _pipeline(config: Any, name: str) -> Document:
    """What `generate` takes beside the name of the pipeline."""
    del config, name
    schema = schema_of(registry.find(GENERATE).Params)
    properties = {key: one for key, one in schema["properties"].items() if key != "model"}
    required = [key for key in schema.get("required", ()) if key != "model"]
    return _document({**schema, "properties": properties, "required": required}, {"type": "string", "format": "uri"})


FAMILIES = {
    COG: Family("endpoint", "input", lambda config: config.endpoints, _cog),
    COMFYUI: Family("workflow", "inputs", templates.known, _workflow),
    GENERATE: Family("model", "", lambda config: config.models, _pipeline),
}


@dataclass(frozen=True, slots=True)
class Model:
    """A model: a processor, or what a processor of a family runs by this name."""

    owner: str
    name: str
    description: str

    @property
    def full_name(self) -> str:
        """`owner/name`."""
        return f"{self.owner}/{self.name}"

    @property
    def family(self) -> Family | None:
        """The family of the model; None for a processor."""
        return None if self.owner == OURS else FAMILIES[self.owner]

    @property
    def processor(self) -> str:
        """The processor of its jobs."""
        return self.name if self.owner == OURS else self.owner

    def params(self, given: dict[str, Any]) -> dict[str, Any]:
        """The parameters of a job with this input."""
        family = self.family
        if family is None:
            return given
        return {family.parameter: self.name} | ({family.within: given} if family.within else given)

    def schema(self) -> Document:
        """The OpenAPI document of the model. It may block, where a file is read or a server has to be asked."""
        processor = registry.find(self.processor)
        if self.family is not None:
            return self.family.document(processor.config, self.name) or _document({"type": "object"}, {})
        return _document(schema_of(processor.Params), _FILES)

    def input_schema(self) -> Document:
        """The JSON schema of its input; it may block."""
        found = self.schema().get("components", {}).get("schemas", {}).get("Input")
        return found if isinstance(found, dict) else {}

    def version(self) -> str:
        """The id of its version: the hash of what it takes and returns."""
        return hashlib.sha256(json.dumps(self.schema(), sort_keys=True).encode()).hexdigest()


def models() -> Iterator[Model]:
    """Every model, by name. It may block, because workflows are files."""
    catalogue = registry.catalogue()
    for name, processor in catalogue.items():
        if name != COG:
            yield Model(OURS, name, _summary(processor))
    for owner, family in FAMILIES.items():
        for name in sorted(family.names(catalogue[owner].config)) if owner in catalogue else ():
            yield _of_family(owner, name)


def find(owner: str, name: str) -> Model:
    """The model of this name; it may block.

    Raises:
        VidqueueError: `not_found`.
    """
    catalogue = registry.catalogue()
    if owner == OURS and name in catalogue and name != COG:
        return Model(OURS, name, _summary(catalogue[name]))
    if owner in FAMILIES and owner in catalogue and name in FAMILIES[owner].names(catalogue[owner].config):
        return _of_family(owner, name)
    raise VidqueueError("not_found", f"There is no model {owner}/{name}.", hint="GET /v1/models lists the models.")


def find_version(text: str) -> Model:
    """The model that a `version` names: `owner/name`, `owner/name:id`, or the id alone. It may block.

    Raises:
        VidqueueError: `unknown_model`.
    """
    named, _, version = text.rpartition(":")
    for model in models():
        if text == model.full_name or (named == model.full_name and version == model.version()):
            return model
        if not named and "/" not in text and text == model.version():
            return model
    message = f"There is no model or version {text[:200]!r}."
    raise VidqueueError("unknown_model", message, hint="GET /v1/models lists the models.")


def model_of(processor: str, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name of the model that a job runs, and what its input is."""
    family = FAMILIES.get(processor)
    if family is None or not isinstance(given.get(family.parameter), str):
        return f"{OURS}/{processor}", dict(given)
    others = {key: value for key, value in given.items() if key != family.parameter}
    inner = given.get(family.within) if family.within else others
    return f"{processor}/{given[family.parameter]}", inner if isinstance(inner, dict) else {}


def _document(given: dict[str, Any], returned: dict[str, Any]) -> Document:
    return {
        "openapi": "3.0.2",
        "info": {"title": "vidqueue", "version": "1"},
        "components": {"schemas": {"Input": given, "Output": returned}},
    }


def _of_family(owner: str, name: str) -> Model:
    return Model(owner, name, f"{name}, run by the processor {owner}.")


def _summary(processor: Any) -> str:
    return (type(processor).__doc__ or "").strip().partition("\n")[0]
