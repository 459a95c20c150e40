"""One minute of storm: jobs of all kinds under random faults, by a new seed each time (it is printed)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECONDS = os.environ.get("VIDQUEUE_TEST_STORM_SECONDS", "60")
# The storm itself gives up earlier than this, and says why.
PATIENCE_S = 900


@pytest.mark.slow
def test_a_storm_of_faults_loses_nothing_doubles_nothing_and_leaves_nothing() -> None:
    storm = subprocess.Popen(
        [sys.executable, "-m", "tests.storm", "--seconds", SECONDS],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        told, _ = storm.communicate(timeout=PATIENCE_S)
    finally:
        # It cleans up after itself, also when it is told to stop.
        storm.send_signal(signal.SIGTERM)
        storm.wait(120)
    assert storm.returncode == 0, told
