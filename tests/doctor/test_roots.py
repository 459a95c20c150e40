"""A folder of `inputs.roots` on a share that does not respond keeps the doctor from nothing."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from vidqueue.doctor import roots


def test_a_folder_that_does_not_respond_is_named_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, well = tmp_path / "dead", tmp_path / "well"
    well.mkdir()
    dead.mkdir()
    real, released = os.stat, threading.Event()

    def hanging(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        if str(path) == str(dead):
            released.wait()
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", hanging)
    monkeypatch.setattr(roots, "PATIENCE_S", 0.2)
    try:
        check = roots.check_roots([dead, well, tmp_path / "missing"])
    finally:
        released.set()
    assert (check.level, check.name) == ("warning", "inputs")
    assert check.found == f"{dead} did not respond within 0.2 s; cannot be read: {tmp_path / 'missing'}"
    assert roots.check_roots([well]).level == "ok"
