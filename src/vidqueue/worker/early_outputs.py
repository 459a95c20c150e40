"""Publishes the outputs that a processor hands over while it runs: one after the other, beside its work."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path

import structlog

from vidqueue.errors import VidqueueError
from vidqueue.job import AttemptRef, Failed, Failure, Outcome, OutputDraft, Succeeded
from vidqueue.jobs.early_outputs import publish_early
from vidqueue.processors.outputs import check_name
from vidqueue.services import Services

log = structlog.get_logger(__name__)


class EarlyOutputs:
    """The early outputs of one attempt. `hear` never blocks; `names` has those that are public."""

    def __init__(self, services: Services, ref: AttemptRef, *, workspace: Path, processor: str) -> None:
        self._services = services
        self._ref = ref
        self._workspace = workspace
        self._processor = processor
        self._waiting: deque[OutputDraft] = deque()
        self._task: asyncio.Task[None] | None = None
        self._failure: Failure | None = None
        self.names: set[str] = set()

    def hear(self, draft: OutputDraft) -> None:
        """Publish this output as soon as those before it are published."""
        self._waiting.append(draft)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._publish_all(), name="early-outputs")

    async def settled(self, outcome: Outcome) -> Outcome:
        """Wait until everything is published, and return the outcome: a failure if one of them cannot be."""
        if isinstance(outcome, Succeeded) and self._task is not None:
            await self._task
        return Failed(self._failure) if self._failure is not None and isinstance(outcome, Succeeded) else outcome

    async def close(self) -> None:
        """Stop publishing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _publish_all(self) -> None:
        """Publish what waits, until one cannot be: the attempt cannot succeed any more then."""
        while self._waiting and self._failure is None:
            draft = self._waiting.popleft()
            try:
                check_name(draft.name, self.names)
                public = await publish_early(
                    self._services.database, self._services.storage, self._ref, draft,
                    workspace=self._workspace, processor=self._processor,
                )  # fmt: skip
            except VidqueueError as error:
                self._failure = Failure.from_error(error)
            except Exception as error:
                log.exception("early_output_not_published", output=draft.name)
                self._failure = Failure.of("internal_error", f"An output cannot be published: {error}")
            else:
                if not public:
                    return  # the guard of the attempt is about to learn why
                self.names.add(draft.name)
