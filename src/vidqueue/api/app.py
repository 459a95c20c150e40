"""Builds the Starlette application: routes, middleware, exception handlers, and the state that handlers use."""

from __future__ import annotations

import asyncio

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.routing import Route

from vidqueue.api.http import docs, openapi
from vidqueue.api.http.endpoint import routes
from vidqueue.api.http.middleware import Requests
from vidqueue.api.http.routing import Routes
from vidqueue.api.metrics.exposition import Metrics
from vidqueue.api.routes import ENDPOINTS
from vidqueue.api.v1.health import Readiness
from vidqueue.api.v1.job_reader import JobReader
from vidqueue.api.web.routes import PAGES
from vidqueue.db.pool import Database
from vidqueue.jobs.estimates import Estimates
from vidqueue.jobs.keys import Keyring
from vidqueue.jobs.submit_queue import SubmitQueue
from vidqueue.jobs.uploads import Uploads
from vidqueue.processors import registry
from vidqueue.services import Services
from vidqueue.settings.sections import ApiSettings
from vidqueue.storage.disk_space import Reservations


class _Application(Starlette):
    """Starlette's state, without its stack of middleware and its router."""

    def __init__(self, routes: list[Route], allowed_hosts: list[str]) -> None:
        super().__init__(routes=routes)
        self.middleware_stack = Requests(Routes(routes), allowed_hosts)


def build(services: Services, job_pool: Database | None = None) -> Starlette:
    """Return the application; it uses open services, and opens and closes none. Single jobs use `job_pool`."""
    app = _Application(routes((*ENDPOINTS, *PAGES)), _names(services.settings.api))
    app.state.error_shapes = {
        prefix: one.errors_as
        for one in ENDPOINTS
        if one.errors_as
        for prefix in (one.path.partition("{")[0], one.compat_api.prefix if one.compat_api else "")
        if prefix
    }
    app.state.services = services
    app.state.closing = asyncio.Event()
    settings = services.settings
    app.state.keyring = Keyring(services.event_feed.log.connection, open_without_keys=settings.api.on_loopback)
    app.state.probes = services.inputs.probes
    app.state.readiness = Readiness(services.database)
    app.state.metrics = Metrics(services)
    app.state.job_reader = JobReader(job_pool or services.database)
    app.state.submit_queue = SubmitQueue(job_pool or services.database, services.database)
    app.state.estimates = Estimates(services.database)
    inputs = settings.inputs
    reservations = Reservations(settings.data_dir, settings.disk.low_water_mib, services.storage.threads)
    app.state.reservations = reservations
    app.state.uploads = Uploads(
        services.database, services.storage, reservations, days=inputs.resumable_days, max_mib=inputs.max_resumable_mib
    )
    app.state.openapi = docs.Description(_describe)
    return app


def _describe() -> bytes:
    """Return the OpenAPI document with the processors that there are now."""
    return to_json(openapi.document(ENDPOINTS, registry.catalogue()))


def end_streams(app: Starlette) -> None:
    """End every event stream and every `Prefer: wait`, so that a shutdown does not wait for them."""
    app.state.closing.set()
    app.state.probes.close()
    app.state.readiness.close()
    app.state.metrics.close()


def _names(settings: ApiSettings) -> list[str]:
    """Return the host names that requests may use; the address it listens on is always one of them."""
    if not settings.on_loopback and "allowed_hosts" not in settings.model_fields_set:
        # The check keeps other sites' pages from a daemon that needs no key. Beyond loopback it always needs one.
        return ["*"]
    own = f"[{settings.host}]" if ":" in settings.host else settings.host
    return [*settings.allowed_hosts, own]
