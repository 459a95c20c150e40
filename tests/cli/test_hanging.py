"""A file on a disk or share that does not respond ends a command with a message, and times to wait are told."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest

from vidqueue.cli import hanging
from vidqueue.cli.client import require_success
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.inputs import Inputs


@pytest.mark.parametrize("may_upload", [None, False, True])
def test_a_file_that_does_not_respond_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, may_upload: bool | None
) -> None:
    well, dead = tmp_path / "well.mp4", tmp_path / "dead.mp4"
    well.touch()
    real, released = os.stat, threading.Event()

    def hangs(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        if str(path) == str(dead):
            released.wait(60)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", hangs)
    monkeypatch.setattr(hanging, "PATIENCE_S", 0.2)
    try:
        with pytest.raises(CommandError) as refused:
            Inputs(may_upload=may_upload).check([str(well), str(dead)])
    finally:
        released.set()
    assert refused.value.message == f"{dead} did not respond within 0.2 s."
    assert Inputs(may_upload=may_upload).check([str(well)])


@pytest.mark.parametrize(("header", "words"), [({"Retry-After": "7"}, "try again in 7 s."), ({}, "try again later.")])
def test_the_time_after_which_to_try_again_is_shown(header: dict[str, str], words: str) -> None:
    problem = {
        "code": "overloaded",
        "detail": "No.",
        "hint": "The daemon is busy; try again after the time in Retry-After.",
    }
    request = httpx2.Request("GET", "http://127.0.0.1:9/v1/jobs")
    with pytest.raises(CommandError) as refused:
        require_success(httpx2.Response(503, json=problem, headers=header, request=request))
    assert (refused.value.exit, refused.value.hint) == (Exit.BUSY, f"The daemon is busy; {words}")
