"""Commands that stop and start the taking of jobs: `pause`, `resume`, `drain`."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from vidqueue.cli import jobs
from vidqueue.cli.client import Client
from vidqueue.cli.completers import lanes, processors
from vidqueue.cli.durations import seconds_of
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import DOOR, LOOK, Door, Look
from vidqueue.cli.terminal import Screen, age_text

For = Annotated[str | None, Parameter(name="--for")]
Processor = Annotated[str | None, Parameter(name="--processor", completer=processors)]
Lane = Annotated[str | None, Parameter(name="--lane", completer=lanes)]


def pause(
    *,
    processor: Processor = None,
    lane: Lane = None,
    duration: For = None,
    reason: str | None = None,
    host: str | None = None,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Start no more jobs: at all, of one processor, or on one lane. Running jobs continue, and jobs are still accepted.

    Args:
        processor: Pause this processor only.
        lane: Pause this lane only.
        duration: Resume after this time, such as 90s, 30m, 2h or 1d; without it, `vidqueue resume` does.
        reason: Shown to everybody who looks at the queue.
        host: The host of the lane, where several hosts have one of that name.
        door: The daemon to talk to.
        look: The format of the output.
    """
    return _tell("pause", {"processor": processor}, lane, host, _terms(duration, reason), door=door, look=look)


def resume(
    *ids: str,
    processor: Processor = None,
    lane: Lane = None,
    host: str | None = None,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """End a pause, or resume suspended jobs. Pauses of lanes and of other processors remain, and are shown.

    Args:
        ids: Suspended jobs to resume; without ids a pause ends.
        processor: End the pause of this processor.
        lane: End the pause or the draining of this lane.
        host: The host of the lane, where several hosts have one of that name.
        door: The daemon to talk to.
        look: The format of the output.
    """
    if ids:
        if lane or processor or host:
            raise CommandError("Job ids, --lane and --processor exclude each other.", exit=Exit.USAGE)
        return jobs.resume(ids, door, look)
    return _tell("resume", {"processor": processor}, lane, host, {}, door=door, look=look)


def drain(
    *,
    lane: Lane = None,
    duration: For = None,
    reason: str | None = None,
    host: str | None = None,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Pause all lanes or one, and stop their executors once the running jobs have ended, so that the GPUs are free.

    Args:
        lane: Drain this lane only.
        duration: Resume after this time, such as 90s, 30m, 2h or 1d; without it, `vidqueue resume --lane` does.
        reason: Shown to everybody who looks at the queue.
        host: The host of the lane, where several hosts have one of that name.
        door: The daemon to talk to.
        look: The format of the output.
    """
    return _tell("drain", {}, lane, host, _terms(duration, reason), door=door, look=look)


def _terms(duration: str | None, reason: str | None) -> dict[str, Any]:
    return {"for_s": seconds_of(duration) if duration else None, "reason": reason}


def _tell(
    verb: str,
    whole: dict[str, Any],
    lane: str | None,
    host: str | None,
    terms: dict[str, Any],
    *,
    door: Door,
    look: Look,
) -> int:
    screen = Screen(look)
    if lane and whole.get("processor"):
        raise CommandError("Give --lane or --processor, not both.", exit=Exit.USAGE)
    with Client(door.url) as client:
        path, given = (f"/v1/lanes/{lane}/{verb}", {}) if lane else (f"/v1/{verb}", whole)
        body = {name: value for name, value in {**given, **terms}.items() if value is not None}
        query = {"host": host} if lane and host else {}
        found = client.call("POST", path, json=body, params=query)["pauses"]
    if screen.json:
        for one in found:
            screen.object(one)
        return Exit.OK
    if not found:
        screen.write("Nothing is paused.")
    for one in found:
        screen.write(_sentence(one))
    return Exit.OK


def _sentence(pause: dict[str, Any]) -> str:
    """Return a line such as `lane gpu0 of box is draining, ends in 29:59 (I need the GPU)`."""
    what = " ".join(filter(None, [pause["scope"], pause["name"], f"of {pause['host']}" if pause["host"] else ""]))
    until = f", ends {age_text(pause['until'])}" if pause["until"] else ""
    reason = f" ({pause['reason']})" if pause["reason"] else ""
    return f"{what} is {'draining' if pause['draining'] else 'paused'}{until}{reason}"
