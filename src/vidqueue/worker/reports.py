"""Passes on what an executor reports of one attempt: progress and log lines, previews, and outputs."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass

from vidqueue.job import OutputDraft
from vidqueue.worker.early_outputs import EarlyOutputs
from vidqueue.worker.executor.messages import Preview
from vidqueue.worker.executor.parent import Heard
from vidqueue.worker.previews import Previews
from vidqueue.worker.reporter import Reporter


@dataclass(frozen=True, slots=True)
class Reports:
    """What takes the reports of one attempt."""

    reporter: Reporter
    previews: Previews
    early: EarlyOutputs

    def hear(self, message: Heard) -> None:
        """Pass a report on; never blocks."""
        match message:
            case OutputDraft():
                self.early.hear(message)
            case Preview(picture):
                with contextlib.suppress(ValueError):
                    self.previews.hear(base64.b64decode(picture, validate=True))
            case _:
                self.reporter.hear(message)

    async def close(self, *, succeeded: bool) -> None:
        """Stop publishing, and write what is buffered."""
        await self.early.close()
        await self.previews.close()
        await self.reporter.close(succeeded=succeeded)
