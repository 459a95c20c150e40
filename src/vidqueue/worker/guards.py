"""What may end an attempt before it ends itself. Each guard waits for one reason and returns the outcome it means."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from vidqueue.db.tables import attempts
from vidqueue.errors import VidqueueError
from vidqueue.job import AttemptRef, Canceled, Failed, Failure, Interrupted, Outcome
from vidqueue.services import Services
from vidqueue.worker.reporter import Reporter

# A timer that is later than this was not late: the whole process stood still.
LONGEST_GAP_S = 2.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Lost:
    """The attempt belongs to someone else now; whatever comes of it is thrown away."""


@dataclass(frozen=True, slots=True)
class Drain:
    """The end of a daemon's lanes.

    Attributes:
        begun: no new work is taken; what runs may finish.
        hurried: what still runs is given back now.
    """

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    hurried: asyncio.Event = field(default_factory=asyncio.Event)


async def guard_lease(ref: AttemptRef, services: Services) -> Outcome | Lost:
    """Renew the lease until it is lost, or until a renewal tells of a cancel whose event was missed.

    While the database is away the work goes on, even past the lease: without the database nobody can take the job,
    and once it is back the first renewal tells whether somebody did.
    """
    lease_s = services.settings.running.lease_s
    while True:
        await asyncio.sleep(lease_s / 3)
        if (ended := await _renew(ref, services)) is not None:
            return ended


@asynccontextmanager
async def lease_kept(ref: AttemptRef, services: Services) -> AsyncIterator[None]:
    """Renew the lease for the time of the block, whatever the renewals say: hashing a large output takes long."""
    keeping = asyncio.create_task(_keep(ref, services))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _keep(ref: AttemptRef, services: Services) -> None:
    while True:
        await _renew(ref, services)
        await asyncio.sleep(services.settings.running.lease_s / 3)


async def guard_cancel(ref: AttemptRef, services: Services) -> Outcome | Lost:
    """Wait for someone to ask for the job to stop."""
    while True:
        with services.event_feed.subscribe(job_id=ref.job_id) as subscription:
            # Someone may have asked before we listened.
            if (ended := await _renew(ref, services)) is not None:
                return ended
            while (event := await subscription.next()) is not None:
                if event.kind == "cancel_requested":
                    return Canceled()
        await asyncio.sleep(0.1)


async def _renew(ref: AttemptRef, services: Services) -> Outcome | Lost | None:
    """Renew once, however long the database is away; what that says of the attempt, None for "go on"."""
    while True:
        try:
            async with services.database.transaction() as connection:
                lease_s = services.settings.running.lease_s
                cancel_requested = await attempts.renew(connection, ref, lease_s=lease_s)
        except VidqueueError as error:
            if services.database.abandoned:
                return Interrupted("the database was away when the daemon shut down")
            log.warning("lease_not_renewed", error=error.message)
            await asyncio.sleep(0.5)
            continue
        if cancel_requested is None:
            return Lost()
        return Canceled() if cancel_requested else None


async def guard_wall(timeout_s: float) -> Outcome | Lost:
    """Wait as long as the attempt may run at all."""
    await asyncio.sleep(timeout_s)
    return Failed(Failure.of("timed_out", f"The attempt ran longer than {timeout_s:g} s."))


async def guard_stall(reporter: Reporter, stall_timeout_s: float) -> Outcome | Lost:
    """Wait until there was no step forward for too long.

    A daemon that stood still itself has heard nothing and knows nothing: the time begins anew then.
    """
    deaf_until = float("-inf")
    while (left_s := max(reporter.heard_at, deaf_until) + stall_timeout_s - time.monotonic()) > 0:
        until = time.monotonic() + left_s
        await asyncio.sleep(left_s)
        if time.monotonic() - until > LONGEST_GAP_S:
            deaf_until = time.monotonic()
    return Failed(Failure.of("stalled", f"There was no progress for {stall_timeout_s:g} s."))


async def guard_drain(drain: Drain, patience_s: float) -> Outcome | Lost:
    """Wait for a drain, and then for as long as it lets running jobs go on."""
    await drain.begun.wait()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            await drain.hurried.wait()
    return Interrupted("the daemon shut down")
