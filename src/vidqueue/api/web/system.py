"""The page of the system: versions, health, processors, and the configuration with the origin of each value."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

import vidqueue
from vidqueue.api.http.context import services_of
from vidqueue.api.v1.health import NotReady, Readiness
from vidqueue.api.web import overview, render
from vidqueue.db.tables import backup
from vidqueue.processors import registry
from vidqueue.services import Services
from vidqueue.settings.schema import keys


@dataclass(frozen=True, slots=True)
class Value:
    """A key of the configuration. Secrets are masked; `origin` is None where nobody set it."""

    section: str
    key: str
    text: str
    origin: str | None
    description: str


async def show(request: Request) -> Response:
    """Show what this daemon is and how it is configured."""
    services = services_of(request)
    readiness: Readiness = request.app.state.readiness
    found = await readiness.current()
    async with services.database.statement() as connection:
        server = await backup.server_version(connection)
    versions = registry.versions()
    by_section = groupby(_values(services), key=lambda value: value.section)
    return render.page(
        request,
        "system.html",
        version=vidqueue.__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        server=f"{server // 10000}.{server % 10000}" if server >= 10000 else str(server),
        embedded=services.settings.database.url is None,
        node=services.storage.node,
        trouble=found.detail if isinstance(found, NotReady) else None,
        stuck=services.watchdog.stuck(),
        hanging=services.watchdog.hanging(),
        disk=await overview.disk_of(services),
        processors=[(one, versions.get(name, "")) for name, one in registry.catalogue().items()],
        unloaded=registry.unloaded(),
        sections=[(section, list(values)) for section, values in by_section],
    )


def _values(services: Services) -> Iterator[Value]:
    """Every key; those of one section follow each other."""
    dumped = services.settings.model_dump(mode="json")
    every = [(*key.rpartition("."), field) for key, field in keys(type(services.settings))]
    for section, dot, name, field in sorted(every, key=lambda one: one[0] != ""):
        value = dumped[section][name] if section else dumped[name]
        yield Value(
            section=section,
            key=name,
            text=_text(value),
            origin=services.origins.get(f"{section}{dot}{name}"),
            description=field.description or "",
        )


def _text(value: Any) -> str:
    if value is None or value in ([], {}):
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
