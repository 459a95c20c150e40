"""Flags that several commands share: the address of the daemon, the output format, the configuration file."""

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
    """The daemon to talk to. The API key is read from $VIDQUEUE_API_KEY only: other users can see arguments."""

    url: Annotated[str, Parameter(env_var="VIDQUEUE_URL", group=SHARED)] = DEFAULT_URL
    """Address of the daemon."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Look:
    """The format of the output."""

    json: Annotated[bool, Parameter(negative="", show_default=False, group=SHARED)] = False
    """Write JSON: one object, or one object per line for lists."""
    no_color: Annotated[bool, Parameter(negative="", show_default=False, group=SHARED)] = False
    """Do not use colors, like $NO_COLOR."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Source:
    """The configuration to read."""

    config: Annotated[Path | None, Parameter(env_var="VIDQUEUE_CONFIG")] = None
    """Configuration file. The default is ./vidqueue.toml, otherwise /etc/vidqueue/vidqueue.toml."""
    data_dir: Path | None = None
    """Folder for stored files, temporary files and the embedded database."""


def not_a_flag(kind: object, value: object) -> None:
    """Refuse a value that looks like a flag where only `-` may begin with a hyphen.

    Raises:
        ValueError: the parser reports it.
    """
    del kind
    if value is not None and str(value).startswith("-") and str(value) != "-":
        raise ValueError(f"Unknown flag {value}; write ./{value} for a file of that name.")


# A place where `-` means standard input or output.
DASH = Parameter(allow_leading_hyphen=True, validator=not_a_flag)

# Defaults for command lines without these flags.
DOOR, LOOK, SOURCE = Door(), Look(), Source()
