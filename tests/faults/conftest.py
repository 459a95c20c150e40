"""Servers, daemons and figures for the faults; everything that a test starts ends with it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.postgres import Postgres, own_postgres

Start = Callable[..., Daemon]


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with own_postgres() as server:
        yield server


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts daemons on folders of their own by name; whatever is left of them at the end is killed."""
    started: list[Daemon] = []

    def start_one(name: str, under: tuple[str, ...] = (), **variables: str) -> Daemon:
        daemon = Daemon(tmp_path / name, **variables)
        daemon.under = under
        started.append(daemon)
        return daemon.start()

    yield start_one
    for daemon in started:
        if hasattr(daemon, "process") and daemon.process.poll() is None:
            for pid in daemon.children(""):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            daemon.process.wait()


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str, float], None]:
    """Prints what was measured (`pytest -rP` shows it) and keeps it in the report."""

    def note(name: str, value: float) -> None:
        record_property(name, round(value, 3))
        print(f"{name}: {value:.3f}")

    return note
