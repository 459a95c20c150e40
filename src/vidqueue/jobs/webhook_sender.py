"""Sends webhooks: at least once, with backoff over a day, and bounded for each receiver, so that none delays another.

The rows of the deliveries are written in the transaction of the change that they tell. Any number of daemons may send:
each claims rows that no other one has, and a claim runs out. A receiver that does not answer rests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from vidqueue.db.event_feed import EventFeed
from vidqueue.db.pool import Database
from vidqueue.db.tables import jobs, webhooks
from vidqueue.db.tables.jobs import JobRow
from vidqueue.db.tables.webhooks import Claimed
from vidqueue.errors import VidqueueError
from vidqueue.job import Backoff, backoff_s
from vidqueue.jobs.webhook_secret import WebhookSecret
from vidqueue.ops import own_thread
from vidqueue.ops.addresses import AddressGuard, parse_url
from vidqueue.ops.http_client import ExchangeError, Stop, exchange
from vidqueue.ops.supervise import supervise
from vidqueue.ops.watchdog import Heartbeat

# Deliveries at once, in all and to one receiver.
AT_ONCE = 64
EACH = 2
# Longest time that one delivery may take, and when another sender may assume that this one died.
PATIENCE_S = 15.0
LEASE_S = 60.0
BACKOFF = Backoff(5, 3 * 3600)
LONGEST_RETRY_AFTER_S = 3600.0
# A receiver that does not answer is left alone for a while, twice as long each time.
FIRST_REST_S, LONGEST_REST_S = 1.0, 60.0
# How often to look without an event: while deliveries come, and else.
TICK_S, IDLE_TICK_S = 1.0, 5.0
# How soon to look again after an event, so that a busy queue without webhooks costs one query a second.
PAUSE_S = 1.0
BUSY_S = 30.0
WAKING = frozenset({"running", "succeeded", "failed", "canceled"})

Render = Callable[[JobRow], dict[str, Any]]
RenderPrediction = Callable[[JobRow, str, str], Awaitable[str]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of one try. `rests_s` is how long the receiver shall be left alone; 0 if it answered."""

    status: int | None = None
    error: str | None = None
    final: bool = False
    retry_after_s: float = 0.0
    unreachable: bool = False


