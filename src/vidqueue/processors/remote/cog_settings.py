"""The section `cog` of the configuration, and the schemas of the endpoints that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, IPvAnyAddress, model_validator

from vidqueue.ops.addresses import parse_url
from vidqueue.processors.configured import EntryName, Url
from vidqueue.processors.media import FOREIGN_FORMATS, media_places
from vidqueue.processors.peers import UPLOAD_PORT, Launch, ManagedSettings
from vidqueue.processors.remote.documents import Documents
from vidqueue.processors.remote.peer import Peer, PeerError
from vidqueue.settings.entries import Section

ASK_S = 3.0
# The module that is Cog's server, and its option for uploads.
_SERVER = "cog.server.http"
_UPLOADS = "--upload-url"


class Endpoint(ManagedSettings):
    """One Cog server: an external one, or one that vidqueue starts for each lane that needs it."""

    url: Url | None = Field(None, description="Address of an external server, as in `http://127.0.0.1:5000`.")
    schema_file: Path | None = Field(
        None,
        description="OpenAPI document of the model; `.cog/openapi_schema.json` in `directory` if that is there, else "
        "the server is asked.",
    )
    device: Literal["cpu", "gpu"] = Field("gpu", description="Kind of lane that its jobs need.")
    lane: str | None = Field(None, max_length=64, description="Only this lane: the one of the card that it runs on.")
    concurrency: int = Field(1, ge=1, le=1000, description="Most jobs on an external server at the same time.")
    vram_mb: int = Field(0, ge=0, description="GPU memory that a server with a command needs, in MiB.")
    busy_timeout_s: float = Field(
        600, ge=0, description="Time that a job waits on its lane for a busy server before it is put back, in seconds."
    )
    callback_host: IPvAnyAddress | None = Field(
        None,
        description="Address of this machine as the server sees it, from which it fetches files and where it sends its "
        "progress to, such as 172.17.0.1 for a server in a container; found out if not given.",
    )
    file_limit_mb: int = Field(4096, ge=1, description="Largest file taken from the server, in MiB.")
    upload_port: int | None = Field(
        None,
        ge=1,
        le=65_535,
        description="Port of this machine where files are taken that an external server uploads, if it was started "
        "with `--upload-url http://<this machine>:<port>/`.",
    )

    @model_validator(mode="after")
    def _one_job_each(self) -> Self:
        if self.command and self.concurrency != 1:
            raise ValueError("concurrency applies only to a server with a url; a command runs once for each lane")
        if self.upload_port is not None and (self.command or self.concurrency != 1):
            raise ValueError("upload_port applies only to a server with a url and a concurrency of 1")
        return self

    @property
    def launch(self) -> Launch | None:
        """How to start it. Cog's own server is told to upload files, which it would return inside its answer."""
        launch = super().launch
        if launch is None or _SERVER not in launch.command or any(word.startswith(_UPLOADS) for word in launch.command):
            return launch
        return replace(launch, command=(*launch.command, _UPLOADS, f"http://127.0.0.1:{UPLOAD_PORT}/"))

    def uploads_to(self, url: str) -> int | None:
        """The port where the server at this address uploads files to; None if it does not."""
        if self.url is not None:
            return self.upload_port
        told = self.launch is not None and any(UPLOAD_PORT in word for word in self.launch.command)
        return parse_url(url).port + 1 if told else None

    @property
    def document_file(self) -> Path | None:
        """Where the OpenAPI document may lie."""
        if self.schema_file is None and self.directory is not None:
            return self.directory / ".cog/openapi_schema.json"
        return self.schema_file


class CogSettings(Section):
    """Cog servers that jobs of the processor `cog` run on."""

    endpoints: dict[EntryName, Endpoint] = Field({}, description="The servers by name.")


_documents = Documents(known_for_s=60, unknown_for_s=5)


def document_of(endpoint: Endpoint, url: str | None = None) -> Mapping[str, Any] | None:
    """The OpenAPI document of an endpoint's model; None if neither a file nor the server has it. It may block.

    `url` is where a managed server runs. What one has told is kept, because there may be none to ask later.
    """
    key = (endpoint.url, *endpoint.command, endpoint.document_file)
    return _documents.get(key, lambda: _read(endpoint, endpoint.url or url), keeps_old=bool(endpoint.command))


def _read(endpoint: Endpoint, url: str | None) -> Mapping[str, Any] | None:
    document: Any = None
    try:
        if endpoint.document_file is not None and (endpoint.schema_file or endpoint.document_file.is_file()):
            document = json.loads(endpoint.document_file.read_bytes())
        elif url is not None:
            document = Peer(url).ask("GET", "/openapi.json", idle_s=ASK_S)[1]
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


def returns_files(document: Mapping[str, Any] | None) -> bool:
    """True if the model may return files, as far as its document says."""
    schema = schema_in(document, "Output") if document is not None else None
    return schema is None or bool(media_places(schema, FOREIGN_FORMATS))
