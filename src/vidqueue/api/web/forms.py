"""HTML forms: reading them, the token against forged ones (CSRF), and the notice that the next page shows.

The token is a random value in a cookie that scripts cannot read and other sites' requests do not carry
(SameSite=Strict). Every form repeats it; a page of another site can neither read nor send it. No state is kept, so
tokens survive restarts, and any number of daemons may stand behind one address.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import Literal
from urllib.parse import parse_qsl

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from vidqueue.api.http.requests import chunks, media_type_of, refuse_too_long
from vidqueue.errors import VidqueueError

TOKEN = "vidqueue_form"  # noqa: S105  the name of a cookie
NOTICE = "vidqueue_notice"
FORM_LIMIT = 256 * 1024
FIELDS_LIMIT = 2000
_TOKEN_LENGTH = 43
_NOTICE_S = 60
_NOTICE_LIMIT = 1500


@dataclass(frozen=True, slots=True)
class Notice:
    """What came of the form that was just sent."""

    kind: Literal["done", "failed"]
    text: str


async def read(request: Request) -> FormData:
    """Return the fields of a form that was sent from a page of ours.

    Raises:
        VidqueueError: `unsupported_media_type`, `payload_too_large`, `request_timeout`, `invalid_request`, `forbidden`.
    """
    if media_type_of(request) != "application/x-www-form-urlencoded":
        raise VidqueueError("unsupported_media_type", "A form is expected here.", hint="Use the API at /v1 instead.")
    refuse_too_long(request, FORM_LIMIT)
    body = bytearray()
    async for chunk in chunks(request):
        body += chunk
        if len(body) > FORM_LIMIT:
            raise VidqueueError("payload_too_large", f"The form has more than {FORM_LIMIT} bytes.")
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_LIMIT, errors="strict")
    except ValueError:
        raise VidqueueError("invalid_request", "The form cannot be read.") from None
    if any("\0" in name + value for name, value in fields):
        raise VidqueueError("invalid_request", "The form holds a NUL character.")
    form = FormData([(name, value) for name, value in fields])
    require_token(request, str(form.get("token", "")))
    request.state.form = form
    return form


def require_token(request: Request, given: str) -> None:
    """Refuse a form whose token is not that of the cookie.

    Raises:
        VidqueueError: `forbidden`.
    """
    kept = request.cookies.get(TOKEN, "")
    if len(kept) != _TOKEN_LENGTH or not compare_digest(given.encode(), kept.encode()):
        raise VidqueueError(
            "forbidden",
            "The form does not carry the token of this browser.",
            hint="Load the page again and repeat it; cookies must be allowed.",
        )


def token_of(request: Request) -> str:
    """Return the token of this browser, or a new one."""
    kept = request.cookies.get(TOKEN, "")
    return kept if len(kept) == _TOKEN_LENGTH else secrets.token_urlsafe(32)


def keep(request: Request, response: Response, token: str) -> None:
    """Set the cookie of a new token, and remove the notice that this page has shown."""
    secure = request.url.scheme == "https"
    if request.cookies.get(TOKEN) != token:
        response.set_cookie(TOKEN, token, httponly=True, samesite="strict", secure=secure)
    if NOTICE in request.cookies:
        response.delete_cookie(NOTICE, httponly=True, samesite="strict", secure=secure)


def answer(request: Request, form: Mapping[str, object], notice: Notice | None, *, to: str | None = None) -> Response:
    """Return to the page that the form stands on (or to another one), which shows the notice."""
    response = RedirectResponse(to or local(str(form.get("back", "/"))), status_code=303)
    if notice is None:
        return response
    request.state.refused = notice.kind == "failed"
    told = json.dumps([notice.kind, notice.text[:_NOTICE_LIMIT]]).encode()
    value = base64.urlsafe_b64encode(told).decode().rstrip("=")
    secure = request.url.scheme == "https"
    response.set_cookie(NOTICE, value, max_age=_NOTICE_S, httponly=True, samesite="strict", secure=secure)
    return response


def notice_of(request: Request) -> Notice | None:
    """Return the notice that this page shall show."""
    try:
        kind, text = json.loads(base64.urlsafe_b64decode(request.cookies.get(NOTICE, "") + "=="))
    except (ValueError, TypeError, binascii.Error):
        return None
    return Notice("failed" if kind == "failed" else "done", str(text))


def address_of(request: Request) -> str:
    """Return path and query of this page, for the field `back` of its forms."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def local(address: str) -> str:
    """The address if it is one of this site, else the first page."""
    is_local = address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if is_local and address.isprintable() and "\\" not in address else "/"
