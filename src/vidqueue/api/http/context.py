"""Request context for handlers: the open services, the owner of the request, the event of a shutdown."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from vidqueue.jobs.keys import Keyring
from vidqueue.principal import Principal
from vidqueue.services import Services


def services_of(request: Request) -> Services:
    """Return the open services of this process."""
    services: Services = request.app.state.services
    return services


def keyring_of(request: Request) -> Keyring:
    """Return the keyring, which knows all API keys."""
    keyring: Keyring = request.app.state.keyring
    return keyring


def principal_of(request: Request) -> Principal:
    """Return who sent the request; `Endpoint.call` has found it out before it calls the handler."""
    principal: Principal = request.state.principal
    return principal


def owner_of(request: Request) -> str:
    """Return the owner of what the request makes."""
    return principal_of(request).owner


def scope_of(request: Request) -> str | None:
    """Return the owner whose things the request may see and change; None for those of everybody."""
    return principal_of(request).scope


def closing_of(request: Request) -> asyncio.Event:
    """Return the event that is set when the server shuts down; streams and waits end then."""
    closing: asyncio.Event = request.app.state.closing
    return closing


def base_of(request: Request) -> str:
    """Return the daemon's address as the client wrote it: scheme, host and port."""
    return f"{request.url.scheme}://{request.url.netloc}"
