"""Publish the outputs of an attempt: check them, and move their bytes from the workspace into storage.

They become public with the transaction that ends the attempt, or not at all.
"""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog

from vidqueue.errors import VidqueueError
from vidqueue.job import Failed, Failure, KnownOutput, Outcome, OutputDraft, Succeeded
from vidqueue.ops import failpoints
from vidqueue.processors.outputs import check_names
from vidqueue.sanitize import sanitize_text
from vidqueue.storage.local import Storage, Stored

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Publication:
    """An output whose bytes lie in storage and whose row is not written yet."""

    draft: OutputDraft
    stored: Stored

    def row(self, processor: str, node: UUID) -> dict[str, Any]:
        """The output as vidqueue.finish() takes it. On disk it has our name; people get one that a player opens."""
        suffix = self.draft.path.suffix or mimetypes.guess_extension(self.draft.media_type) or ""
        if self.draft.name.endswith(suffix):
            suffix = ""  # outputs may be named `sprite.vtt`
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
    storage: Storage,
    outcome: Outcome,
    workspace: Path | None,
    publications: list[Publication],
    *,
    early: Collection[str] = (),
    then: Callable[[], object] | None = None,
) -> Outcome:
    """Move the outputs of a success into storage and append them to `publications`; other outcomes have none.

    `early` has the names of the outputs that the attempt has published already. `then` is called in the thread that has
    moved all of them.

    Returns the outcome, which is a failure where the outputs are not what the processor said.

    Raises:
        BaseException: whatever interrupted it; the bytes that were moved are removed, as nothing can name them yet.
    """
    if not isinstance(outcome, Succeeded):
        return outcome
    try:
        check_names(outcome.outputs, early)
        assert workspace is not None
        await adopt(storage, outcome.outputs, workspace, publications, then)
        await failpoints.reach("publish.renamed")
    except VidqueueError as error:
        return Failed(Failure.from_error(error))
    except OSError as error:
        return Failed(Failure.of("internal_error", f"An output cannot be stored: {error}"))
    except BaseException:
        storage.cleaning.submit(discard, storage, [one.stored.id for one in publications])
        raise
    return outcome


async def adopt(
    storage: Storage,
    drafts: Sequence[OutputDraft],
    workspace: Path,
    publications: list[Publication],
    then: Callable[[], object] | None = None,
) -> None:
    """Move outputs; a thread cannot be cancelled, so what it has moved is known also after a cancellation."""

    def move() -> None:
        for draft in drafts:
            known = draft.sha256 if isinstance(draft, KnownOutput) else None
            publications.append(Publication(draft, storage.adopt(draft.path, workspace, known)))
        if then is not None:
            then()

    moving = asyncio.ensure_future(storage.long_threads.run(move))
    try:
        await asyncio.shield(moving)
    finally:
        if not moving.done():
            await asyncio.wait([moving])


def discard(storage: Storage, file_ids: Sequence[UUID]) -> None:
    """Remove bytes that no row names; what cannot be removed is left to reconcile. Blocks."""
    for file_id in file_ids:
        try:
            storage.delete(file_id)
        except OSError as error:
            log.error("bytes_not_removed", file=str(file_id), error=str(error))
