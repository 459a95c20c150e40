"""Named points in the daemon's acts where a test lets it die, fail or wait; in production they are passed by.

`VIDQUEUE_FAILPOINTS="finish.before=kill, run.staged=delay:5, dispatch.committed=error*3"` arms them: each acts
as often as `*` says, once without it. Nothing here knows what the points mean.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from dataclasses import dataclass

import structlog

VARIABLE = "VIDQUEUE_FAILPOINTS"

# Each is passed in one place of the source, between two steps that a crash may separate.
POINTS = frozenset(
    {
        "submit.before_commit",
        "submit.committed",
        "dispatch.committed",
        "run.begun",
        "run.staged",
        "run.worked",
        "publish.renamed",
        "finish.before",
        "finish.committed",
        "rescue.found",
        "rescue.given_back",
    }
)
_ARMED = re.compile(r"(?P<point>[a-z_.]+)=(?P<act>kill|error|delay:(?P<delay_s>\d+(?:\.\d+)?))(?:\*(?P<times>\d+))?")

log = structlog.get_logger(__name__)


class FailpointError(Exception):
    """Raised at a point that was told to fail: a fault that no code expects."""


@dataclass(slots=True)
class Failpoint:
    """What happens at a point, and how many times more it does. `delay_s` is in seconds."""

    act: str
    delay_s: float
    times: int


def parse(text: str) -> dict[str, Failpoint]:
    """The points that a setting arms.

    Raises:
        ValueError: it names a point or an act that there is not.
    """
    armed = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _ARMED.fullmatch(part)
        if found is None or found["point"] not in POINTS:
            raise ValueError(f"{VARIABLE}: {part!r} is no failpoint; there are {', '.join(sorted(POINTS))}.")
        armed[found["point"]] = Failpoint(
            found["act"].partition(":")[0], float(found["delay_s"] or 0), int(found["times"] or 1)
        )
    return armed


armed: dict[str, Failpoint] = {}


def arm(text: str) -> None:
    """Arm the points that a setting names, and no others.

    Raises:
        ValueError: it names a point or an act that there is not.
    """
    armed.clear()
    armed.update(parse(text))


async def reach(point: str) -> None:
    """Pass a point, or do there what was asked for.

    Raises:
        FailpointError: the point was told to fail.
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
