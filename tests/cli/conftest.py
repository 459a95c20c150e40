"""The real program against a real daemon; nothing is imported from it where a user would type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli import forked
from tests.daemon import Daemon

# Nobody listens here: port 9 (discard) is below those that any of our daemons takes.
NOBODY = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Ran:
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class CommandLine:
    """A shell of one's own: a folder, and variables."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.variables = {name: value for name, value in os.environ.items() if not name.startswith("VIDQUEUE_")}
        self.variables |= {"VIDQUEUE_URL": url, "VIDQUEUE_DATA_DIR": str(folder / "unused"), "COLUMNS": "120"}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "vidqueue", *words]

    def __call__(self, *words: str, stdin: bytes = b"", variables: Mapping[str, str] | None = None) -> Ran:
        environment = self.variables | dict(variables or {})
        code, out, err = forked.run(words, stdin=stdin, folder=self.folder, variables=environment)
        return Ran(code, out.decode(), err.decode())

    def start(self, *words: str, **streams: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command(*words), cwd=self.folder, env=self.variables, **streams)


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    started = Daemon(tmp_path_factory.mktemp("cli") / "data").start()
    yield started
    assert started.stop() == 0


@pytest.fixture
def vidqueue(tmp_path: Path, daemon: Daemon) -> CommandLine:
    """The program, with a daemon to talk to."""
    return CommandLine(tmp_path, daemon.url)


@pytest.fixture
def alone(tmp_path: Path) -> CommandLine:
    """The program, with no daemon anywhere."""
    return CommandLine(tmp_path, NOBODY)


@pytest.fixture
def idle(vidqueue: CommandLine) -> None:
    """No job of another test waits or runs."""
    unfinished = vidqueue("list", "--all", "--state", "queued", "--state", "running", "--json").lines
    if unfinished:
        vidqueue("cancel", *(job["id"] for job in unfinished))
