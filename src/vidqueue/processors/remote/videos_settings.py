"""The section `videos` of the configuration: settings of the compatible API, and servers of the processor `videos`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from vidqueue.processors.configured import EntryName, Url
from vidqueue.processors.peers import ManagedSettings
from vidqueue.settings.compat import VideosSettings


class VideoServer(ManagedSettings):
    """One server of the OpenAI-shaped video API: an external one, or one that vidqueue starts for each lane."""

    url: Url | None = Field(
        None, description="Base address of an external server, with the version: `http://127.0.0.1:8000/v1`."
    )
    path: str = Field(
        "/v1", pattern=r"^(/[A-Za-z0-9_.~-]+)*$", description="Base path of the API on a server with a command."
    )
    model: str = Field("", max_length=200, description="Model of jobs that name none; else the server's own default.")
    key_file: Path | None = Field(None, description="File with the API key of the server.")
    device: Literal["cpu", "gpu"] = Field("cpu", description="Kind of lane that its jobs need.")
    lane: str | None = Field(
        None, max_length=64, description="Run its jobs only on this lane, the one of the GPU that it uses."
    )
    concurrency: int = Field(1, ge=1, le=1000, description="Most jobs on an external server at the same time.")
    vram_mb: int = Field(0, ge=0, description="GPU memory that a server with a command needs, in MiB.")
    away_timeout_s: float = Field(
        120, ge=0, description="Time without an answer after which a running job is interrupted, in seconds."
    )
    file_limit_mb: int = Field(4096, ge=1, description="Largest file taken from the server, in MiB.")

    @model_validator(mode="after")
    def _one_job_each(self) -> Self:
        if self.command and self.concurrency != 1:
            raise ValueError("concurrency is for a server with a url; a command runs once for each lane")
        return self


class VideoServers(VideosSettings):
    """The API that is compatible with OpenAI's video API, and servers with such an API."""

    servers: dict[EntryName, VideoServer] = Field({}, description="Servers of the processor `videos`, by name.")
