"""The API that is compatible with Replicate: the models with their versions, and the account."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

import vidqueue
from vidqueue.api.compat import models
from vidqueue.api.compat.models import Model
from vidqueue.api.compat.replicate import model_threads
from vidqueue.api.compat.video_catalogue import VideoModelView, video_models_of
from vidqueue.api.http.context import base_of, owner_of, services_of
from vidqueue.api.http.endpoint import json_answer
from vidqueue.errors import VidqueueError
from vidqueue.jobs.webhook_secret import WebhookSecret

# Versions have no time of their own: they are what is configured now.
_SINCE = "1970-01-01T00:00:00+00:00"


class VersionView(BaseModel):
    """What a model takes and returns."""

    id: str
    created_at: str
    cog_version: str
    openapi_schema: dict[str, Any]


class VersionPage(BaseModel):
    """The versions of a model: there is one."""

    next: str | None = None
    previous: str | None = None
    results: list[VersionView]


class ModelView(BaseModel):
    """A model."""

    url: str
    owner: str
    name: str
    description: str
    visibility: str = "private"
    run_count: int = 0
    latest_version: VersionView | None
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str


class ModelPage(BaseModel):
    """All models: `results` for clients of Replicate, `data` for those of OpenAI's video API."""

    next: str | None = None
    previous: str | None = None
    results: list[ModelView]
    object: Literal["list"] = "list"
    data: list[VideoModelView]


class AccountView(BaseModel):
    """The account of the API key."""

    type: str = "user"
    username: str
    name: str


class SecretKeyView(BaseModel):
    """The secret that webhooks are signed with."""

    key: str


async def list_models(request: Request) -> Response:
    """List the models: `vidqueue/<processor>`, `cog/<endpoint>`, `comfyui/<workflow>` and others, and their aliases."""
    base, settings = base_of(request), services_of(request).settings
    found = await model_threads.run(lambda: list(models.models())) if settings.replicate.enabled else []
    listed = await model_threads.run(lambda: list(video_models_of(settings.videos)))
    return json_answer(ModelPage(results=[_model_view(model, base, None) for model in found], data=listed))


async def get_model(request: Request, owner: str, name: str) -> Response:
    """Read a model."""
    base = base_of(request)
    model = await model_threads.run(models.find, owner, name)
    return json_answer(_model_view(model, base, await model_threads.run(_version_view, model)))


async def list_versions(request: Request, owner: str, name: str) -> Response:
    """List the versions of a model."""
    model = await model_threads.run(models.find, owner, name)
    return json_answer(VersionPage(results=[await model_threads.run(_version_view, model)]))


async def get_version(request: Request, owner: str, name: str, version: str) -> Response:
    """Read the version of a model."""
    view = await model_threads.run(_version_view, await model_threads.run(models.find, owner, name))
    if view.id != version:
        raise VidqueueError("not_found", f"{owner}/{name} has no version {version[:100]!r}.")
    return json_answer(view)


async def get_account(request: Request) -> Response:
    """Read who asks."""
    return json_answer(AccountView(username=owner_of(request), name=owner_of(request)))


async def get_webhook_secret(request: Request) -> Response:
    """Read the secret that webhooks are signed with."""
    secret = WebhookSecret(services_of(request).settings.webhook_secret_file)
    return json_answer(SecretKeyView(key=(await asyncio.to_thread(secret.read))[0]))


def _version_view(model: Model) -> VersionView:
    return VersionView(
        id=model.version(),
        created_at=_SINCE,
        cog_version=f"vidqueue {vidqueue.__version__}",
        openapi_schema=model.schema(),
    )


def _model_view(model: Model, base: str, version: VersionView | None) -> ModelView:
    return ModelView(
        url=f"{base}/v1/models/{model.full_name}",
        owner=model.owner,
        name=model.name,
        description=model.description,
        latest_version=version,
        id=model.full_name,
        owned_by=model.owner,
    )
