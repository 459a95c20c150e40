"""Who sends a request: the API key in its headers, the principal of the key, and whether its role is enough."""

from __future__ import annotations

import os
import re
from dataclasses import replace

from starlette.requests import Request

from vidqueue.api.http.context import keyring_of
from vidqueue.errors import VidqueueError
from vidqueue.ops import peer_user
from vidqueue.principal import LOCAL, Principal, Role

# Set by the log-in of the pages.
SESSION = "vidqueue_session"
# Bearer (RFC 6750); clients of other systems say Token, or use a header of their own.
_WITH_KEY = frozenset({b"authorization", b"x-api-key", b"cookie"})
_AUTHORIZATION = re.compile(r"(?:Bearer|Token) +(\S+)", re.IGNORECASE)


async def require_role(request: Request, role: Role) -> None:
    """Find out who sends the request, and keep it in `request.state.principal`.

    Raises:
        VidqueueError: `unauthenticated`, `forbidden`.
    """
    principal = await keyring_of(request).find(key_of(request))
    if principal is LOCAL:
        principal = await _at_this_machine(request)
    request.state.principal = principal
    if not principal.role.includes(role):
        hint = f"Use a key with the role {role}; `vidqueue keys list` shows the keys."
        raise VidqueueError(
            "forbidden", f"The role {principal.role} of this key does not allow this request.", hint=hint
        )


async def _at_this_machine(request: Request) -> Principal:
    """The principal of a request without keys: the Unix user at the other end, `local` for the daemon's own."""
    uid = _uid_of(request)
    return LOCAL if uid in (None, os.geteuid()) else replace(LOCAL, owner=await peer_user.name_of(uid))


def _uid_of(request: Request) -> int | None:
    """The Unix user at the other end, which is looked up once for each connection."""
    ends = request.scope.get("client"), request.scope.get("server")
    if None in ends:
        return None
    known: dict[object, int] = getattr(request.state, "users", {})
    if ends in known:
        return known[ends]
    uid = peer_user.uid_of(*ends)  # type: ignore[arg-type]
    if uid is not None:
        # A proxy may name another client with each request.
        known.clear()
        known[ends] = uid
    return uid


def key_of(request: Request) -> str | None:
    """Return the API key of a request: of its headers, else of the session of a browser; None without one."""
    if not any(name in _WITH_KEY for name, _ in request.scope["headers"]):
        return None
    given = _AUTHORIZATION.fullmatch(request.headers.get("authorization", "").strip())
    return given[1] if given else request.headers.get("x-api-key") or request.cookies.get(SESSION)
