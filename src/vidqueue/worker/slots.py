"""Slots: keeps more jobs of one daemon than allowed from using the same server at a time."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable

from vidqueue.db.tables.attempts import Begun
from vidqueue.errors import VidqueueError
from vidqueue.job import Outcome, Waiting
from vidqueue.processors import registry
from vidqueue.processors.base import Processor, Resource

# A job without a slot comes back after so many seconds, and the later the more of them came lately: each time is an
# attempt in its history.
RETRY_S, LONGEST_RETRY_S = 3.0, 300.0
LATELY_S = 60.0


class Slots:
    """What the running attempts of all lanes use. Only the event loop's thread looks at it."""

    def __init__(self) -> None:
        self._used = Counter[str]()
        self._turned_away = dict[str, deque[float]]()

    async def run(self, begun: Begun, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Do the work of an attempt with the slot that it needs; if there is none, the job is put back."""
        resource = _resource_of(begun)
        if resource is None:
            return await work()
        if self._used[resource.name] >= resource.capacity:
            return self._refusal(resource)
        self._used[resource.name] += 1
        try:
            return await work()
        finally:
            self._used[resource.name] -= 1

    def _refusal(self, resource: Resource) -> Waiting:
        now = time.monotonic()
        lately = self._turned_away.setdefault(resource.name, deque(maxlen=int(LONGEST_RETRY_S)))
        lately.append(now)
        while lately[0] < now - LATELY_S:
            lately.popleft()
        retry_s = min(LONGEST_RETRY_S, RETRY_S + len(lately))
        return Waiting("endpoint_busy", f"Other jobs use {resource.label}.", retry_s, limit_s=None)


def _resource_of(begun: Begun) -> Resource | None:
    processor = registry.catalogue().get(begun.processor)
    if processor is None or type(processor).resource_for is Processor.resource_for:
        return None
    try:
        return processor.resource_for(registry.parse(processor, begun.input))
    except VidqueueError:
        return None  # staging says what is wrong
