"""The HTTP endpoints of the API that is compatible with OpenAI's video API (`/v1/videos`)."""

from __future__ import annotations

from functools import partial
from typing import Any

from vidqueue.api.compat import video_catalogue, videos
from vidqueue.api.compat.video_catalogue import VideoModelView
from vidqueue.api.compat.video_requests import REFERENCE, VideoRequest
from vidqueue.api.compat.video_views import VideoDeleted, VideoPage, VideoView, openai_problem
from vidqueue.api.http.endpoint import JSON, Answer, CompatApi, Endpoint, download_answers
from vidqueue.jobs.submit import REFUSALS

_VIDEO = "/v1/videos/{video_id:uuid}"
_POLL = {"openai-poll-after-ms": "Time after which a client should poll again, in milliseconds."}


def _body() -> dict[str, dict[str, Any]]:
    schema = VideoRequest.model_json_schema()
    inner = schema.pop("$defs", {})["ReferenceObject"]
    properties = {**schema["properties"], REFERENCE: {"anyOf": [inner, {"type": "null"}]}}
    form = {**properties, REFERENCE: {"type": "string", "contentMediaType": "application/octet-stream"}}
    return {"multipart/form-data": {**schema, "properties": form}, JSON: {**schema, "properties": properties}}


_endpoint = partial(Endpoint, tag="videos", errors_as=openai_problem, compat_api=CompatApi("videos", "The video API"))
_UPLOAD = ("payload_too_large", "request_timeout", "input_empty", "no_space", "unsupported_media_type", "invalid_json")
_video = partial(Answer, content={JSON: VideoView}, headers=_POLL)

ENDPOINTS: tuple[Endpoint, ...] = (
    _endpoint(
        method="POST",
        path="/v1/videos",
        handler=videos.create_video,
        raw_body=_body(),
        answers={200: _video("The video is queued, durably.")},
        errors=(*REFUSALS, *_UPLOAD),
    ),
    _endpoint(
        method="POST",
        path="/v1/videos/sync",
        handler=videos.create_video_and_wait,
        raw_body=_body(),
        answers={200: download_answers("video/mp4")[200], 202: _video("The wait is over, and the video goes on.")},
        errors=(*REFUSALS, *_UPLOAD, "not_found"),
    ),
    _endpoint(
        method="GET",
        path="/v1/videos",
        handler=videos.list_videos,
        answers={200: Answer("Some videos.", {JSON: VideoPage})},
    ),
    _endpoint(
        method="GET", path=_VIDEO, handler=videos.get_video, answers={200: _video("The video, finished or not.")}
    ),
    _endpoint(
        method="GET",
        path=f"{_VIDEO}/content",
        handler=videos.get_video_content,
        answers=download_answers("video/mp4"),
        errors=("range_not_satisfiable", "not_ready", "limit_reached"),
    ),
    _endpoint(
        method="GET",
        path="/v1/models/{model}",
        handler=video_catalogue.get_video_model,
        answers={200: Answer("The model.", {JSON: VideoModelView})},
    ),
    _endpoint(
        method="DELETE",
        path=_VIDEO,
        handler=videos.delete_video,
        answers={200: Answer("The video is gone.", {JSON: VideoDeleted})},
        errors=("conflict",),
    ),
)
