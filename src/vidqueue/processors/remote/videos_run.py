"""Runs a job on a server of OpenAI's video API: the request, the progress, and the download of the video."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.processors.base import Context
from vidqueue.processors.media import suffix_of
from vidqueue.processors.remote.peer import Form
from vidqueue.processors.remote.polled import QUEUED, STOP_S, PolledRun
from vidqueue.processors.remote.videos_settings import VideoServer
from vidqueue.progress import Progress

# What a parameter is called on the wire.
_NAMES = {"frames": "num_frames", "steps": "num_inference_steps", "guidance": "guidance_scale"}
_NOT_SENT = {"server", "image", "extra"}
_FIELD = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")


class VideosRun(PolledRun):
    """One video."""

    kind = "videos"
    path = "/videos"
    newest = "/videos?limit=100&order=desc"

    def __init__(self, name: str, server: VideoServer, url: str, params: Any, ctx: Context) -> None:
        super().__init__(f"video server {name}", url, server.key_file, server.away_timeout_s, ctx)
        self._server = server
        self._url = url.rstrip("/")
        self._params = params

    def request(self) -> tuple[str, Any]:
        """A form, which every such server takes, also without a file."""
        picture = self.ctx.inputs.get("image")
        file = None if picture is None else ("input_reference", picture)
        return self.path, Form(_fields(self._params, self._server.model), file)

    def is_same(self, work: Mapping[str, Any], body: Any) -> bool:
        """By the prompt, which servers repeat as it was; other fields they change into what they made of them."""
        return bool(work.get("prompt") == body.fields["prompt"])

    def tell(self, work: Mapping[str, Any], status: str) -> None:
        """Report the per cent that the server tells."""
        percent = work.get("progress")
        known = isinstance(percent, int | float) and not isinstance(percent, bool) and 0 <= percent <= 100
        fraction = float(percent) / 100 if known and percent is not None else 0.0
        self.ctx.progress(Progress(min(fraction, 0.98), stage="queued" if status in QUEUED else "generate"))

    def result(self, work: Mapping[str, Any]) -> list[OutputDraft]:
        """The video."""
        path = self.ctx.output_path("video")
        media_type = self.download(f"{self._url}{self.address}/content", path, self._server.file_limit_mb << 20)
        if not path.stat().st_size or media_type in ("application/json", "text/html"):
            raise VidqueueError("peer_lost", f"The {self.name} says that the video is done, and delivers none.")
        media_type = media_type if media_type.startswith(("video/", "image/")) else "video/mp4"
        named = path.rename(path.with_name("video" + (suffix_of("", media_type) or ".mp4")))
        facts = {"server_id": self.kept.remote, "model": str(work.get("model") or "")[:200]}
        return [OutputDraft("video", named, media_type, facts)]

    def stop(self) -> int:
        """Delete the video; servers stop the work for that."""
        return self.peer.ask("DELETE", self.address, idle_s=STOP_S)[0]


def _fields(params: Any, default_model: str) -> dict[str, str]:
    """The fields of the request: what was given, as text."""
    given = params.model_dump(exclude_none=True, exclude=_NOT_SENT)
    if default_model:
        given.setdefault("model", default_model)
    named = {_NAMES.get(name, name): value for name, value in given.items()} | dict(params.extra)
    return {name: _text(value) for name, value in named.items() if _FIELD.fullmatch(name)}


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)
