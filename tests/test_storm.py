"""Half a minute of storm: jobs of all kinds under random faults, by a new seed each time (it is printed)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.storm.floors import Tally, too_calm

ROOT = Path(__file__).parents[1]
SECONDS = os.environ.get("VIDQUEUE_TEST_STORM_SECONDS", "30")
# The storm itself gives up earlier than this, and says why.
PATIENCE_S = 900
NAMES = (
    "kill executor",
    "kill ffmpeg",
    "drain daemon A",
    "drain daemon B",
    "lose LISTEN",
    "freeze backend",
    "full disk B",
)
WILD = Tally(60, 250, 8, dict.fromkeys(NAMES, 2), frozenset(NAMES))


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


def test_a_word_that_names_no_fault_is_bad_usage_and_the_faults_are_named() -> None:
    command = [sys.executable, "-m", "tests.storm", "--seconds", "5", "--only", "nosuchfault"]
    told = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert told.returncode == 2
    assert "nosuchfault" in told.stderr
    assert "full disk B" in told.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"acknowledged": 40}, "40 acknowledged jobs"),
        ({"struck": {}}, "0 faults"),
        ({"struck": {"kill executor": 20}}, "1 different faults"),
        ({"interrupted": 0}, "0 interrupted attempts"),
        ({"seconds": 150}, "14 faults"),
        ({"seconds": 300, "acknowledged": 300, "struck": dict.fromkeys(NAMES[:-1], 9)}, "never struck: full disk B"),
        ({"possible": frozenset()}, "none of the faults"),
    ],
)
def test_a_storm_that_was_too_calm_to_prove_anything_is_a_broken_promise(change: dict[str, Any], said: str) -> None:
    assert not list(too_calm(WILD, only=False))
    assert said in " ".join(map(str, too_calm(replace(WILD, **change), only=False)))


def test_a_storm_of_chosen_faults_need_only_be_struck_by_one_of_them_and_a_short_one_by_none() -> None:
    few = Tally(60, 1, 0, {"lose LISTEN": 1}, frozenset({"lose LISTEN"}))
    assert not list(too_calm(few, only=True))
    assert list(too_calm(replace(few, struck={}), only=True))
    assert not list(too_calm(replace(few, struck={}, seconds=5), only=True))
