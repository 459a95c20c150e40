"""The models that the Replicate door offers: every processor, and every endpoint of the processor `cog`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.processors import registry
from vidqueue.processors.media import schema_of
from vidqueue.processors.remote.cog_settings import document_of

OURS, COG = "vidqueue", "cog"


@dataclass(frozen=True, slots=True)
class Model:
    """A model: a processor of ours, or one that a Cog server serves."""

    owner: str
    name: str
    description: str

    @property
    def full_name(self) -> str:
        """`owner/name`."""
        return f"{self.owner}/{self.name}"

    @property
    def processor(self) -> str:
        """The processor of its jobs."""
        return COG if self.owner == COG else self.name

    def params(self, given: dict[str, Any]) -> dict[str, Any]:
        """The parameters of a job with this input."""
        return {"endpoint": self.name, "input": given} if self.owner == COG else given

    def schema(self) -> dict[str, Any]:
        """The OpenAPI document of the model. It may block, where a Cog server has to be asked."""
        if self.owner == COG:
            endpoints = registry.find(COG).config.endpoints
            return dict(document_of(endpoints[self.name]) or _document({"type": "object"}, {}))
        return _document(schema_of(registry.find(self.name).Params), {"type": "string", "format": "uri"})

    def version(self) -> str:
        """The id of its version: the hash of what it takes and returns."""
        return hashlib.sha256(json.dumps(self.schema(), sort_keys=True).encode()).hexdigest()


def models() -> Iterator[Model]:
    """Every model, by name."""
    for name, processor in registry.catalogue().items():
        if name != COG:
            yield Model(OURS, name, _summary(processor))
    if COG in registry.catalogue():
        for endpoint in sorted(registry.find(COG).config.endpoints):
            yield Model(COG, endpoint, f"The model of the Cog endpoint {endpoint}.")


def find(owner: str, name: str) -> Model:
    """The model of this name.

    Raises:
        VidqueueError: `not_found`.
    """
    for model in models():
        if (model.owner, model.name) == (owner, name):
            return model
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
    raise VidqueueError("unknown_model", f"There is no model or version {text[:200]!r}.")


def model_of(processor: str, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name of the model that a job runs, and what its input is."""
    if processor == COG:
        inner = given.get("input")
        return f"{COG}/{given.get('endpoint')}", inner if isinstance(inner, dict) else {}
    return f"{OURS}/{processor}", dict(given)


def _document(given: dict[str, Any], returned: dict[str, Any]) -> dict[str, Any]:
    return {
        "openapi": "3.0.2",
        "info": {"title": "vidqueue", "version": "1"},
        "components": {"schemas": {"Input": given, "Output": returned}},
    }


def _summary(processor: Any) -> str:
    return (type(processor).__doc__ or "").strip().partition("\n")[0]
