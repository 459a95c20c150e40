"""Environment of an executor: a few harmless names, without secrets and settings of the daemon."""

from __future__ import annotations

import os

from vidqueue.ops import processes


def environment(mark: str, gpu_uuid: str | None, threads: int) -> dict[str, str]:
    """Return the environment of a lane's executor; what its processors start inherits the mark."""
    kept = ("PATH", "LANG", "LC_ALL", "TMPDIR", "HOME", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
    kept_of_ours = {name: os.environ[name] for name in kept if name in os.environ}
    # The operator's own choice, but an empty or relative entry means the working folder.
    imports = filter(os.path.isabs, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return kept_of_ours | {
        processes.MARK: mark,
        processes.DAEMON: processes.own_name(),
        "PYTHONPATH": os.pathsep.join(imports),
        "CUDA_VISIBLE_DEVICES": gpu_uuid or "",
        "PYTHONUNBUFFERED": "1",
        # OpenMP's threads spin while they wait. With other lanes and ffmpeg on the same cores that made torch
        # eight times slower; asleep, and no more of them than the lane's share of the cores, they cost nothing.
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
