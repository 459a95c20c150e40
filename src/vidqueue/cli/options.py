"""Flags that many commands share: where the daemon is, and how the answer looks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

DEFAULT_URL = "http://127.0.0.1:8765"

SHARED = Group("Shared flags", sort_key=90)


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Door:
    """Which daemon is asked. The key comes from $VIDQUEUE_API_KEY alone: arguments can be seen by every user."""

    url: Annotated[str, Parameter(env_var="VIDQUEUE_URL", group=SHARED)] = DEFAULT_URL
    """Address of the daemon."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Look:
    """How the answer is written."""

    json: Annotated[bool, Parameter(negative="", show_default=False, group=SHARED)] = False
    """Write JSON: one object, or one a line for lists."""
    no_color: Annotated[bool, Parameter(negative="", show_default=False, group=SHARED)] = False
    """Plain text; setting $NO_COLOR does the same."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Source:
    """Where the daemon's configuration is read from."""

    config: Annotated[Path | None, Parameter(env_var="VIDQUEUE_CONFIG")] = None
    """Configuration file; else ./vidqueue.toml, else /etc/vidqueue/vidqueue.toml."""
    data_dir: Path | None = None
    """Folder of files, work and the embedded database."""


def not_a_flag(kind: object, value: object) -> None:
    """Refuse what looks like a flag where `-` alone is allowed.

    Raises:
        ValueError: the parser tells it.
    """
    del kind
    if value is not None and str(value).startswith("-") and str(value) != "-":
        raise ValueError(f"{value} is no known flag here; write ./{value} for a file of that name.")


# A place where `-` means standard input or output.
DASH = Parameter(allow_leading_hyphen=True, validator=not_a_flag)

# Commands are given these where a command line says nothing of them.
DOOR, LOOK, SOURCE = Door(), Look(), Source()
