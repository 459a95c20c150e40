"""Processor `videos`: makes a video on a server of OpenAI's video API (vLLM-Omni, SGLang, LocalAI)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar

from pydantic import BaseModel, Field, ValidationInfo, model_validator

from vidqueue.job import Device, OutputDraft
from vidqueue.processors.base import (
    Context,
    MediaInput,
    Parameters,
    Processor,
    Resource,
    WaitingError,
    settings_of,
)
from vidqueue.processors.configured import entry
from vidqueue.processors.media import MediaField, visual_at
from vidqueue.processors.peers import Condition, PeerServer, why_unavailable
from vidqueue.processors.remote.kept_ids import KeptId
from vidqueue.processors.remote.left_work import end_left
from vidqueue.processors.remote.peer import Peer, PeerError
from vidqueue.processors.remote.videos_settings import VideoServer, VideoServers

ASK_S = 5.0
VIDEOS = "/videos"
# Videos in these states keep a server busy.
AT_WORK = frozenset({"queued", "in_progress"})


class VideosParams(Parameters):
    """Parameters of the processor `videos`. What is not given is not sent."""

    server: str = Field(max_length=32, description="Name of a server in `videos.servers`.")
    model: str | None = Field(None, max_length=200, description="Model on the server; the configured one if not given.")
    prompt: str = Field(min_length=1, max_length=32_000, description="Description of the video.")
    negative_prompt: str | None = Field(
        None, max_length=32_000, description="Description of what the video should not show."
    )
    image: MediaInput | None = Field(None, description="A picture to begin with, or a video where the model takes one.")
    seconds: float | None = Field(None, gt=0, le=86_400, allow_inf_nan=False, description="Length of the video.")
    size: str | None = Field(None, pattern=r"^[1-9]\d{0,4}x[1-9]\d{0,4}$", description="Width and height: `1280x720`.")
    width: int | None = Field(None, gt=0)
    height: int | None = Field(None, gt=0)
    frames: int | None = Field(None, gt=0, description="Number of pictures.")
    fps: float | None = Field(None, gt=0, allow_inf_nan=False, description="Pictures per second.")
    steps: int | None = Field(None, gt=0, description="Inference steps.")
    guidance: float | None = Field(None, allow_inf_nan=False, description="Guidance scale.")
    seed: int | None = None
    extra: dict[str, Any] = Field(
        default_factory=dict, description="Further fields of the request, as the server names them."
    )

    @model_validator(mode="after")
    def _known(self, info: ValidationInfo) -> VideosParams:
        config = settings_of(info, VideoServers)
        if config is not None:
            server_of(config, self.server)
        return self


class Videos(Processor):
    """Make a video on a server of OpenAI's video API."""

    name = "videos"
    settings = "videos"
    Settings: ClassVar[type[BaseModel]] = VideoServers
    Params = VideosParams
    # A model may work for long without a word. The server is asked whether it lives.
    stall_timeout_s = 1800
    # The server is told first.
    cancel_grace_s = 15

    def media(self, params: Any) -> Iterable[MediaField]:
        """The picture or video that it begins with."""
        return visual_at(super().media(params), "image")

    def device_for(self, params: Any) -> Device:
        """The kind of lane that the server is configured for."""
        return server_of(self.config, params.server).device

    def vram_mb(self, params: Any) -> int:
        """What the server is configured for; 0 for an external one, which holds its memory all the time."""
        server = server_of(self.config, params.server)
        return 0 if server.url else server.vram_mb

    def lane_for(self, params: Any) -> str | None:
        """The lane that the server is configured for."""
        return server_of(self.config, params.server).lane

    def resource_for(self, params: Any) -> Resource | None:
        """The server, which takes a number of jobs at a time."""
        server = server_of(self.config, params.server)
        if server.url is None:  # each lane has its own
            return None
        return Resource(f"videos:{server.url}", server.concurrency, f"the server {params.server}")

    def peers(self) -> list[PeerServer]:
        """The servers."""
        return [_peer(name, server) for name, server in self.config.servers.items()]

    def peers_for(self, params: Any) -> list[PeerServer]:
        """Its server."""
        return [_peer(params.server, server_of(self.config, params.server))]

    def unavailable(self) -> str:
        """A server is needed that can be started, if it has a command."""
        return why_unavailable(self.peers(), "no server is configured under [videos.servers]")

    def end_left(self, kept: KeptId) -> bool:
        """Delete the video, unless it is done."""
        server = next((one for one in self.config.servers.values() if one.url and one.url == kept.server), None)
        return server is None or end_left(kept, server.key_file, VIDEOS, ("DELETE", ""))

    def run(self, params: Any, ctx: Context) -> list[OutputDraft]:
        """Have the server make the video, and fetch it."""
        from vidqueue.processors.remote.videos_run import VideosRun

        server = server_of(self.config, params.server)
        url = server.url
        if url is None:
            name = _peer(params.server, server).name
            if name not in ctx.peers:
                message = f"The lane {ctx.lane} may not run the server {params.server}."
                raise WaitingError("peer_elsewhere", message)
            url = ctx.peers[name] + server.path
        return VideosRun(params.server, server, url, params, ctx).run()


def _peer(name: str, server: VideoServer) -> PeerServer:
    urls = () if server.url is None else (server.url,)
    ask = partial(condition_of, "" if server.url else server.path)
    return PeerServer(f"videos:{name}", server.device, server.lane, urls, server.launch, ask)


def condition_of(path: str, url: str) -> Condition:
    """Ask the server at an address how it is; it may block for seconds. One that lists no videos is never busy."""
    try:
        reply = Peer(url + path).reply("GET", VIDEOS, idle_s=ASK_S)
    except PeerError as error:
        return Condition("away", str(error))
    if reply.status >= 500:
        return Condition("starting", f"it answers {reply.status}")
    listed = reply.value.get("data") if isinstance(reply.value, dict) else None
    videos = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return Condition("busy" if any(one.get("status") in AT_WORK for one in videos) else "ready")


def server_of(settings: VideoServers, name: str) -> VideoServer:
    """The server of this name.

    Raises:
        VidqueueError: `unknown_model`.
    """
    return entry(settings.servers, name, kind="video server", section="videos.servers", field="server")
