"""Processor `cog`: runs a model that a Cog server serves (Cog packages machine learning models; replicate/cog)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from vidqueue.job import Device, OutputDraft
from vidqueue.processors.base import Context, MediaField, Parameters, Processor, Resource, WaitingError
from vidqueue.processors.configured import entry
from vidqueue.processors.media import Path
from vidqueue.processors.peers import PeerServer, why_unavailable
from vidqueue.processors.remote.cog_health import condition_of, readable
from vidqueue.processors.remote.cog_server import cancel_left
from vidqueue.processors.remote.cog_settings import CogSettings, Endpoint, document_of, schema_in
from vidqueue.processors.remote.kept_ids import KeptId, kept_id
from vidqueue.processors.remote.schema_check import files_in, refuse_faults

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
        """Return the configured memory of the endpoint; 0 for an external server, whose memory is always in use."""
        endpoint = _endpoint(self.config, params.endpoint)
        return 0 if endpoint.url else endpoint.vram_mb

    def lane_for(self, params: Any) -> str | None:
        """The lane that the endpoint is configured for."""
        return _endpoint(self.config, params.endpoint).lane

    def resource_for(self, params: Any) -> Resource | None:
        """The endpoint, which takes a number of jobs at a time."""
        endpoint = _endpoint(self.config, params.endpoint)
        if endpoint.url is None:  # each lane has its own
            return None
        return Resource(f"cog:{endpoint.url}", endpoint.concurrency, f"the endpoint {params.endpoint}")

    def peers(self) -> list[PeerServer]:
        """Return the server of each endpoint."""
        return [_server(name, endpoint) for name, endpoint in self.config.endpoints.items()]

    def peers_for(self, params: Any) -> list[PeerServer]:
        """Return the server of the job's endpoint."""
        return [_server(params.endpoint, _endpoint(self.config, params.endpoint))]

    def unavailable(self) -> str:
        """Return why no configured endpoint can be used; empty if one can."""
        return why_unavailable(self.peers(), "no endpoint is configured under [cog.endpoints]")

    def check(self, params: Any) -> None:
        """Check the model's input against its schema, as far as that can be known.

        Raises:
            VidqueueError: `unknown_model`, `invalid_params`.
        """
        refuse_faults(self._input_schema(params), params.input, INPUT, f"The model of {params.endpoint}")

    def media(self, params: Any) -> Iterable[MediaField]:
        """The files in the model's input, where its schema says so; without a schema, references to our own files."""
        return files_in(self._input_schema(params), params.input, INPUT)

    def run(self, params: Any, ctx: Context) -> list[OutputDraft]:
        """Have the server do the work, and fetch what it made."""
        from vidqueue.processors.remote.cog_run import CogRun

        endpoint = _endpoint(self.config, params.endpoint)
        url = endpoint.url or ctx.peers.get(_server(params.endpoint, endpoint).name)
        if url is None:
            raise WaitingError("peer_elsewhere", f"The lane {ctx.lane} may not run the server of {params.endpoint}.")
        kept = kept_id(ctx, self.name, url)
        kept.remember(ctx.attempt, {})
        drafts = CogRun(params.endpoint, endpoint, url, document_of(endpoint, url), ctx).run(params.input)
        kept.forget()
        return drafts

    def end_left(self, kept: KeptId) -> bool:
        """Cancel the prediction; servers of 0.17 or newer have done so when the attempt ended."""
        known = any(one.url == kept.server for one in self.config.endpoints.values())
        return not known or cancel_left(kept.server, kept.remote)

    def _input_schema(self, params: Any) -> Mapping[str, Any] | None:
        document = document_of(_endpoint(self.config, params.endpoint))
        return schema_in(document, "Input") if document is not None else None


def _server(name: str, endpoint: Endpoint) -> PeerServer:
    urls = () if endpoint.url is None else (endpoint.url,)
    return PeerServer(
        f"cog:{name}", endpoint.device, endpoint.lane, urls, endpoint.launch, partial(condition_of, endpoint), readable
    )


def _endpoint(settings: CogSettings, name: str) -> Endpoint:
    return entry(settings.endpoints, name, kind="Cog endpoint", section="cog.endpoints", field="endpoint")
