"""Peers: servers of other programs that do a job's work, external (a URL) or managed (a command that the daemon runs).

A processor names its configured peers (`Processor.peers`) and those that a job can use (`Processor.peers_for`). The
daemon starts, monitors and stops those that have a command.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from vidqueue.job import Device
from vidqueue.ops.processes import DAEMON, MARK
from vidqueue.settings.entries import AbsolutePath, Section

PORT = "{port}"
# The offset from a server's port to the port at which the run of a job receives its uploads.
UPLOAD_PORT = "{upload_port}"
# Variables that the daemon sets itself: the port, the lane's GPU, the mark of the lane, and its own name.
OWN_VARIABLES = frozenset({"PORT", "CUDA_VISIBLE_DEVICES", MARK, DAEMON})
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Condition:
    """The state of a server and its message. A `broken` server must be restarted."""

    state: Literal["away", "starting", "ready", "busy", "broken"]
    words: str = ""


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a managed server."""

    command: tuple[str, ...]
    directory: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    setup_timeout_s: float = 600
    idle_stop_s: float = 300

    def fault(self) -> str:
        """Return why the command cannot be started on this machine; empty if no reason is known."""
        program = self.command[0]
        if self.directory is not None and not self.directory.is_dir():
            return f"its directory {self.directory} does not exist"
        if "/" not in program:
            path = self.environment.get("PATH")
            return "" if shutil.which(program, path=path) else f"its command {program} is not found on PATH"
        place = (self.directory or Path("/")) / program
        if not place.is_file():
            return f"its command {place} does not exist"
        return "" if os.access(place, os.X_OK) else f"its command {place} is not executable"


@dataclass(frozen=True, slots=True)
class PeerServer:
    """One configured server.

    Attributes:
        name: processor and server, as in `cog:flux`.
        urls: the addresses of an external server; empty for a managed one.
        launch: how to start a managed one; None for an external server.
        ask: returns the condition of the server at an address. It may block for seconds.
        readable: formats a line of the server's log; None drops the line.
    """

    name: str
    device: Device
    lane: str | None = None
    urls: tuple[str, ...] = ()
    launch: Launch | None = None
    ask: Callable[[str], Condition] = field(default=lambda url: Condition("ready"), compare=False)
    readable: Callable[[str], str | None] = field(default=lambda line: line, compare=False)

    def runs_on(self, lane: str) -> bool:
        """True if the lane may use it."""
        return not lane or self.lane in (None, lane)


class ManagedSettings(Section):
    """Keys of the configuration of a managed server; `url` is for an external one instead."""

    command: list[str] = Field(
        [],
        description="Starts the server, instead of `url`: one for each lane that needs it. `{port}` is replaced by a "
        "free port, which PORT has too, and `{upload_port}` by one where files that it uploads are taken (Cog).",
    )
    directory: AbsolutePath | None = Field(None, description="Working folder of the command.")
    environment: dict[str, str] = Field(
        {}, description="Variables of the command beside PATH, HOME, LANG, TMPDIR and CUDA_VISIBLE_DEVICES."
    )
    setup_timeout_s: float = Field(
        600, gt=0, le=86_400, description="Time until the command must be ready for work, in seconds."
    )
    idle_stop_s: float = Field(
        300, ge=0, le=31_536_000, description="Seconds without work after which the command is stopped; 0 for never."
    )

    @field_validator("command")
    @classmethod
    def _can_be_executed(cls, command: list[str]) -> list[str]:
        if command and not command[0]:
            raise ValueError("the name of the program is empty")
        if any("\0" in word for word in command):
            raise ValueError("a NUL character is in a word")
        return command

    @field_validator("environment")
    @classmethod
    def _free_names(cls, environment: dict[str, str]) -> dict[str, str]:
        for name, value in environment.items():
            if name in OWN_VARIABLES:
                raise ValueError(f"{name} is set by vidqueue")
            if not _VARIABLE.fullmatch(name) or "\0" in value:
                raise ValueError(f"{name!r} cannot be a variable of the environment")
        return environment

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(getattr(self, "url", None)) == bool(self.command):
            raise ValueError("exactly one of url and command is required")
        return self

    @property
    def launch(self) -> Launch | None:
        """Return how to start it; None for an external server."""
        if not self.command:
            return None
        return Launch(
            tuple(self.command), self.directory, dict(self.environment), self.setup_timeout_s, self.idle_stop_s
        )


def why_unavailable(servers: Sequence[PeerServer], without: str) -> str:
    """Return why none of the servers can be used: `without` if there is none; empty if one can."""
    if not servers:
        return without
    faults = [f"{one.name}: {one.launch.fault()}" for one in servers if one.launch is not None and one.launch.fault()]
    return "; ".join(faults) if len(faults) == len(servers) else ""
