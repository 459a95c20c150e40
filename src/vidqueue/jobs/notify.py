"""Notify: runs a command of the operator when a job ends, or when too many wait. For people without a webhook receiver.

The event log is the queue: one command runs at a time, and events are read as they can be told. What happens while no
daemon runs is not told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from typing import Any
from uuid import UUID

import structlog
from pydantic_core import to_json

from vidqueue.db.event_feed import EventFeed
from vidqueue.db.pool import Database
from vidqueue.db.tables import events, jobs
from vidqueue.db.tables.events import Event
from vidqueue.errors import VidqueueError
from vidqueue.settings.sections import NotifySettings

PAGE = 200
# The log is read without a hint too, and the backlog is looked at this often.
POLL_S = 15.0
# The backlog is told again once it was shorter than this share of the limit.
SHORT = 0.8
OCCASIONS = {"succeeded": "success", "failed": "failure"}
# What programs that show something to a user need; nothing that the daemon was configured with.
KEPT = (
    *("PATH", "HOME", "LANG", "LC_ALL", "USER"),
    *("DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"),
)

log = structlog.get_logger(__name__)


class Notifier:
    """Runs the command of `[notify]`, from now on."""

    def __init__(self, database: Database, event_feed: EventFeed, settings: NotifySettings) -> None:
        self._database = database
        self._event_feed = event_feed
        self._settings = settings
        self._position = event_feed.position
        self._backlog_told = False

    async def run(self) -> None:
        """Follow the event log until cancelled."""
        with self._event_feed.wakes_on(frozenset({*OCCASIONS, "queued"})) as waker:
            while True:
                waker.clear()
                with contextlib.suppress(VidqueueError):
                    while await self._tell_page():
                        pass
                    await self._tell_backlog()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await waker.wait()

    async def _tell_page(self) -> bool:
        """Tell of the next events; True if there may be more."""
        async with self._database.statement() as connection:
            page = await events.after(connection, self._position, limit=PAGE)
        for event in page:
            # Before the command runs: one that fails, or outlives the daemon, is not run again.
            self._position = event.number
            if (occasion := OCCASIONS.get(event.kind)) in self._settings.on and occasion and event.job_id:
                await self._tell_end(occasion, event, event.job_id)
        return len(page) == PAGE

    async def _tell_end(self, occasion: str, event: Event, job_id: UUID) -> None:
        async with self._database.statement() as connection:
            job = await jobs.get(connection, job_id)
        error = event.data.get("error") or {}
        await self._command(
            occasion,
            {
                "job_id": str(job_id),
                "at": event.at,
                "owner": event.owner,
                "processor": job.processor if job else None,
                "title": job.title if job else None,
                "source": job.source if job else None,
                "error_code": error.get("code"),
                "error_message": error.get("message"),
                "error_hint": error.get("hint"),
            },
        )

    async def _tell_backlog(self) -> None:
        limit = self._settings.backlog
        if not limit or "backlog" not in self._settings.on:
            return
        async with self._database.statement() as connection:
            waiting = sum(one.jobs for one in await jobs.waiting(connection))
        if waiting >= limit and not self._backlog_told:
            self._backlog_told = True
            await self._command("backlog", {"waiting": waiting})
        elif waiting < limit * SHORT:
            self._backlog_told = False

    async def _command(self, occasion: str, facts: dict[str, Any]) -> None:
        """Run the command with the facts as JSON on its input, and as variables."""
        told = {name: value for name, value in facts.items() if value is not None}
        variables = {name: os.environ[name] for name in KEPT if name in os.environ}
        variables |= {f"NOTIFY_{name.upper()}": str(value) for name, value in told.items()}
        try:
            process = await asyncio.create_subprocess_exec(
                *self._settings.command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=variables | {"NOTIFY_OCCASION": occasion}, cwd="/", start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            log.warning("notify_command_not_started", error=str(error))
            return
        exit_code = await self._end_of(process, to_json({"occasion": occasion, **told}))
        if exit_code:
            log.warning("notify_command_failed", exit_code=exit_code, occasion=occasion)

    async def _end_of(self, process: asyncio.subprocess.Process, told: bytes) -> int | None:
        """Return the exit code of the command; one that takes too long is killed with its process group."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await process.communicate(told)
        except TimeoutError:
            log.warning("notify_command_took_too_long", timeout_s=self._settings.timeout_s)
        finally:
            # What a command in time has left in the background is its own.
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return process.returncode
