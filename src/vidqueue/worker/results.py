"""The result cache: reuses the outputs of an earlier job that did the same work, and records those of this one.

A job whose result is known is an attempt like any other, on a lane, which ends as soon as its inputs are staged. To
have it succeed without a lane would be quicker where all are busy, but then two ways would lead to an end: the fence,
dependents, batches, webhooks, fair shares and the invariants hold for the one that there is. The lane is also where the
bytes of the inputs, and of the outputs, can be looked at.

Outputs are shared by hard links, so neither retention nor a person who removes the earlier job takes them away. Only
jobs of one owner share them: a hash proves nothing (see `jobs/known_files`). The database being away, or a file being
gone, only means that the work is done.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import structlog

from vidqueue.db.tables import results
from vidqueue.db.tables.attempts import Begun
from vidqueue.db.tables.results import KnownFile
from vidqueue.db.tables.watch_folders import Signature
from vidqueue.errors import VidqueueError
from vidqueue.job import KnownOutput, Outcome, Succeeded
from vidqueue.jobs.inputs import Inputs, StagedInput
from vidqueue.jobs.parsing import parsed
from vidqueue.jobs.watch_walk import digest
from vidqueue.media import encoders
from vidqueue.media.jail.sandbox import ffmpeg_path
from vidqueue.processors import registry
from vidqueue.processors.base import Parameters, Processor
from vidqueue.processors.media import MediaField, with_reference
from vidqueue.services import Services
from vidqueue.settings.secrets import revealed
from vidqueue.storage.local import Storage

# Larger files under inputs.roots are not read a second time for their digest. The digests of stored files are known.
LARGEST_READ = 16 << 30

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ResultKey:
    """The key of a result, and the state of the files under inputs.roots from which it was computed."""

    text: str
    files: Mapping[Path, tuple[int, ...]]


async def key_of(
    begun: Begun, params: Parameters, media: Sequence[MediaField], staged: Mapping[str, StagedInput],
    *, inputs: Inputs, touch: Callable[[], None],
) -> ResultKey | None:  # fmt: skip
    """Return the cache key of a result; None if its processor is not deterministic, or a file cannot be read.

    Args:
        begun: the attempt.
        params: the parameters of the job.
        media: every place of the parameters that names a file.
        staged: the local file of each reference.
        inputs: reads files under inputs.roots.
        touch: called while a file is read, so that this does not count as a stall.
    """
    processor = registry.find(begun.processor)
    if not processor.deterministic_for(params):
        return None
    digests, files = dict[str, str](), dict[Path, tuple[int, ...]]()
    for reference, one in staged.items():
        sha256 = one.sha256
        if sha256 is None:
            try:
                files[one.path], sha256 = await _read(one.path, inputs, touch)
            except (VidqueueError, OSError):
                return None
        if sha256 is None:
            return None
        digests[reference] = f"sha256:{sha256}"
    return ResultKey(await parsed(begun.input, _text, processor, params, media, digests), files)


async def reuse(key: ResultKey | None, begun: Begun, services: Services, workspace: Path) -> Succeeded | None:
    """Return the success of a job whose result is known, with its outputs in the workspace; None if it must run."""
    if key is None:
        return None
    storage = services.storage
    try:
        async with services.database.statement() as connection:
            found = await results.known(
                connection, key.text, job_id=begun.ref.job_id, owner=begun.owner, node=storage.node
            )
        for job_id, outputs in found:
            linked = await storage.threads.run(_linked, storage, outputs, workspace)
            if linked is not None:
                log.info("result_known", source=str(job_id))
                return Succeeded(tuple(linked), {"cached_from": str(job_id)}, key.text, job_id)
    except VidqueueError as error:
        log.warning("result_not_looked_up", error=error.message)
    return None


async def remembered(outcome: Outcome, key: ResultKey | None, services: Services) -> Outcome:
    """Return the outcome with its key, if later jobs may take its outputs.

    They may not where memory has run out, because then other parameters were used than asked for, nor where a file was
    written to meanwhile: who knows which bytes were read; nor where `encoder: auto` has taken the encoder of a GPU,
    which promises no same bytes.
    """
    if key is None or not isinstance(outcome, Succeeded) or outcome.metrics.get("degraded"):
        return outcome
    if any(one.facts.get("encoder") in encoders.ON_GPU.values() for one in outcome.outputs):
        return outcome
    for path, before in key.files.items():
        try:
            threads = await services.inputs.roots.threads_of(path)
            if await threads.run(_looks, path) != before:
                return outcome
        except (VidqueueError, OSError):
            return outcome
    return replace(outcome, key=key.text)


async def _read(path: Path, inputs: Inputs, touch: Callable[[], None]) -> tuple[tuple[int, ...], str | None]:
    """Return the state of a file and its sha256; None if it is too large, or changes while it is read."""
    threads = await inputs.roots.threads_of(path)
    looks = await threads.run(_looks, path)
    if looks[0] > LARGEST_READ:
        return looks, None
    return looks, await digest(path, Signature(looks[0], looks[1]), threads, touch)


def _looks(path: Path) -> tuple[int, ...]:
    """Return size, mtime, ctime and identity of a file."""
    facts = os.stat(path, follow_symlinks=False)  # noqa: PTH116 - as `digest` does
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino, facts.st_dev


def _text(processor: Processor, params: Parameters, media: Sequence[MediaField], digests: Mapping[str, str]) -> str:
    """Return the sha256 of everything that determines the result, with references replaced by digests, in hex."""
    asked: Any = params.model_dump(mode="json", by_alias=True)
    for one in media:
        asked = with_reference(asked, one.path, digests[one.reference])
    made_by = [*_made_by(type(processor)), ffmpeg_path().name, revealed(processor.config)]
    return hashlib.sha256(json.dumps([made_by, asked], sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=64)
def _made_by(kind: type[Processor]) -> tuple[str, ...]:
    """Return name and version of a processor and the digest of its source, because authors forget to raise versions."""
    source = getattr(sys.modules.get(kind.__module__), "__file__", None)
    code = Path(source).read_bytes() if source else b""
    return kind.name, registry.versions().get(kind.name, ""), hashlib.sha256(code).hexdigest()


def _linked(storage: Storage, outputs: Sequence[KnownFile], workspace: Path) -> list[KnownOutput] | None:
    """Hard-link these outputs into the workspace; None, and nothing left there, if one is gone. It blocks."""
    made = list[KnownOutput]()
    for number, one in enumerate(outputs):
        path = workspace / f".known-{number}{Path(one.filename).suffix}"
        try:
            path.hardlink_to(storage.path(one.file_id))
            made.append(KnownOutput(one.name, path, one.media_type, one.facts or {}, one.sha256))
            whole = path.stat().st_size == one.size
        except OSError as error:
            log.warning("known_output_not_linked", file=str(one.file_id), error=str(error))
            whole = False
        if not whole:
            for output in made:
                output.path.unlink(missing_ok=True)
            return None
    return made
