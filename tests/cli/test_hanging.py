"""A file on a disk or share that does not respond ends a command with a message, and times to wait are told."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx2
import pytest

from tests.cli import dead_share
from vidqueue.cli import hanging
from vidqueue.cli.client import require_success
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.hanging import require_response
from vidqueue.cli.inputs import Inputs

HANGS = """
import os, time
real = os.stat
os.stat = lambda path: time.sleep(600) if path.endswith("dead.mp4") else real(path)
"""


@dataclass(frozen=True)
class DeadShare:
    file: Path
    told: IO[str]


@pytest.fixture
def share(tmp_path: Path) -> Iterator[DeadShare]:
    """A file of a mounted file system that answers nothing: who asks hangs in the kernel, after SIGKILL too."""
    folder = tmp_path / "share"
    folder.mkdir()
    command = [sys.executable, dead_share.__file__, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        if (told := server.stdout.readline().strip()) != "mounted":
            pytest.skip(f"a dead share cannot be made: {told}")
        yield DeadShare(folder / "dead.mp4", server.stdout)
        server.kill()
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("may_upload", [None, False, True])
def test_a_file_that_does_not_respond_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, may_upload: bool | None
) -> None:
    well, dead = tmp_path / "well.mp4", tmp_path / "dead.mp4"
    well.touch()
    monkeypatch.setattr(hanging, "LOOK", HANGS + hanging.LOOK)
    monkeypatch.setattr(hanging, "PATIENCE_S", 0.5)
    with pytest.raises(CommandError) as refused:
        Inputs(may_upload=may_upload).check([str(well), str(dead)])
    assert refused.value.message == f"{dead} did not respond within 0.5 s."
    assert Inputs(may_upload=may_upload).check([str(well)])


def test_ctrl_c_ends_a_command_that_waits_for_a_dead_share(share: DeadShare) -> None:
    program = "import sys; from vidqueue.cli.hanging import require_response; require_response(sys.argv[1:])"
    command = [sys.executable, "-c", program, str(share.file)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as waiting:
        assert share.told.readline() == "asked\n"
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(8) == -signal.SIGINT, "sooner than the patience of the command"


def test_names_that_no_file_can_have_are_no_reason_to_wait() -> None:
    require_response(["a\0b", "\ud800", "/no/such/file", ""])


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
