"""Processor `cog`: runs a model that a Cog server serves (Cog packages machine learning models; replicate/cog)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from vidqueue.errors import VidqueueError
from vidqueue.job import Device, OutputDraft
from vidqueue.processors.base import Context, MediaField, Parameters, Processor, Resource
from vidqueue.processors.media import FOREIGN_FORMATS, Path, json_pointer, media_in
from vidqueue.processors.remote.cog_settings import CogSettings, Endpoint, document_of, schema_in
from vidqueue.processors.remote.schema_check import faults

FAULTS_TOLD = 50
INPUT: Path = ("input",)


class CogParams(Parameters):
    """Parameters of the processor `cog`."""

    endpoint: str = Field(max_length=32, description="Name of a server in `cog.endpoints`.")
    input: dict[str, Any] = Field(
        default_factory=dict,
        description="Input of the model, checked against its schema. A file may be any media reference.",
    )


class Cog(Processor):
    """Run a machine learning model that a Cog server serves."""

    name = "cog"
    device = "gpu"
    settings = "cog"
    Settings: ClassVar[type[BaseModel]] = CogSettings
    Params = CogParams
    asks_peer = True
    # A model may work for long without a word. The server is asked whether it lives.
    stall_timeout_s = 1800
    # The server is told first, and the model may end in its own way.
    cancel_grace_s = 10

    def device_for(self, params: Any) -> Device:
        """The kind of lane that the endpoint is configured for."""
        return _endpoint(self.config, params.endpoint).device

    def vram_mb(self, params: Any) -> int:
        """What the endpoint is configured for."""
        return _endpoint(self.config, params.endpoint).vram_mb

    def lane_for(self, params: Any) -> str | None:
        """The lane that the endpoint is configured for."""
        return _endpoint(self.config, params.endpoint).lane

    def resource_for(self, params: Any) -> Resource | None:
        """The endpoint, which takes a number of jobs at a time."""
        endpoint = _endpoint(self.config, params.endpoint)
        return Resource(f"cog:{endpoint.url}", endpoint.concurrency, f"the endpoint {params.endpoint}")

    def unavailable(self) -> str:
        """An endpoint is needed."""
        return "" if self.config.endpoints else "no endpoint is configured under [cog.endpoints]"

    def check(self, params: Any) -> None:
        """Check the model's input against its schema, as far as that can be known.

        Raises:
            VidqueueError: `unknown_model`, `invalid_params`.
        """
        document = document_of(_endpoint(self.config, params.endpoint))
        schema = schema_in(document, "Input") if document is not None else None
        if schema is None:
            return
        found = [
            {"pointer": "/input" + json_pointer(at), "detail": wrong}
            for at, wrong in islice(faults(schema, schema, params.input, at=INPUT), FAULTS_TOLD)
        ]
        if found:
            told = f"{found[0]['pointer']}: {found[0]['detail']}"
            message = f"The model of {params.endpoint} does not accept this input. {told}"
            raise VidqueueError("invalid_params", message, errors=found)

    def media(self, params: Any) -> Iterable[MediaField]:
        """The files in the model's input, where its schema says so; without a schema, references to our own files."""
        document = document_of(_endpoint(self.config, params.endpoint))
        schema = schema_in(document, "Input") if document is not None else None
        if schema is None:
            return _own_files(params.input, INPUT)
        return media_in(schema, params.input, at=INPUT, formats=FOREIGN_FORMATS)

    def run(self, params: Any, ctx: Context) -> list[OutputDraft]:
        """Have the server do the work, and fetch what it made."""
        from vidqueue.processors.remote.cog_run import CogRun

        endpoint = _endpoint(self.config, params.endpoint)
        return CogRun(params.endpoint, endpoint, document_of(endpoint), ctx).run(params.input)


def _endpoint(settings: CogSettings, name: str) -> Endpoint:
    """The endpoint of this name.

    Raises:
        VidqueueError: `unknown_model`.
    """
    endpoint = settings.endpoints.get(name)
    if endpoint is None:
        known = ", ".join(sorted(settings.endpoints)) or "none; an operator adds some under [cog.endpoints]"
        message = f"There is no Cog endpoint {name!r}. Known: {known}."
        errors = [{"pointer": "/input/endpoint", "detail": message}]
        raise VidqueueError("unknown_model", message, errors=errors)
    return endpoint


def _own_files(value: Any, at: Path) -> Iterator[MediaField]:
    if isinstance(value, str) and value.startswith(("vq:files/", "vq:jobs/")):
        yield MediaField(at, value, "any")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _own_files(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _own_files(inner, (*at, index))
