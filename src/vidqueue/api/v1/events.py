"""Server-sent events: the numbered log, replayed from the database and then live, without gap or duplicate.

A job's stream tells everything from its first event (or from after the number the client names) and ends with the
job; the stream of all jobs starts live unless a number is named. Written by hand, because an event is encoded once
however many listen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated
from uuid import UUID

import structlog
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vidqueue.api.http.context import closing_of, keyring_of, principal_of, scope_of, services_of
from vidqueue.db.event_log import PAGE
from vidqueue.db.pool import Connection
from vidqueue.db.tables import events, jobs
from vidqueue.db.tables.events import Event
from vidqueue.errors import VidqueueError
from vidqueue.job import FINAL
from vidqueue.services import Services

PING_S = 15.0
# A client that reads nothing for so long (at most twice that) is dropped; it may come back with the last number it has.
SEND_TIMEOUT_S = 30.0

GREETING = b"retry: 3000\n\n"
PING = b": ping\n\n"

# Kinds of events after which a job may have ended, or may be deleted.
_MAY_END = frozenset({*FINAL, "updated"})

EventNumber = Annotated[int, Field(ge=0, le=2**63 - 1)]

log = structlog.get_logger(__name__)


class StreamQuery(BaseModel):
    """Where a stream begins."""

    model_config = ConfigDict(extra="forbid")

    after: EventNumber | None = Field(
        None,
        description="Begin after this number, for clients that set no header. A number above that of the newest event "
        "means from now on.",
    )


class StreamHeaders(BaseModel):
    """What EventSource sends when it connects again."""

    last_event_id: EventNumber | None = Field(
        None, alias="Last-Event-ID", description="As `after`, over which it takes precedence."
    )


async def job_events(request: Request, job_id: UUID, query: StreamQuery, headers: StreamHeaders) -> Response:
    """Follow one job.

    Sends every event of the job, from the first or from after the number given, and ends when the job has ended.
    Answers 204 when the job has ended and no event is left to send, which makes EventSource stop.
    """
    services, owner = services_of(request), scope_of(request)
    async with services.event_feed.log.connection() as connection:
        after = await _begin(connection, query, headers) or 0
        if await jobs.state(connection, job_id, owner=owner) is None:
            raise VidqueueError("not_found", f"There is no job {job_id}.")
    if await is_over(services, job_id, after):
        return Response(status_code=204)
    return EventStream(while_allowed(request, _until_over(services, job_id, owner, after)), closing_of(request))


async def all_events(request: Request, query: StreamQuery, headers: StreamHeaders) -> Response:
    """Follow all jobs.

    Starts with what happens from now on, or replays everything after the number given.
    """
    services, owner = services_of(request), scope_of(request)
    async with services.event_feed.log.connection() as connection:
        after = await _begin(connection, query, headers)
        if after is None:
            after = await events.latest(connection)
    return EventStream(while_allowed(request, _without_end(services, owner, after)), closing_of(request))


class EventStream(Response):
    """Sends frames until they end, the client leaves or stalls, or the server closes."""

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncIterator[bytes], closing: asyncio.Event) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        # nginx would otherwise collect events until its buffer is full.
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._frames = frames
        self._closing = closing
        self._sending_since: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] != "HEAD" and not await self._fed(receive, send):
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _fed(self, receive: Receive, send: Send) -> bool:
        """Send the frames; False if the client is gone."""
        feeding = asyncio.create_task(self._feed(send))
        leaving = asyncio.create_task(_client_left(receive))
        closing = asyncio.create_task(self._closing.wait())
        tasks = (feeding, leaving, closing)
        try:
            while not (await asyncio.wait(tasks, timeout=SEND_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED))[0]:
                if self._is_stalled():
                    log.info("event_stream_dropped", reason="the client reads nothing")
                    return False
            return feeding.result() if feeding.done() else not leaving.done()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _feed(self, send: Send) -> bool:
        async with aclosing(self._frames) as frames:  # type: ignore[type-var]
            try:
                async for frame in frames:
                    self._sending_since = time.monotonic()
                    await send({"type": "http.response.body", "body": frame, "more_body": True})
                    self._sending_since = None
            except VidqueueError as error:
                # The response has begun; the client comes back with the last number it has.
                log.warning("event_stream_ended", error=error.message)
        return True

    def _is_stalled(self) -> bool:
        return self._sending_since is not None and time.monotonic() - self._sending_since >= SEND_TIMEOUT_S


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_allowed(request: Request, frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The frames, until the key of the request is revoked; nothing is told after that."""
    keyring, principal = keyring_of(request), principal_of(request)
    async with aclosing(frames):  # type: ignore[type-var]
        async for frame in frames:
            if not await keyring.holds(principal):
                return
            yield frame


async def _until_over(services: Services, job_id: UUID, owner: str | None, after: int) -> AsyncIterator[bytes]:
    yield GREETING
    async for told in follow(services, owner, job_id, after):
        if told:
            after = told[-1].number
            yield _frames(told)
        ends = not told or any(event.kind in _MAY_END for event in told)
        if ends and await is_over(services, job_id, after):
            return
        if not told:
            yield PING


async def _without_end(services: Services, owner: str | None, after: int) -> AsyncIterator[bytes]:
    yield GREETING
    async for told in follow(services, owner, None, after):
        yield _frames(told) if told else PING


async def follow(services: Services, owner: str | None, job_id: UUID | None, after: int) -> AsyncIterator[list[Event]]:
    """Every event above `after`, as many at a time as there are; none after a pause. Ends when the feed closes."""
    while True:
        # Subscribed before the log is read, so that nothing falls between the two.
        with services.event_feed.subscribe(job_id=job_id, owner=owner) as subscription:
            async for page in _replay(services, owner, job_id, after):
                after = page[-1].number
                yield page
            while (live := await subscription.next_many(PING_S)) or not subscription.closed:
                if subscription.overflowed:
                    # What is still queued has a gap; the log has none.
                    break
                new = [event for event in live if event.number > after]
                if new:
                    after = new[-1].number
                if new or not live:
                    yield new
        if not subscription.overflowed:
            return


async def _replay(services: Services, owner: str | None, job_id: UUID | None, after: int) -> AsyncIterator[list[Event]]:
    while page := await services.event_feed.log.page(after, job_id=job_id, owner=owner):
        yield page
        if len(page) < PAGE:
            return
        after = page[-1].number


async def is_over(services: Services, job_id: UUID, after: int) -> bool:
    """True if the job has ended (or is deleted) and has no event above `after`; a job may be retried after its end."""
    async with services.event_feed.log.connection() as connection:
        state = await jobs.state(connection, job_id)
        if state is not None and state not in FINAL:
            return False
        return not await events.after(connection, after, job_id=job_id, limit=1)


async def _begin(connection: Connection, query: StreamQuery, headers: StreamHeaders) -> int | None:
    """Return the number that the client names, at most that of the newest event.

    A number beyond it comes from another database, or from this one before it was restored. Taken as it is, it would
    hide every event until the numbers have caught up.
    """
    named = headers.last_event_id if headers.last_event_id is not None else query.after
    return None if named is None else min(named, await events.latest(connection))


def _frames(told: list[Event]) -> bytes:
    return b"".join(map(_frame, told))


def _frame(event: Event) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.number, event.kind.encode(), event.encoded)
