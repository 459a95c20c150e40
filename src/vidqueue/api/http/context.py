"""Request context for handlers: the open services, the owner of the request, the event of a shutdown."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from vidqueue.services import Services


def services_of(request: Request) -> Services:
    """Return the open services of this process."""
    services: Services = request.app.state.services
    return services


def owner_of(request: Request) -> str:
    """Return the owner of the request; a handler reads and changes only what belongs to this owner."""
    del request
    return "local"


def closing_of(request: Request) -> asyncio.Event:
    """Return the event that is set when the server shuts down; streams and waits end then."""
    closing: asyncio.Event = request.app.state.closing
    return closing
