"""What the failpoints cost while they are not armed: one pass, and all passes of one job against the job's own time.

`python benchmarks/failpoints.py` starts a daemon in this process, on a folder of its own, and measures both by turns.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from vidqueue.daemon import running
from vidqueue.ops import failpoints, logs
from vidqueue.settings.schema import Settings
from vidqueue.settings.sections import DatabaseSettings, LanesSettings, LogSettings

ROUNDS = 40
PASSES = 20_000
# On the way of a job that succeeds: two at submit, two at dispatch, three in the run, one per output, two at its end.
PASSES_PER_JOB = 10

# A processor that does nothing; found by its entry point, here and in the executor.
ZOO = Path(__file__).parents[1] / "tests" / "zoo"


async def pass_ns() -> float:
    """Nanoseconds of one unarmed pass, the loop around it taken off."""
    begun = time.perf_counter_ns()
    for _ in range(PASSES):
        await failpoints.reach("run.begun")
    reached = time.perf_counter_ns()
    for _ in range(PASSES):
        pass
    return (2 * reached - begun - time.perf_counter_ns()) / PASSES


async def job_ns(connection: psycopg.AsyncConnection[tuple[float | None]]) -> float:
    """Nanoseconds from the dispatch of a job that does nothing to its end, as its row tells."""
    submit = "SELECT vidqueue.submit('zoo', '{}')"
    took = """SELECT extract(epoch FROM a.ended_at - a.dispatched_at)::float8 FROM vidqueue.attempts a
              JOIN vidqueue.jobs j ON j.id = a.job_id WHERE j.id = %s AND j.state = 'succeeded'"""
    (job_id,) = await (await connection.execute(submit)).fetchone() or (None,)
    while (found := await (await connection.execute(took, [job_id])).fetchone()) is None:
        await asyncio.sleep(0.01)
    assert found[0] is not None
    return float(found[0]) * 1e9


async def main() -> None:
    """Measure by turns and print the medians."""
    assert not failpoints.armed
    with tempfile.TemporaryDirectory(prefix="vidqueue-bench-") as folder:
        settings = Settings(
            data_dir=Path(folder),
            database=DatabaseSettings(disk_reserve_mib=0),
            lanes=LanesSettings(cpu=1, gpu="off"),
            log=LogSettings(level="error"),
        )
        logs.configure(settings.log.level, settings.log.format)
        async with (
            running(settings, "worker") as daemon,
            await psycopg.AsyncConnection.connect(daemon.database_url, autocommit=True) as connection,
        ):
            await job_ns(connection)  # starts an executor
            await job_ns(connection)
            rounds = [(await pass_ns(), await job_ns(connection)) for _ in range(ROUNDS)]
    one_pass, one_job = (statistics.median(column) for column in zip(*rounds, strict=True))
    share = PASSES_PER_JOB * one_pass / one_job
    print(f"unarmed pass:       {one_pass:10.0f} ns   (median of {ROUNDS} rounds of {PASSES})")
    print(f"no-op job:          {one_job / 1e6:10.2f} ms   (median of {ROUNDS}, dispatch to end)")
    print(f"one pass / job:     {one_pass / one_job:10.2e}")
    print(f"{PASSES_PER_JOB} passes / job:    {share:10.2e}   ({share:.5%})")


if __name__ == "__main__":
    sys.path.insert(0, str(ZOO))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ZOO), *filter(None, [os.environ.get("PYTHONPATH")])])
    asyncio.run(main())
