"""Reloading: on SIGHUP the daemon takes new and changed processors, while its jobs run on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from vidqueue.errors import VidqueueError
from vidqueue.ops import data_folder
from vidqueue.ops.data_folder import RunningDaemon
from vidqueue.processors import registry
from vidqueue.processors.registry import ReadSettings
from vidqueue.services import Services

RETRY_S = 1.0

log = structlog.get_logger(__name__)


def has_terminal() -> bool:
    """True if this process has a controlling terminal that somebody still looks at."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


@dataclass(slots=True)
class Reloading:
    """Loads the processors anew whenever SIGHUP has come.

    Attributes:
        hung_up: set by the signal.
        stop: set to end the daemon. A terminal that was closed sends the same signal, and means that.
        had_terminal: whether the daemon was started in one.
        facts: what the data folder says about this daemon; None where it says nothing.
    """

    services: Services
    hung_up: asyncio.Event
    read_settings: ReadSettings
    stop: asyncio.Event
    facts: RunningDaemon | None
    had_terminal: bool

    async def run(self) -> None:
        """Reload after each signal, until cancelled."""
        while True:
            await self.hung_up.wait()
            self.hung_up.clear()
            if self.had_terminal and not has_terminal():
                log.warning("terminal_closed")
                self.stop.set()
                return
            await self._reload()

    async def _reload(self) -> None:
        try:
            said = await asyncio.to_thread(registry.reload, self.read_settings)
        except registry.ReloadError as error:
            log.error("reload_refused", error=str(error))
            self._announce(reload_error=str(error))
            return
        for one in registry.unloaded():
            log.error("processor_not_loaded", name=one.name, package=one.package, error=one.error)
        for act in self.services.on_reload:
            await _until_done(act)
        log.info("processors_reloaded", found=said)
        self._announce(reloaded=said)

    def _announce(self, *, reloaded: str = "", reload_error: str = "") -> None:
        if self.facts is not None:
            count = self.facts.reloads + 1
            self.facts = replace(self.facts, reloads=count, reloaded=reloaded, reload_error=reload_error)
            data_folder.announce(self.services.settings.data_dir, self.facts)


async def _until_done(act: Callable[[], Awaitable[None]]) -> None:
    """Repeat what one half does, while the database is away."""
    while True:
        try:
            await act()
        except VidqueueError as error:
            log.warning("reload_waits_for_database", error=error.message)
            await asyncio.sleep(RETRY_S)
        else:
            return
