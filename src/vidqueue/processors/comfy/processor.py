"""The base class of processors on ComfyUI: which servers and lanes a job may use, by its parameter `server`."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel

from vidqueue.job import Device
from vidqueue.processors.base import Processor, Resource
from vidqueue.processors.comfy.service import cancel_left, device_of, lane_of, peers_of, resource_of
from vidqueue.processors.comfy.settings import ComfyuiSettings
from vidqueue.processors.peers import PeerServer, why_unavailable
from vidqueue.processors.remote.kept_ids import KeptId


class OnComfyui(Processor):
    """A processor whose work is done by the servers of `[comfyui.servers]`."""

    device = "gpu"
    stall_timeout_s = 1800
    cancel_grace_s = 10
    asks_peer = True
    settings = "comfyui"
    Settings: ClassVar[type[BaseModel]] = ComfyuiSettings

    def device_for(self, params: Any) -> Device:
        """As its servers say."""
        return device_of(params.server, self.config)

    def unavailable(self) -> str:
        """Return why no configured server can be used; empty if one can."""
        return why_unavailable(self.peers(), "no server is configured under [comfyui.servers]")

    def peers(self) -> list[PeerServer]:
        """Return the configured servers."""
        return peers_of(None, self.config)

    def peers_for(self, params: Any) -> list[PeerServer]:
        """Return the server that the job names, or all."""
        return peers_of(params.server, self.config)

    def resource_for(self, params: Any) -> Resource | None:
        """The servers, which take one job each."""
        return resource_of(params.server, self.config)

    def end_left(self, kept: KeptId) -> bool:
        """Take the prompt out of the queue of its server, or interrupt it."""
        known = any(kept.server in one.urls for one in self.config.servers.values())
        return not known or cancel_left(kept.server, kept.remote)

    def lane_for(self, params: Any) -> str | None:
        """The lane of its server, where that has one."""
        return lane_of(params.server, self.config)
