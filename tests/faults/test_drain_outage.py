"""PostgreSQL away for forty seconds while a daemon drains, whichever of the two began first."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.daemon import Daemon, until
from tests.faults.conftest import Start
from tests.postgres import Postgres

pytestmark = pytest.mark.slow

AWAY_S = 40.0


@pytest.mark.long
def test_a_drain_waits_for_a_database_that_comes_back_and_loses_nothing(
    postgres: Postgres, start: Start, figure: Callable[[str, float], None]
) -> None:
    """Two daemons on two databases of one server: one drains before it is lost, one while it is away."""
    before, during = daemons = [
        start(name, VIDQUEUE_DATABASE__URL=postgres.database(name)) for name in ("before", "during")
    ]
    ending = [daemon.submit(act="work", seconds=10, lane="cpu0") for daemon in daemons]
    through = [daemon.submit(act="work", seconds=AWAY_S + 5, lane="cpu1") for daemon in daemons]
    for daemon, *ids in zip(daemons, ending, through, strict=True):
        until(lambda: all(daemon.job(one)["stage"] == "work" for one in ids), what="at work")  # noqa: B023
    waiting = [daemon.submit(act="work") for daemon in daemons]

    before.process.send_signal(signal.SIGTERM)
    until(lambda: '"drain_started"' in before.log.read_text(), what="the first drains")
    postgres.crash()
    time.sleep(1)
    during.process.send_signal(signal.SIGTERM)
    time.sleep(AWAY_S - 1)
    assert [daemon.process.poll() for daemon in daemons] == [None, None], "their jobs have not ended yet"
    postgres.start()
    back_at = time.time()
    for daemon in daemons:
        assert daemon.process.wait(timeout=40) == 0
        figure(f"{daemon.data_dir.name}: from the return to the end of the drain, in s", time.time() - back_at)

    for daemon, *ids in zip(daemons, ending, through, strict=True):
        for job_id in ids:
            assert _row(daemon, job_id) == ("succeeded", 1), daemon.sql("SELECT * FROM vidqueue.attempts")
    for daemon, job_id in zip(daemons, waiting, strict=True):
        assert _row(daemon, job_id) == ("queued", 0)
        assert daemon.violations() == []
        daemon.start()
        assert daemon.ended(job_id)["state"] == "succeeded"
        assert daemon.stop() == 0


def _row(daemon: Daemon, job_id: str) -> tuple[str, int]:
    (row,) = daemon.sql(f"SELECT state, attempt FROM vidqueue.jobs WHERE id = '{job_id}'")
    return row["state"], row["attempt"]
