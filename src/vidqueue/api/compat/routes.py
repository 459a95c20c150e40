"""The HTTP endpoints of the APIs that are compatible with other systems; those of Replicate are defined here."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from pydantic import BaseModel

from vidqueue.api.compat import (
    comfy_routes,
    moneyprinter_routes,
    replicate,
    replicate_catalogue,
    replicate_stream,
    video_routes,
)
from vidqueue.api.compat.replicate_catalogue import (
    AccountView,
    ModelPage,
    ModelView,
    SecretKeyView,
    VersionPage,
    VersionView,
)
from vidqueue.api.compat.replicate_views import PredictionPage, PredictionView
from vidqueue.api.http.endpoint import JSON, Answer, CompatApi, Endpoint, Handler
from vidqueue.jobs.submit import REFUSALS
from vidqueue.principal import Role

_ID = "/v1/predictions/{prediction_id:uuid}"
_MODEL = "/v1/models/{owner}/{name}"

REPLICATE = CompatApi("replicate", "The Replicate API")
# Clients of OpenAI's video API ask for models at the same addresses.
_SHARED = replace(REPLICATE, also="videos")
_endpoint = partial(Endpoint, tag="replicate", compat_api=REPLICATE)


def _get(
    path: str, handler: Handler, model: type[BaseModel], description: str, compat_api: CompatApi = REPLICATE
) -> Endpoint:
    answers = {200: Answer(description, {JSON: model})}
    return _endpoint(method="GET", path=path, handler=handler, answers=answers, compat_api=compat_api)


def _create(path: str, handler: Handler) -> Endpoint:
    answers = {
        201: Answer("The prediction; it has ended if you waited for it.", {JSON: PredictionView}),
        202: Answer("The wait is over, and the prediction goes on.", {JSON: PredictionView}),
    }
    return _endpoint(method="POST", path=path, handler=handler, answers=answers, errors=REFUSALS)


ENDPOINTS: tuple[Endpoint, ...] = (
    _create("/v1/predictions", replicate.create_prediction),
    _create(f"{_MODEL}/predictions", replicate.create_prediction_of),
    _create("/v1/deployments/{owner}/{name}/predictions", replicate.create_prediction_of_deployment),
    _get("/v1/predictions", replicate.list_predictions, PredictionPage, "Some predictions."),
    _get(_ID, replicate.get_prediction, PredictionView, "The prediction."),
    _endpoint(
        method="POST",
        path=f"{_ID}/cancel",
        handler=replicate.cancel_prediction,
        answers={200: Answer("The prediction, canceled or asked to stop.", {JSON: PredictionView})},
    ),
    _endpoint(
        method="GET",
        path=f"{_ID}/stream",
        handler=replicate_stream.stream_prediction,
        answers={200: Answer("output, logs, error, done.", {"text/event-stream": None})},
    ),
    _get("/v1/models", replicate_catalogue.list_models, ModelPage, "All models.", _SHARED),
    _get(_MODEL, replicate_catalogue.get_model, ModelView, "The model.", _SHARED),
    _get(f"{_MODEL}/versions", replicate_catalogue.list_versions, VersionPage, "Its version."),
    _get(f"{_MODEL}/versions/{{version}}", replicate_catalogue.get_version, VersionView, "The version."),
    _endpoint(
        method="GET",
        path="/v1/webhooks/default/secret",
        handler=replicate_catalogue.get_webhook_secret,
        role=Role.ADMIN,
        answers={200: Answer("The secret.", {JSON: SecretKeyView})},
    ),
    _get("/v1/account", replicate_catalogue.get_account, AccountView, "Who asks."),
    *video_routes.ENDPOINTS,
    *comfy_routes.ENDPOINTS,
    *moneyprinter_routes.ENDPOINTS,
)
