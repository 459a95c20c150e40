"""Stages an attempt: resolves its media references to local files, and makes the order for the executor."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidqueue.db.tables import attempts
from vidqueue.db.tables.attempts import Begun
from vidqueue.errors import DATABASE_BUSY, VidqueueError
from vidqueue.job import Failed, Failure, Interrupted
from vidqueue.jobs.fetches import FetchLaterError
from vidqueue.jobs.inputs import StagedInput
from vidqueue.jobs.parsing import accepted
from vidqueue.ops.addresses import is_url
from vidqueue.processors import registry
from vidqueue.processors.base import Parameters, Processor
from vidqueue.processors.media import MediaField
from vidqueue.progress import Progress
from vidqueue.services import Services
from vidqueue.settings.secrets import revealed
from vidqueue.worker import results
from vidqueue.worker.executor.messages import RunJob
from vidqueue.worker.reporter import Reporter
from vidqueue.worker.results import ResultKey

# A path may exist on another machine only, and another daemon may read other folders.
PERHAPS_ELSEWHERE = frozenset({"input_not_found", "input_forbidden"})
# Another lane may be able to do what this one cannot: the job is given back, and waits a moment.
ELSEWHERE = frozenset({"unknown_processor", "file_elsewhere"})
ELSEWHERE_S = 5.0
# A folder, or the data folder, does not respond: no job fails for that. Each try is an attempt in the job's history.
UNREACHABLE = frozenset({"input_unreachable", "storage_unreachable"})
UNREACHABLE_S = 30.0
RETRY_S = 0.5
# The folder in the workspace for inputs that are not where they are.
STAGED = ".inputs"
# The folder of the data folder in which processors keep what may be used again; it may be removed at any time.
CACHE = "cache"


@dataclass(frozen=True, slots=True)
class Staged:
    """The order for the executor, and the cache key of its result, if other jobs may reuse it."""

    order: RunJob
    key: ResultKey | None


async def stage(begun: Begun, services: Services, workspace: Path, reporter: Reporter) -> Staged | Failed | Interrupted:
    """Return the order for the executor, or the outcome of an attempt that cannot be staged.

    It waits while the database is away, because that is not the job's fault.
    """
    while True:
        try:
            return await _order(begun, services, workspace, reporter)
        except FetchLaterError as later:
            return Interrupted(later.message, delay_s=later.delay_s)
        except VidqueueError as error:
            if error.code in ELSEWHERE:
                return Interrupted(error.message, delay_s=ELSEWHERE_S)
            if error.code in UNREACHABLE:
                return Interrupted(error.message, delay_s=UNREACHABLE_S)
            if error.code in PERHAPS_ELSEWHERE and await _moved(begun, services):
                return Interrupted(f"another daemon tries it, because of this one: {error.message}")
            if error.code not in DATABASE_BUSY:
                return Failed(Failure.from_error(error))
            await asyncio.sleep(RETRY_S)


async def _moved(begun: Begun, services: Services) -> bool:
    """True if the job was reserved for the lanes of another data folder that has not tried it yet."""
    try:
        async with services.database.statement() as connection:
            return await attempts.move(connection, begun.ref)
    except VidqueueError:
        return False  # the database is away: the failure is what this lane knows


async def _order(begun: Begun, services: Services, workspace: Path, reporter: Reporter) -> Staged:
    processor = registry.find(begun.processor)
    params, media = await accepted([begun], _parsed, processor, begun.input)
    # Not by their names in the parameters, which may be words of the user's. Parameters of equal value share a file.
    paths = dict[str, StagedInput]()
    staged = dict[str, str]()
    for one in media:
        if one.reference not in paths:
            copy = workspace / STAGED / str(len(paths))
            paths[one.reference] = await _local(one.reference, begun, services, copy, reporter)
        staged[one.name] = str(paths[one.reference].path)
    limits, models_dir = services.settings.job_limits.model_dump(mode="json"), str(services.settings.models_folder)
    settings = revealed(processor.config)
    cache_dir = str(services.storage.folder / CACHE)
    order = RunJob(
        begun.processor,
        begun.input,
        staged,
        str(workspace),
        limits,
        models_dir,
        settings,
        cache_dir=cache_dir,
        models_mib=services.settings.lanes.models_mib,
        attempt=f"{begun.ref.job_id}-{begun.ref.attempt}",
    )
    key = await results.key_of(begun, params, media, paths, inputs=services.inputs, touch=reporter.touch)
    return Staged(order, key)


def _parsed(processor: Processor, raw: dict[str, Any]) -> tuple[Parameters, list[MediaField]]:
    params = registry.parse(processor, raw)
    with registry.blaming(processor):
        return params, list(processor.media(params))


async def _local(reference: str, begun: Begun, services: Services, copy: Path, reporter: Reporter) -> StagedInput:
    """Return the local file of a reference; downloads report progress, and every new byte is a step forward."""
    if not is_url(reference):
        return await services.inputs.stage(reference, owner=begun.owner, copy=copy)

    def listen(progress: Progress) -> None:
        reporter.touch()
        reporter.hear(progress)

    ref = begun.ref
    file = await services.inputs.fetches.stage(reference, owner=begun.owner, job_id=ref.job_id, listener=listen)
    return await services.inputs.staged(file, copy)
