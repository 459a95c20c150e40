"""API keys over HTTP: create, list, revoke, delete."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.http.context import keyring_of, principal_of, services_of
from vidqueue.api.http.endpoint import JSON, Answer, Endpoint, json_answer
from vidqueue.db.tables.keys import KeyRow
from vidqueue.jobs import keys
from vidqueue.principal import Role

LONGEST_S = 100 * 366 * 86_400


class KeyRequest(BaseModel):
    """A key that shall be made."""

    model_config = ConfigDict(extra="forbid")

    owner: str = Field(min_length=1, max_length=200, description="Who owns what is made with it.")
    role: Role = Field(
        Role.SUBMIT,
        description="read: see what the owner has. submit: also submit, change and delete it. operate: see and change "
        "the jobs of everybody, pause and drain. admin: also keys, limits and secrets.",
    )
    name: str = Field("", max_length=200, description="What people recognise it by, such as the machine that uses it.")
    expires_in_s: float | None = Field(None, gt=0, le=LONGEST_S, description="Seconds until it expires by itself.")


class KeyView(BaseModel):
    """An API key, without the key itself."""

    id: UUID
    owner: str
    role: Role
    name: str
    prefix: str = Field(description="How it begins.")
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None = Field(description="When it was last used, to the minute.")
    revoked_at: datetime | None


class CreatedKeyView(KeyView):
    """A new key."""

    key: str = Field(description="The key. It is shown this once and cannot be had again.")


class KeyList(BaseModel):
    """All keys, newest first."""

    keys: list[KeyView]


class WhoView(BaseModel):
    """Who a request comes from."""

    owner: str
    role: Role
    key_id: UUID | None = Field(description="Null while this daemon has no keys.")


async def create_key(request: Request, body: KeyRequest) -> Response:
    """Make an API key. From the first one on, every request needs a key."""
    created = await keys.create(services_of(request).database, **dict(body))
    keyring_of(request).changed()
    view = CreatedKeyView(key=created.secret, **dict(_view(created.row)))
    return json_answer(view, 201, {"Cache-Control": "no-store"})


async def list_keys(request: Request) -> Response:
    """List all API keys, newest first, those that were revoked too."""
    found = await keys.every(services_of(request).database)
    return json_answer(KeyList(keys=list(map(_view, found))))


async def revoke_key(request: Request, key_id: UUID) -> Response:
    """Make a key useless, within a second; streams that were opened with it end."""
    revoked = await keys.revoke(services_of(request).database, key_id)
    keyring_of(request).changed()
    return json_answer(_view(revoked))


async def delete_key(request: Request, key_id: UUID) -> Response:
    """Delete a revoked key. Once none is left, requests from this machine need no key again."""
    await keys.remove(services_of(request).database, key_id)
    keyring_of(request).changed()
    return Response(status_code=204)


async def whoami(request: Request) -> Response:
    """Tell whose key this request was sent with."""
    principal = principal_of(request)
    return json_answer(WhoView(owner=principal.owner, role=principal.role, key_id=principal.key_id))


def _view(row: KeyRow) -> KeyView:
    return KeyView(**{name: getattr(row, name) for name in KeyView.model_fields})


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/keys",
        handler=create_key,
        tag="keys",
        role=Role.ADMIN,
        answers={201: Answer("The key, which is shown once.", {JSON: CreatedKeyView})},
    ),
    Endpoint(
        method="GET",
        path="/v1/keys",
        handler=list_keys,
        tag="keys",
        role=Role.ADMIN,
        answers={200: Answer("The keys.", {JSON: KeyList})},
    ),
    Endpoint(
        method="POST",
        path="/v1/keys/{key_id:uuid}/revoke",
        handler=revoke_key,
        tag="keys",
        role=Role.ADMIN,
        answers={200: Answer("The key is useless.", {JSON: KeyView})},
    ),
    Endpoint(
        method="DELETE",
        path="/v1/keys/{key_id:uuid}",
        handler=delete_key,
        tag="keys",
        role=Role.ADMIN,
        answers={204: Answer("The key is gone.")},
        errors=("conflict",),
    ),
    Endpoint(
        method="GET",
        path="/v1/whoami",
        handler=whoami,
        tag="keys",
        answers={200: Answer("The principal.", {JSON: WhoView})},
    ),
)
