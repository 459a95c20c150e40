"""The stream of a prediction: server-sent events, as the clients of Replicate read them.

Each has an id, because the client drops those without, and is called output, logs, error or done, because it raises for
every other name.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from vidqueue.api.compat.replicate import prediction_of
from vidqueue.api.compat.replicate_views import PredictionView, address_of_output
from vidqueue.api.http.context import base_of, closing_of, scope_of, services_of
from vidqueue.api.v1.events import PING, EventStream, StreamHeaders, follow, is_over, while_allowed
from vidqueue.db.tables import attempts
from vidqueue.db.tables.events import Event
from vidqueue.db.tables.jobs import JobRow
from vidqueue.errors import VidqueueError
from vidqueue.job import FINAL, State
from vidqueue.jobs import control
from vidqueue.services import Services

LINES = 1000


async def stream_prediction(request: Request, prediction_id: UUID, headers: StreamHeaders) -> Response:
    """Follow a prediction: `output`, `logs`, `error` and `done`, as server-sent events.

    An output is the address of a file, as soon as it is there, or what the model returned.
    """
    services = services_of(request)
    job = await control.read(services.database, prediction_id, owner=scope_of(request))
    telling = _Telling(services, job, base_of(request), headers.last_event_id or 0, job.attempt)
    return EventStream(while_allowed(request, telling.frames(scope_of(request))), closing_of(request))


@dataclass(slots=True)
class _Telling:
    """What one client has received of a prediction. `number` is that of the newest event that it knows."""

    services: Services
    job: JobRow
    base: str
    number: int
    attempt: int
    line: int = 0
    told: set[str] = field(default_factory=set)

    async def frames(self, owner: str | None) -> AsyncIterator[bytes]:
        """Every frame up to the end of the prediction."""
        async for events in follow(self.services, owner, self.job.id, self.number):
            if events:
                self.number = events[-1].number
            yield b"".join(map(self._frame_of, events)) + await self._log() or PING
            ends = not events or any(event.kind in {*FINAL, "updated"} for event in events)
            if ends and await is_over(self.services, self.job.id, self.number):
                yield await self._end()
                return

    def _frame_of(self, event: Event) -> bytes:
        """An output that the job has published while it runs."""
        attempt = event.data.get("attempt")
        if isinstance(attempt, int) and attempt > self.attempt:
            self.attempt, self.line = attempt, 0
        if event.kind != "output":
            return b""
        url = address_of_output(self.base, self.job.id, str(event.data.get("output")))
        return self._output(url)

    async def _log(self) -> bytes:
        """Return the log lines that have been written since the last call."""
        async with self.services.database.statement() as connection:
            rows = await attempts.read_log(connection, self.job.id, self.attempt, after=self.line, limit=LINES)
        if not rows:
            return b""
        self.line = rows[-1].number
        return self._frame("logs", "".join(f"{row.text}\n" for row in rows))

    async def _end(self) -> bytes:
        try:
            job = await control.read(self.services.database, self.job.id, owner=self.job.owner)
        except VidqueueError:
            return self._frame("done", '{"reason": "canceled"}')
        view = await prediction_of(self.base, self.services, job)
        if job.state is State.SUCCEEDED:
            return b"".join(map(self._output, _texts(view))) + self._frame("done", "{}")
        if job.state is State.FAILED:
            return self._frame("error", view.error or "") + self._frame("done", '{"reason": "error"}')
        return self._frame("done", '{"reason": "canceled"}')

    def _output(self, text: str) -> bytes:
        if text in self.told:
            return b""
        self.told.add(text)
        return self._frame("output", text)

    def _frame(self, kind: str, text: str) -> bytes:
        lines = "".join(f"data: {line}\n" for line in text.split("\n"))
        return f"event: {kind}\nid: {self.number}\n{lines}\n".encode()


def _texts(view: PredictionView) -> list[str]:
    """Each part of the output, as a text."""
    parts: list[Any] = view.output if isinstance(view.output, list) else [view.output]
    return [part if isinstance(part, str) else json.dumps(part) for part in parts]
