"""The whole vocabulary between a lane and its executor: three orders down, six reports up, one JSON line each.

Two of the reports are words of the domain and travel as they are: `Progress` and `LogLine`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from vidqueue.progress import LogLine, Progress


@dataclass(frozen=True, slots=True)
class RunJob:
    """Do this. `inputs` maps the name of each media parameter to a local path."""

    processor: str
    params: dict[str, Any]
    inputs: dict[str, str]
    workspace: str
    limits: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CancelJob:
    """Stop what you do now, politely; the next word is a kill."""


@dataclass(frozen=True, slots=True)
class Exit:
    """No more work will come."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The executor takes work."""

    pid: int


@dataclass(frozen=True, slots=True)
class Done:
    """The job is done; each output has `name`, `path`, `media_type` and `facts`."""

    outputs: list[dict[str, Any]]
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Broke:
    """The job failed; the executor is well."""

    code: str
    message: str
    hint: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The job stopped because it was told to."""


Order = RunJob | CancelJob | Exit
Report = Ready | Progress | LogLine | Done | Broke | Stopped

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (RunJob, CancelJob, Exit, Ready, Progress, LogLine, Done, Broke, Stopped)
}


def encode(message: Order | Report) -> bytes:
    """One line of JSON, newline included."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)}, default=str).encode() + b"\n"


def decode(line: bytes) -> Any:
    """The message of one line; numbers that are none become null, and texts lose their NULs.

    Raises:
        ValueError: the line is none of ours.
    """
    fields = json.loads(line, parse_constant=lambda _: None, parse_float=_finite, object_hook=_clean)
    try:
        return _KINDS[fields.pop("kind")](**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a message: {line[:200]!r}") from error


def _finite(text: str) -> float | None:
    number = float(text)
    return number if abs(number) < 1e30 else None


def _clean(fields: dict[str, Any]) -> dict[str, Any]:
    """Without what PostgreSQL cannot hold: a processor's words must not decide whether its outcome can be written."""
    return {
        key.replace("\0", ""): value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value
        for key, value in fields.items()
    }
