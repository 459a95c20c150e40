"""Failpoints: named places in the code where a test makes the daemon die, fail or wait. They do nothing otherwise.

`VIDQUEUE_FAILPOINTS="finish.before=kill, run.staged=delay:5, dispatch.committed=error*3"` arms them. Each acts
`*N` times, or once. This module does not know what the points mean.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from dataclasses import dataclass

import structlog

VARIABLE = "VIDQUEUE_FAILPOINTS"

# Each is reached in one place of the source, between two steps that a crash may separate.
POINTS = frozenset(
    {
        "submit.before_commit",
        "submit.committed",
        "dispatch.committed",
        "run.begun",
        "run.staged",
        "run.worked",
        "output.renamed",
        "output.committed",
        "publish.renamed",
        "finish.before",
        "finish.committed",
        "reaper.found",
        "reaper.given_back",
    }
)
_ARMED = re.compile(r"(?P<point>[a-z_.]+)=(?P<act>kill|error|delay:(?P<delay_s>\d+(?:\.\d+)?))(?:\*(?P<times>\d+))?")

log = structlog.get_logger(__name__)


class FailpointError(Exception):
    """Raised by a failpoint armed with `error`: a failure that no code expects."""


@dataclass(slots=True)
class Failpoint:
    """What an armed failpoint does, and how many more times. `delay_s` is in seconds."""

    act: str
    delay_s: float
    times: int


def parse(text: str) -> dict[str, Failpoint]:
    """Parse the value of `VIDQUEUE_FAILPOINTS`.

    Raises:
        ValueError: it names an unknown point or act.
    """
    armed = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _ARMED.fullmatch(part)
        if found is None or found["point"] not in POINTS:
            raise ValueError(f"{VARIABLE}: {part!r} is not a failpoint. Failpoints: {', '.join(sorted(POINTS))}.")
        armed[found["point"]] = Failpoint(
            found["act"].partition(":")[0], float(found["delay_s"] or 0), int(found["times"] or 1)
        )
    return armed


armed: dict[str, Failpoint] = {}


def arm(text: str) -> None:
    """Arm the failpoints that a value of `VIDQUEUE_FAILPOINTS` names, and disarm all others.

    Raises:
        ValueError: it names an unknown point or act.
    """
    armed.clear()
    armed.update(parse(text))


async def reach(point: str) -> None:
    """Act if the failpoint is armed, else do nothing.

    Raises:
        FailpointError: the failpoint is armed with `error`.
    """
    if armed:
        await _act(point)


async def _act(point: str) -> None:
    here = armed.get(point)
    if here is None or here.times == 0:
        return
    here.times -= 1
    log.warning("failpoint_reached", point=point, act=here.act)
    match here.act:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "error":
            raise FailpointError(f"failpoint {point}")
        case "delay":
            await asyncio.sleep(here.delay_s)
