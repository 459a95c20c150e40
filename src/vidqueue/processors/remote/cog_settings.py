"""The section `cog` of the configuration, and the schemas of the endpoints that it names."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, IPvAnyAddress, field_validator

from vidqueue.errors import VidqueueError
from vidqueue.ops.addresses import parse_url
from vidqueue.processors.remote.peer import Peer, PeerError
from vidqueue.settings.entries import Section

ASK_S = 3.0
# How long an answer is used: a server that was started anew may have another model, and one that is down may come up.
KNOWN_FOR_S, UNKNOWN_FOR_S = 60.0, 5.0

EndpointName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class Endpoint(Section):
    """One Cog server."""

    url: str = Field(description="Address of the server, as in `http://127.0.0.1:5000`.")
    schema_file: Path | None = Field(
        None,
        description="OpenAPI document of the model (`.cog/openapi_schema.json`); else the server is asked.",
    )
    device: Literal["cpu", "gpu"] = Field("gpu", description="Kind of lane that its jobs need.")
    lane: str | None = Field(None, max_length=64, description="Only this lane: the one of the card that it runs on.")
    concurrency: int = Field(1, ge=1, le=1000, description="Jobs that may be on the server at a time.")
    vram_mb: int = Field(0, ge=0, description="GPU memory that a job needs on its lane, in MiB.")
    busy_timeout_s: float = Field(
        600, ge=0, description="Time that a job waits on its lane for a busy server before it is put back, in seconds."
    )
    callback_host: IPvAnyAddress | None = Field(
        None,
        description="Address of this machine as the server sees it, from which it fetches files and where it sends its "
        "progress to, such as 172.17.0.1 for a server in a container; found out if not given.",
    )
    file_limit_mb: int = Field(4096, ge=1, description="Largest file taken from the server, in MiB.")

    @field_validator("url")
    @classmethod
    def _is_a_url(cls, url: str) -> str:
        try:
            parse_url(url)
        except VidqueueError as error:
            raise ValueError(error.message) from None
        return url


class CogSettings(Section):
    """Cog servers that jobs of the processor `cog` run on."""

    endpoints: dict[EndpointName, Endpoint] = Field({}, description="The servers by name.")


@dataclass(frozen=True, slots=True)
class _Known:
    schema: Mapping[str, Any] | None
    until: float


_known: dict[tuple[str, Path | None], _Known] = {}
_lock = threading.Lock()


def document_of(endpoint: Endpoint) -> Mapping[str, Any] | None:
    """The OpenAPI document of an endpoint's model; None if neither a file nor the server has it. It may block."""
    key = (endpoint.url, endpoint.schema_file)
    known = _known.get(key)
    if known is None or known.until < time.monotonic():
        # One question at a time: a server that does not answer must not have many of them.
        with _lock:
            known = _known.get(key)
            if known is None or known.until < time.monotonic():
                document = _read(endpoint)
                lasts_s = UNKNOWN_FOR_S if document is None else KNOWN_FOR_S
                _known[key] = known = _Known(document, time.monotonic() + lasts_s)
    return known.schema


def _read(endpoint: Endpoint) -> Mapping[str, Any] | None:
    try:
        if endpoint.schema_file is not None:
            document = json.loads(endpoint.schema_file.read_bytes())
        else:
            document = Peer(endpoint.url).ask("GET", "/openapi.json", idle_s=ASK_S)[1]
    except (OSError, ValueError, PeerError):
        return None
    return document if isinstance(document, Mapping) and _schemas(document) else None


def _schemas(document: Mapping[str, Any]) -> Mapping[str, Any]:
    components = document.get("components")
    found = components.get("schemas") if isinstance(components, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def schema_in(document: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The schema `Input` or `Output` of a document, together with what its references lead to."""
    found = _schemas(document).get(name)
    return {**document, **found} if isinstance(found, Mapping) else None
