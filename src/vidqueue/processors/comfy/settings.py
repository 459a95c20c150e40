"""The section `comfyui` of the configuration: servers, and the folder of workflows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from vidqueue.processors.configured import EntryName, readable_url
from vidqueue.processors.peers import ManagedSettings
from vidqueue.settings.entries import AbsolutePath, Section


class ServerSettings(ManagedSettings):
    """One ComfyUI server or several equal ones: external ones, or one that vidqueue starts for each lane."""

    url: str | list[str] | None = Field(
        None, description="Address of an external server, or a list of addresses of several equal ones."
    )
    device: Literal["gpu", "cpu"] = Field("gpu", description="Kind of lane that its jobs need.")
    lane: str | None = Field(None, description="The only lane that uses it, such as gpu0: the one of its card.")

    @field_validator("url")
    @classmethod
    def _readable(cls, url: str | list[str] | None) -> str | list[str] | None:
        for one in [url] if isinstance(url, str) else url or ():
            readable_url(one)
        if url == []:
            raise ValueError("the list has no address")
        return url

    @property
    def urls(self) -> list[str]:
        """Return the addresses of external servers."""
        return [self.url] if isinstance(self.url, str) else self.url or []


class ComfyuiSettings(Section):
    """Servers of ComfyUI, and workflows for them."""

    workflows: AbsolutePath | None = Field(
        None, description="Folder of workflows: <name>.json (a graph in API format) with <name>.toml (its parameters)."
    )
    allow_graphs: bool = Field(True, description="Whether jobs may bring a graph of their own.")
    servers: dict[EntryName, ServerSettings] = Field(
        {},
        description="Servers by name: [comfyui.servers.main] with `url` or `command`, and optionally `device` (gpu or "
        "cpu) and `lane`.",
    )
