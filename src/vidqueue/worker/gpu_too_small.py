"""Fails an attempt for good if it asked for more GPU memory than the GPU of any lane has; a retry cannot help it."""

from __future__ import annotations

from vidqueue.db.tables import lanes
from vidqueue.errors import VidqueueError
from vidqueue.job import Failed, Failure
from vidqueue.processors.library_errors import memory_beyond_gpu
from vidqueue.services import Services

# CUDA tells a little less memory of the same GPU than NVML, whose number the lanes have.
_ROUNDING = 1.05


async def checked(outcome: Failed, services: Services) -> Failed:
    """Return the same outcome, or one with the code `gpu_too_small`; without a database it stays as it is."""
    failure = outcome.failure
    beyond = memory_beyond_gpu(failure.message) if failure.code == "gpu_out_of_memory" else None
    if beyond is None:
        return outcome
    try:
        async with services.database.statement() as connection:
            # A lane with a larger GPU may take the next attempt.
            largest_mib = max((lane.vram_mb for lane in await lanes.capacities(connection)), default=0)
    except VidqueueError:
        return outcome
    wanted_mib, gpu_mib = beyond
    if largest_mib >= wanted_mib and largest_mib > gpu_mib * _ROUNDING:
        return outcome
    return Failed(Failure.of("gpu_too_small", failure.message, detail=failure.detail or ""), outcome.crashed)
