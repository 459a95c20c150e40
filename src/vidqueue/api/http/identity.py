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

# Bearer (RFC 6750); clients of other systems say Token, or use a header of their own.
# Set by the log-in of the pages.
SESSION = "vidqueue_session"
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
    client, server = request.scope.get("client"), request.scope.get("server")
    uid = peer_user.uid_of(client, server) if client and server else None
    return LOCAL if uid in (None, os.geteuid()) else replace(LOCAL, owner=await peer_user.name_of(uid))


def key_of(request: Request) -> str | None:
    """Return the API key of a request: of its headers, else of the session of a browser; None without one."""
    given = _AUTHORIZATION.fullmatch(request.headers.get("authorization", "").strip())
    return given[1] if given else request.headers.get("x-api-key") or request.cookies.get(SESSION)
