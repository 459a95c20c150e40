"""The daemon: opens its services, starts the API and the lanes, waits for a signal, closes everything in order."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import structlog
import uvloop
from pydantic_core import from_json

from vidqueue.api.compat import replicate
from vidqueue.api.server import CannotListenError, listening
from vidqueue.api.v1.job_json import job_json
from vidqueue.db import migrate
from vidqueue.db.embedded import server as embedded
from vidqueue.db.embedded.programs import EmbeddedError
from vidqueue.db.event_feed import EventFeed
from vidqueue.db.fitness import DatabaseUnfitError, require_fit
from vidqueue.db.installation import OtherDatabaseError, require_own
from vidqueue.db.pool import Database, row
from vidqueue.db.tables import reports
from vidqueue.errors import DATABASE_BUSY, VidqueueError
from vidqueue.jobs import keys, schedules
from vidqueue.jobs.bulk_runner import acting_in_bulk
from vidqueue.jobs.inputs import Inputs
from vidqueue.jobs.notify import Notifier
from vidqueue.jobs.scheduler import scheduling
from vidqueue.jobs.watch_folders import watching
from vidqueue.jobs.webhook_secret import WebhookSecret
from vidqueue.jobs.webhook_sender import Sender, sending
from vidqueue.ops import data_folder, failpoints, garbage, logs
from vidqueue.ops.data_folder import DataFolderBusyError, DataFolderError, RunningDaemon
from vidqueue.ops.open_files import raise_open_files_limit
from vidqueue.ops.supervise import supervise
from vidqueue.ops.systemd import Manager, manager_of
from vidqueue.ops.watchdog import Heartbeat, Watchdog
from vidqueue.processors import registry
from vidqueue.processors.registry import ReadSettings
from vidqueue.reloading import Reloading, has_terminal
from vidqueue.sanitize import Redactor
from vidqueue.services import Services
from vidqueue.settings.schema import Settings
from vidqueue.settings.secrets import secret_values
from vidqueue.storage.local import Storage
from vidqueue.worker.guards import Drain
from vidqueue.worker.lanes import open_lanes

Role = Literal["all", "api", "worker"]

# How often heartbeats are checked if the service manager has no watchdog.
CHECK_EVERY_S = 15.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Running:
    """A running daemon. `url` is None for `--role worker`; `facts` is what is announced in its data folder."""

    url: str | None
    database_url: str
    services: Services
    facts: RunningDaemon | None


class NotAllowedError(Exception):
    """The configuration asks for something unsafe."""


# Log event and exit code (sysexits.h) of a daemon that cannot start.
REFUSALS: dict[type[Exception], tuple[str, int]] = {
    DatabaseUnfitError: ("database_cannot_serve", 69),
    migrate.MigrationError: ("database_cannot_serve", 69),
    EmbeddedError: ("database_cannot_serve", 69),
    VidqueueError: ("database_cannot_serve", 69),
    DataFolderBusyError: ("data_folder_in_use", 75),
    DataFolderError: ("data_folder_unusable", 78),
    CannotListenError: ("address_in_use", 75),
    NotAllowedError: ("configuration_not_allowed", 78),
    OtherDatabaseError: ("configuration_not_allowed", 78),
}


def serve(
    settings: Settings, read_settings: ReadSettings, role: Role = "all", origins: Mapping[str, str] | None = None
) -> int:
    """Run until SIGTERM or SIGINT and return the exit code: 0 after a drain, else as in `REFUSALS`."""
    logs.configure(settings.log.level, settings.log.format, Redactor(secret_values(settings)))
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    if failpoints.armed:
        log.warning("failpoints_armed", points=sorted(failpoints.armed))
    # A watchdog sends SIGABRT to a daemon that hangs: the log then shows where.
    faulthandler.enable()
    raise_open_files_limit()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, role, manager_of(os.environ), read_settings, origins or {}))
    except tuple(REFUSALS) as error:
        what, code = REFUSALS[type(error)]
        log.error(what, error=str(error))
        return code
    return 0


async def _serve(
    settings: Settings, role: Role, manager: Manager, read_settings: ReadSettings, origins: Mapping[str, str]
) -> None:
    stop, hung_up, drain, watchdog = asyncio.Event(), asyncio.Event(), Drain(), Watchdog()

    def on_signal() -> None:
        if stop.is_set():
            log.warning("drain_aborted")
            drain.hurried.set()
        stop.set()

    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, on_signal)
    loop.add_signal_handler(signal.SIGHUP, hung_up.set)
    in_terminal = has_terminal()
    async with running(settings, role, drain, watchdog, origins) as daemon:
        log.info("daemon_ready", url=daemon.url, role=role, data_dir=str(settings.data_dir))
        if daemon.url and sys.stderr.isatty():
            sys.stderr.write(f"vidqueue listens at {daemon.url}. Ctrl-C stops it; jobs that wait are kept.\n")
        manager.tell(READY="1", STATUS=f"Ready at {daemon.url}" if daemon.url else "Ready")
        garbage.exempt_what_exists()
        # Ends with the event loop, so that systemd gets watchdog messages during the drain too.
        feeding = supervise(partial(_feed_watchdog, manager, watchdog, watchdog.register("watchdog")), "watchdog")
        reloading = Reloading(daemon.services, hung_up, read_settings, stop, daemon.facts, in_terminal)
        asking = supervise(reloading.run, "reload")
        await stop.wait()
        asking.cancel()
        log.info("drain_started", drain_timeout_s=settings.running.drain_timeout_s)
        manager.tell(STOPPING="1", STATUS="Draining: running jobs may finish")
    feeding.cancel()


async def _feed_watchdog(manager: Manager, watchdog: Watchdog, heartbeat: Heartbeat) -> None:
    """Send watchdog messages to the service manager while no background task is stuck."""
    while True:
        heartbeat()
        stuck = watchdog.stuck()
        log.error("daemon_is_stuck", tasks=stuck) if stuck else manager.tell(WATCHDOG="1")
        await asyncio.sleep(manager.feed_every_s or CHECK_EVERY_S)


@asynccontextmanager
async def running(
    settings: Settings,
    role: Role = "all",
    drain: Drain | None = None,
    watchdog: Watchdog | None = None,
    origins: Mapping[str, str] | None = None,
) -> AsyncIterator[Running]:
    """Run a daemon for the block. It drains at the end, or interrupts its jobs at once if `drain` is hurried.

    Raises:
        DataFolderBusyError, DataFolderError, NotAllowedError, OtherDatabaseError: it cannot start.
        DatabaseUnfitError, MigrationError, EmbeddedError: it cannot start.
    """
    _load_processors(settings)
    watchdog = watchdog or Watchdog()
    async with AsyncExitStack() as stack:
        # An API process may share the folder with a worker; two processes of the same role may not.
        lock = data_folder.API_LOCK if role == "api" else data_folder.LOCK
        stack.enter_context(data_folder.only_daemon(settings.data_dir, lock))
        database_url = await _database_url(settings, role, stack, watchdog)
        version = await require_fit(database_url)
        # Before it is changed: the programs on another database may be older than this one.
        await require_own(database_url, settings.data_dir)
        applied = await migrate.migrate(database_url)
        log.info("database_ready", postgresql=version, migrations_applied=applied)
        drain = drain or Drain()
        services = replace(
            await _open_services(settings, database_url, stack, watchdog),
            origins=origins or {},
            stopping=drain.begun,
        )
        await _keep_database_id(services)
        if role != "worker":
            await _require_key(services)
        async with services.database.statement() as connection:
            await reports.set_prices(connection, settings.prices)
        await stack.enter_async_context(sending(_sender(services)))
        with _configuration_errors():
            await schedules.declare(services.database, settings.schedules, services.storage.node)
            watched = () if role == "api" else settings.watch_folders
            stack.enter_context(watching(watched, services.database, services.inputs, services.storage, watchdog))
        stack.enter_context(scheduling(services.database, services.inputs, watchdog))
        stack.enter_context(acting_in_bulk(services.database, services.storage, watchdog))
        if settings.notify.command:
            notifier = Notifier(services.database, services.event_feed, settings.notify)
            stack.callback(supervise(notifier.run, "notify").cancel)
        url = None
        # Opened first and so closed last: people may watch and cancel while the lanes drain.
        if role != "worker":
            url = await stack.enter_async_context(listening(services))
        if role != "api":
            await stack.enter_async_context(open_lanes(services, drain))
            data_folder.announce(settings.data_dir, _facts(settings, url))
        # A process without lanes has nothing to drain, but ends all the same.
        stack.callback(drain.begun.set)
        yield Running(url, database_url, services, None if role == "api" else _facts(settings, url))


def _load_processors(settings: Settings) -> None:
    """Give the processors their settings, and report once which packages could not be loaded."""
    registry.configure(settings)
    for one in registry.unloaded():
        log.error("processor_not_loaded", name=one.name, package=one.package, error=one.error, traceback=one.traceback)


def _facts(settings: Settings, url: str | None) -> RunningDaemon:
    url_file = settings.database.url_file
    return RunningDaemon(os.getpid(), url, str(url_file) if url_file else None, embedded=settings.database.url is None)


async def _database_url(settings: Settings, role: Role, stack: AsyncExitStack, watchdog: Watchdog) -> str:
    if settings.database.url is not None:
        return settings.database.url.get_secret_value()
    if role == "api":
        # The worker on this folder runs the embedded server.
        return embedded.url_of(settings.data_dir)
    if data_folder.database_of(settings.data_dir) and not embedded.exists(settings.data_dir):
        raise NotAllowedError(
            f"{settings.data_dir} belongs to a database whose address the configuration does not give: set "
            "database.url_file. If its embedded database was moved away, restore a backup into the folder first."
        )
    disk_reserve_mib = settings.database.disk_reserve_mib
    return await stack.enter_async_context(
        embedded.running(settings.data_dir, disk_reserve_mib=disk_reserve_mib, watchdog=watchdog)
    )


async def _open_services(settings: Settings, database_url: str, stack: AsyncExitStack, watchdog: Watchdog) -> Services:
    database = await stack.enter_async_context(
        Database(
            database_url,
            pool_size=settings.database.pool_size,
            query_timeout_s=settings.database.query_timeout_s,
        )
    )
    event_feed = await stack.enter_async_context(EventFeed(database, watchdog))
    storage = Storage(settings.data_dir)
    inputs = Inputs(database, storage, settings)
    watchdog.watch(storage.threads, *inputs.roots.pools)
    return Services(settings, database, event_feed, storage, inputs, watchdog, {"people": database})


def _sender(services: Services) -> Sender:
    """Return the sender of webhooks; it shows jobs as the HTTP API does."""
    secret = WebhookSecret(services.settings.webhook_secret_file)
    secret.read()
    return Sender(
        services.database,
        services.event_feed,
        services.watchdog.register("webhooks"),
        services.inputs.receivers,
        secret,
        lambda job: from_json(job_json(job)),
        partial(replicate.told_prediction, services),
    )


async def _keep_database_id(services: Services) -> None:
    """Refuse another database than before: reconciliation removes bytes without a row, which would be all of them."""
    async with services.database.statement() as connection:
        found = await row(connection, "system", "installation")
    assert found is not None
    if services.storage.read_or_create(data_folder.DATABASE, str(found["id"])) != str(found["id"]):
        raise OtherDatabaseError(services.settings.data_dir)


@contextmanager
def _configuration_errors() -> Iterator[None]:
    """Report a wrong entry of the configuration as such, and not as a fault of the database."""
    try:
        yield
    except VidqueueError as error:
        raise (error if error.code in DATABASE_BUSY else NotAllowedError(error.message)) from None


async def _require_key(services: Services) -> None:
    """Refuse to listen beyond loopback while there is no API key that anybody could be asked for."""
    host = services.settings.api.host
    if not services.settings.api.on_loopback and not await keys.every(services.database):
        raise NotAllowedError(
            f"api.host is {host!r}: without an API key the daemon listens on loopback only. "
            "Make one first: vidqueue keys create --owner NAME --role admin."
        )
