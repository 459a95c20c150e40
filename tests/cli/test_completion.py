"""Completion in real shells: commands, processors and ids of the daemon, and names of files where nothing else fits."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.daemon import Daemon

# How each shell is started without anybody's configuration, and what it needs before the script.
INTERACTIVE = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], ""),
    "zsh": (["zsh", "-f", "-i"], "autoload -U compinit && compinit -u -D\n"),
}


@pytest.fixture
def shell(vidqueue: CommandLine, tmp_path: Path) -> CommandLine:
    """A folder with the program on the path, and one file."""
    program = tmp_path / "bin" / "vidqueue"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m vidqueue "$@"\n')
    program.chmod(0o755)
    (tmp_path / "holiday clip.mp4").touch()
    vidqueue.variables |= {
        "PATH": f"{program.parent}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "$ ", "HOME": str(tmp_path),
    }  # fmt: skip
    return vidqueue


def need(name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")


def typed(shell: CommandLine, name: str, lines: list[str]) -> list[list[str]]:
    """What an interactive shell makes of each line when the tab key is pressed at its end."""
    words, first = INTERACTIVE[name]
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, cwd=shell.folder, env=shell.variables, start_new_session=True
    )
    os.close(theirs)
    try:
        os.write(ours, f'{first}eval "$(vidqueue completion {name})"; echo rea""dy\n'.encode())
        read_until(ours, "ready")
        found = []
        for line in lines:
            # At the end of the line the tab key, at its beginning a command that shows what has become of the words.
            os.write(ours, f"{line}\t\x01printf '[%s]' \n".encode())
            found.append(read_until(ours, r"\[vidqueue\](\[[^]%]*\])+"))
        return [re.findall(r"\[([^]]*)\]", one)[1:] for one in found]
    finally:
        running.kill()
        running.wait()
        os.close(ours)


def read_until(terminal: int, pattern: str) -> str:
    """The part of what a terminal shows that fits a pattern, once it is there whole."""
    shown, deadline = "", time.monotonic() + 60
    while not (found := re.search(pattern + r"(?![\[\w])", shown)):
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 1)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")
    return found[0]


@pytest.mark.parametrize("name", INTERACTIVE)
def test_the_tab_key_completes_in_a_shell(shell: CommandLine, daemon: Daemon, name: str) -> None:
    need(name)
    job_id = daemon.submit()
    lines = ["vidqueue submit transc", "vidqueue list --state que", f"vidqueue status {job_id[:-1]}"]
    found = typed(shell, name, [*lines, "vidqueue submit transcode holi"])
    assert found == [
        ["submit", "transcode"], ["list", "--state", "queued"], ["status", job_id],
        ["submit", "transcode", "holiday clip.mp4"],
    ]  # fmt: skip


def test_fish_completes(shell: CommandLine, daemon: Daemon) -> None:
    need("fish")
    job_id = daemon.submit()
    lines = ["vidqueue submit transc", "vidqueue list --state=que", f"vidqueue status {job_id[:-1]}"]
    lines += ["vidqueue submit transcode holi"]
    script = "\n".join(["vidqueue completion fish | source", *(f"complete -C '{line}'; echo -" for line in lines)])
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], cwd=shell.folder, env=shell.variables, capture_output=True, text=True,
        timeout=120, check=True,
    )  # fmt: skip
    found = [part.split("\t")[0].strip() for part in done.stdout.split("\n-\n")]
    assert found[:4] == ["transcode", "--state=queued", job_id, "holiday clip.mp4"], done
