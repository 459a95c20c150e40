"""A page as an endpoint: what it refuses, it refuses with a page too."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from vidqueue.api.http.endpoint import Endpoint
from vidqueue.api.http.problems import title_of
from vidqueue.api.web import forms, render
from vidqueue.errors import DATABASE_BUSY, VidqueueError


class Page(Endpoint):
    """A page, or the address of a form. It is not part of the OpenAPI document."""

    async def call(self, request: Request) -> Response:
        """Answer a request; an error becomes a page that says what happened and what to do."""
        try:
            return await super().call(request)
        except VidqueueError as error:
            if error.code == "unauthenticated" and request.method in ("GET", "HEAD"):
                return RedirectResponse(f"/login?{urlencode({'to': forms.address_of(request)})}", status_code=303)
            return render.page(
                request,
                "error.html",
                status=error.status,
                error=error,
                title=title_of(error.code),
                busy=error.code in DATABASE_BUSY,
            )
