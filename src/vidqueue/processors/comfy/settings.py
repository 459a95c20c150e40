"""The section `comfyui` of the configuration: servers, and the folder of workflows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from vidqueue.errors import VidqueueError
from vidqueue.ops.addresses import parse_url
from vidqueue.settings.entries import Section

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class ServerSettings(Section):
    """One ComfyUI server, or several that are alike."""

    url: str | list[str] = Field(description="Address of the server; a list of addresses for several that are alike.")
    device: Literal["gpu", "cpu"] = Field("gpu", description="Kind of lane that its jobs need.")
    lane: str | None = Field(None, description="The only lane that uses it, such as gpu0: the one of its card.")

    @field_validator("url")
    @classmethod
    def _readable(cls, url: str | list[str]) -> str | list[str]:
        for one in [url] if isinstance(url, str) else url:
            try:
                parse_url(one)
            except VidqueueError as error:
                raise ValueError(error.message) from None
        if not url:
            raise ValueError("the list has no address")
        return url

    @property
    def urls(self) -> list[str]:
        """The addresses."""
        return [self.url] if isinstance(self.url, str) else self.url


class ComfyuiSettings(Section):
    """Servers of ComfyUI, and workflows for them."""

    workflows: Path | None = Field(
        None, description="Folder of workflows: <name>.json (a graph in API format) with <name>.toml (its parameters)."
    )
    allow_graphs: bool = Field(True, description="Whether jobs may bring a graph of their own.")
    servers: dict[Name, ServerSettings] = Field(
        {},
        description="Servers by name: [comfyui.servers.main] with `url`, and perhaps `device` (gpu or cpu) and `lane`.",
    )

    @field_validator("workflows")
    @classmethod
    def _absolute(cls, folder: Path | None) -> Path | None:
        if folder is not None and not folder.is_absolute():
            raise ValueError(f"{folder} is not an absolute path")
        return folder
