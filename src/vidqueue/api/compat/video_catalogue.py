"""The models of `/v1/videos` as clients of OpenAI list them: aliases of the operator, and those of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.compat import models, video_models
from vidqueue.api.compat.models import OURS
from vidqueue.api.compat.replicate import model_threads
from vidqueue.api.http.context import services_of
from vidqueue.api.http.endpoint import json_answer
from vidqueue.errors import VidqueueError
from vidqueue.processors import registry
from vidqueue.settings.compat import VideosSettings


class VideoModelView(BaseModel):
    """A model, for clients of OpenAI. Models have no time of their own: they are what is configured now."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str


def video_models_of(settings: VideosSettings) -> Iterator[VideoModelView]:
    """Every name that `model` of a video may be, aliases first; none if the API is disabled. It may block."""
    if settings.enabled:
        there = registry.catalogue()
        for name, alias in settings.models.items():
            if alias.processor in there:
                yield VideoModelView(id=name, owned_by=OURS)
        yield from (VideoModelView(id=one.full_name, owned_by=one.owner) for one in models.models())


async def get_video_model(request: Request, model: str) -> Response:
    """Read a model of `/v1/videos` by its alias."""
    settings = services_of(request).settings.videos
    try:
        await model_threads.run(video_models.find, model, settings)
    except VidqueueError as error:
        raise VidqueueError("not_found", error.message) from None
    return json_answer(VideoModelView(id=model, owned_by=OURS))
