"""What a handler may reach besides its arguments: the rooms, the owner who asks, the end of the server."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from vidqueue.services import Services


def services_of(request: Request) -> Services:
    """The open rooms of this process."""
    services: Services = request.app.state.services
    return services


def owner_of(request: Request) -> str:
    """Who asks; everything a handler reads or changes is narrowed to this owner."""
    del request
    return "local"


def closing_of(request: Request) -> asyncio.Event:
    """Set when the server shuts down: streams and waits end then."""
    closing: asyncio.Event = request.app.state.closing
    return closing
