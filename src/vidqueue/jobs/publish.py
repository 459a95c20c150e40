"""Publish the outputs of an attempt: check them, and move their bytes from the workspace into storage.

They become public with the transaction that ends the attempt, or not at all.
"""

from __future__ import annotations

import asyncio
import mimetypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog

from vidqueue.errors import VidqueueError
from vidqueue.job import Failed, Failure, Outcome, OutputDraft, Succeeded
from vidqueue.ops import failpoints
from vidqueue.sanitize import sanitize_text
from vidqueue.storage.local import Storage, Stored

log = structlog.get_logger(__name__)

# As the table `outputs` has it.
OUTPUT_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Publication:
    """An output whose bytes lie in storage and whose row is not written yet."""

    draft: OutputDraft
    stored: Stored

    def row(self, processor: str, node: UUID) -> dict[str, Any]:
        """The output as vidqueue.finish() takes it. On disk it has our name; people get one that a player opens."""
        suffix = self.draft.path.suffix or mimetypes.guess_extension(self.draft.media_type) or ""
        return {
            "name": self.draft.name,
            "id": str(self.stored.id),
            "filename": sanitize_text(f"{processor}-{self.draft.name}{suffix}"[-255:]),
            "media_type": self.draft.media_type,
            "size": self.stored.size,
            "sha256": self.stored.sha256,
            "facts": self.draft.facts,
            "node": str(node),
        }


async def publish(
    storage: Storage, outcome: Outcome, workspace: Path | None, publications: list[Publication]
) -> Outcome:
    """Move the outputs of a success into storage and append them to `publications`; other outcomes have none.

    Returns the outcome, which is a failure where the outputs are not what the processor said.

    Raises:
        BaseException: whatever interrupted it; the bytes that were moved are removed, as nothing can name them yet.
    """
    if not isinstance(outcome, Succeeded):
        return outcome
    try:
        _check_names(outcome.outputs)
        assert workspace is not None
        for draft in outcome.outputs:
            await _adopt(storage, draft, workspace, publications)
            await failpoints.reach("publish.renamed")
    except VidqueueError as error:
        return Failed(Failure.from_error(error))
    except OSError as error:
        return Failed(Failure.of("internal_error", f"An output cannot be stored: {error}"))
    except BaseException:
        storage.cleaning.submit(discard, storage, list(publications))
        raise
    return outcome


async def _adopt(storage: Storage, draft: OutputDraft, workspace: Path, publications: list[Publication]) -> None:
    """Move one output; a thread cannot be cancelled, so what it has moved is known also after a cancellation."""
    moving = asyncio.ensure_future(storage.long_threads.run(storage.adopt, draft.path, workspace))
    try:
        await asyncio.shield(moving)
    finally:
        if not moving.done():
            await asyncio.wait([moving])
        if not moving.cancelled() and moving.exception() is None:
            publications.append(Publication(draft, moving.result()))


def discard(storage: Storage, publications: Sequence[Publication]) -> None:
    """Remove bytes that no row names; what cannot be removed is left to reconcile. Blocks."""
    for publication in publications:
        try:
            storage.delete(publication.stored.id)
        except OSError as error:
            log.error("bytes_not_removed", file=str(publication.stored.id), error=str(error))


def _check_names(outputs: tuple[OutputDraft, ...]) -> None:
    if not outputs:
        raise VidqueueError("bad_output", "The processor returned no output.")
    names = [draft.name for draft in outputs]
    for name in names:
        if not OUTPUT_NAME.fullmatch(name) or names.count(name) > 1:
            raise VidqueueError("bad_output", f"The output name {name!r} is not allowed, or there twice.")
