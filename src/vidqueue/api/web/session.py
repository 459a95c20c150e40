"""Log-in to the pages: a cookie carries the API key, hidden from scripts and from requests of other sites.

The session is the key itself, so revoking the key ends it, on every daemon and within a second. No state is kept.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from vidqueue.api.http.context import keyring_of
from vidqueue.api.http.identity import SESSION
from vidqueue.api.web import forms, render
from vidqueue.errors import VidqueueError


class LoginQuery(BaseModel):
    """Where the log-in leads."""

    model_config = ConfigDict(extra="forbid")

    to: str = Field("/", max_length=4096)


async def show(request: Request, query: LoginQuery) -> Response:
    """Ask for a key."""
    return render.page(request, "login.html", to=forms.local(query.to), error=None)


async def log_in(request: Request) -> Response:
    """Take a key, and lead to the page that asked for it."""
    form = await forms.read(request)
    key, to = str(form.get("key", "")).strip(), forms.local(str(form.get("to", "/")))
    try:
        await keyring_of(request).find(key)
    except VidqueueError as error:
        if error.code != "unauthenticated":
            raise
        return render.page(request, "login.html", status=401, to=to, error=error)
    response = RedirectResponse(to, status_code=303)
    secure = request.url.scheme == "https"
    response.set_cookie(SESSION, key, httponly=True, samesite="strict", secure=secure)
    return response


async def log_out(request: Request) -> Response:
    """Forget the key of this browser."""
    await forms.read(request)
    response = RedirectResponse("/login", status_code=303)
    response.delete_cookie(SESSION, httponly=True, samesite="strict")
    return response