class Sender:
    """Sends deliveries that are due.

    `render` makes the JSON of a job as the HTTP API shows it, `render_prediction` as clients of Replicate know it: it
    gets the address of the daemon and the kind of the event.
    """

    def __init__(
        self,
        database: Database,
        event_feed: EventFeed,
        heartbeat: Heartbeat,
        guard: AddressGuard,
        secret: WebhookSecret,
        render: Render,
        render_prediction: RenderPrediction,
    ) -> None:
        self._render_prediction = render_prediction
        self._database = database
        self._event_feed = event_feed
        self._heartbeat = heartbeat
        self._guard = guard
        self._secret = secret
        self._render = render
        self._sending: set[asyncio.Task[None]] = set()
        self._of_receiver: Counter[str] = Counter()
        self._rests: dict[str, tuple[int, float]] = {}
        self._found_at = float("-inf")

    async def run(self) -> None:
        """Send for ever."""
        try:
            with self._event_feed.wakes_on(WAKING) as wake:
                while True:
                    wake.clear()
                    self._heartbeat()
                    looked_at = time.monotonic()
                    with contextlib.suppress(VidqueueError):  # the database is away
                        await self._send_due(wake)
                    await self._pause(wake, looked_at)
        finally:
            for task in tuple(self._sending):
                task.cancel()

    async def _pause(self, wake: asyncio.Event, looked_at: float) -> None:
        busy = time.monotonic() - self._found_at < BUSY_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK_S if busy else IDLE_TICK_S):
                await wake.wait()
        if not busy:
            await asyncio.sleep(max(0.0, looked_at + PAUSE_S - time.monotonic()))

    async def _send_due(self, wake: asyncio.Event) -> None:
        free = AT_ONCE - len(self._sending)
        if free <= 0:
            return
        now = time.monotonic()
        resting = {receiver for receiver, (_, until) in self._rests.items() if until > now}
        full = {receiver for receiver, number in self._of_receiver.items() if number >= EACH}
        async with self._database.statement() as connection:
            claimed = await webhooks.claim(connection, limit=free, each=EACH, busy=resting | full, lease_s=LEASE_S)
        if claimed:
            self._found_at = now
        for one in claimed:
            self._of_receiver[one.receiver] += 1
            task = asyncio.create_task(self._deliver(one, wake), name="webhook")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _deliver(self, claimed: Claimed, wake: asyncio.Event) -> None:
        """Send one delivery and write what came of it. If the database is away, it is sent again after the lease."""
        try:
            async with self._database.statement() as connection:
                job = await jobs.get(connection, claimed.job_id)
            if job is None:
                return
            async with self._posted(claimed, await self._body(claimed, job)) as answered:
                self._let_rest(claimed.receiver, answered)
                await self._write(claimed, answered)
        except VidqueueError as error:
            log.warning("webhook_not_written", delivery=str(claimed.id), error=error.message)
        finally:
            self._of_receiver[claimed.receiver] -= 1
            if not self._of_receiver[claimed.receiver]:
                del self._of_receiver[claimed.receiver]
            wake.set()

    async def _body(self, claimed: Claimed, job: JobRow) -> str:
        if claimed.prediction_base is not None:
            return await self._render_prediction(job, claimed.prediction_base, claimed.kind)
        shown = self._render(job) | claimed.data
        kind, at = f"job.{claimed.kind}", claimed.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return json.dumps({"type": kind, "timestamp": at, "data": shown}, ensure_ascii=False, separators=(",", ":"))

    @asynccontextmanager
    async def _posted(self, claimed: Claimed, body: str) -> AsyncIterator[Answered]:
        """Post a delivery and yield the answer; a thread that still hangs after the block keeps its place."""
        stop = Stop()
        ended = own_thread.begin(lambda: self._post(claimed, body, stop), "webhook")
        try:
            await asyncio.wait([ended], timeout=PATIENCE_S)
            if ended.done():
                yield ended.result()
            else:
                stop.stop()
                yield Answered(error=f"no answer within {PATIENCE_S:g} s", unreachable=True)
                await asyncio.wait([ended])
        finally:
            stop.stop()
            ended.cancel()

    def _post(self, claimed: Claimed, body: str, stop: Stop) -> Answered:
        try:
            url, now, message_id = parse_url(claimed.url), datetime.now(UTC), f"msg_{claimed.id.hex}"
            headers = {
                "Content-Type": "application/json",
                "User-Agent": "vidqueue",
                "webhook-id": message_id,
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": self._secret.sign(message_id, now, body),
            }
            with exchange(
                url, self._guard, stop, method="POST", headers=headers, body=body.encode(), idle_s=PATIENCE_S
            ) as answer:
                return _judged(answer.status, answer.headers.get("retry-after", ""))
        except VidqueueError as error:
            # An address that is forbidden, or a secret that cannot be read: a person has to do something.
            return Answered(error=error.message, final=error.code in ("invalid_url", "address_forbidden"))
        except ExchangeError as error:
            return Answered(error=str(error)[:500], unreachable=True)

    def _let_rest(self, receiver: str, answered: Answered) -> None:
        if not answered.unreachable:
            self._rests.pop(receiver, None)
            return
        failures = self._rests.get(receiver, (0, 0.0))[0] + 1
        rest_s = max(min(FIRST_REST_S * 2.0 ** (failures - 1), LONGEST_REST_S), answered.retry_after_s)
        self._rests[receiver] = (min(failures, 16), time.monotonic() + rest_s)

    async def _write(self, claimed: Claimed, answered: Answered) -> None:
        async with self._database.statement() as connection:
            if claimed.kind == "progress":
                # The next one tells more. None of them is kept.
                await webhooks.drop(connection, claimed.id)
            elif answered.error is None:
                await webhooks.delivered(connection, claimed.id, status=answered.status or 0)
            else:
                state = await webhooks.failed(
                    connection, claimed.id, status=answered.status, error=answered.error, final=answered.final,
                    delay_s=max(backoff_s(claimed.tries, BACKOFF), answered.retry_after_s),
                )  # fmt: skip
                told = {"delivery": str(claimed.id), "receiver": claimed.receiver, "error": answered.error}
                log.warning("webhook_failed", **told, tries=claimed.tries, state=state)
            if answered.status == 410 and claimed.webhook_id is not None:
                await webhooks.disable(connection, claimed.webhook_id)


def _judged(status: int, retry_after: str) -> Answered:
    if 200 <= status < 300:
        return Answered(status)
    error = f"the receiver answered {status}"
    if 300 <= status < 400:
        return Answered(status, f"{error}; redirects are not followed")
    told = retry_after.strip()
    wait_s = float(told) if told.isascii() and told.isdecimal() and len(told) <= 6 else 0.0
    wait_s = min(wait_s, LONGEST_RETRY_AFTER_S)
    return Answered(status, error, final=status == 410, retry_after_s=wait_s, unreachable=status in (429, 503))


@asynccontextmanager
async def sending(sender: Sender) -> AsyncIterator[None]:
    """Send for the time of the block."""
    task = supervise(sender.run, "webhooks")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
