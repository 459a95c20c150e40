"""Commands about lanes: `lanes`, `lanes free`, `lanes windows`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from vidqueue.cli.client import Client
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import DOOR, LOOK, Door, Look
from vidqueue.cli.terminal import Screen, age_text
from vidqueue.wait_reasons import block

app = App(name="lanes", help="Show lanes and their jobs; free their memory; set their time windows.")
Lane = Annotated[str, Parameter(name="LANE")]


@app.default
def lanes(*, door: Door = DOOR, look: Look = LOOK) -> int:
    """Show the lanes and the jobs they run."""
    screen = Screen(look)
    with Client(door.url) as client:
        found = client.get("/v1/lanes")["lanes"]
    if screen.json:
        for lane in found:
            screen.object(lane)
    else:
        lines = [(lane["name"], lane["host"], _condition(lane), lane["gpu_name"] or "", _work(lane)) for lane in found]
        screen.table(("LANE", "HOST", "STATE", "GPU", "JOB"), lines, empty="No lane is online.")
        peers = [(lane["name"], lane["host"], one) for lane in found for one in lane["peers"]]
        if peers:
            screen.write("")
            rows = [(name, host, one["name"], one["state"], one["problem"] or "") for name, host, one in peers]
            screen.table(("LANE", "HOST", "SERVER", "STATE", "PROBLEM"), rows)
    return Exit.OK


@app.command
def free(lane: Lane, *, host: str | None = None, door: Door = DOOR, look: Look = LOOK) -> int:
    """Free the memory of the models that a lane keeps loaded, as soon as its job has ended. The lane stays online.

    Args:
        lane: The lane.
        host: The host of the lane, where several hosts have one of that name.
        door: The daemon to talk to.
        look: The format of the output.
    """
    with Client(door.url) as client:
        found = client.call("POST", f"/v1/lanes/{lane}/free", params={"host": host} if host else {})["lanes"]
    _show(Screen(look), [(lane, f"frees its memory {'after its job' if lane['busy'] else 'now'}") for lane in found])
    return Exit.OK


@app.command
def windows(
    lane: Lane,
    *rules: str,
    always: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    timezone: str = "UTC",
    at_end: Literal["finish", "suspend"] = "finish",
    host: str | None = None,
    door: Door = DOOR,
    look: Look = LOOK,
) -> int:
    """Set a lane's time windows, such as `vidqueue lanes windows gpu0 22:00-07:00 sat-sun --timezone Europe/Berlin`.

    Args:
        lane: The lane.
        rules: Times such as 22:00-07:00, sat-sun or "mon-fri 20:00-08:00".
        always: Remove the windows, so that the lane works at any time.
        timezone: The time zone of these times.
        at_end: Whether a running job finishes at the end of a window, or is suspended until the next one.
        host: The host of the lane, where several hosts have one of that name.
        door: The daemon to talk to.
        look: The format of the output.
    """
    if always == bool(rules):
        raise CommandError("Give time windows, or --always.", exit=Exit.USAGE)
    body = {"open": list(rules), "timezone": timezone, "at_end": at_end}
    with Client(door.url) as client:
        path = f"/v1/lanes/{lane}/windows"
        found = client.call("PUT", path, json=body, params={"host": host} if host else {})["lanes"]
    # The daemon applies the windows a moment later, so its present state would contradict the answer.
    _show(Screen(look), [(lane, _times(lane)) for lane in found])
    return Exit.OK


def _show(screen: Screen, found: list[tuple[dict[str, Any], str]]) -> None:
    for lane, words in found:
        if screen.json:
            screen.object(lane)
        else:
            screen.write(f"{lane['name']} of {lane['host']} {words}")


def _times(lane: dict[str, Any]) -> str:
    times = ", ".join(lane["windows"])
    return f"works {times} ({lane['windows_zone']})" if times else "works at any time"


def _condition(lane: dict[str, Any]) -> str:
    if lane["state"] == "online" and lane["paused"]:
        return "draining" if lane["draining"] and lane["busy"] else "drained" if lane["draining"] else "paused"
    if lane["state"] == "online" and lane["blocked_by"] == "outside_window" and lane["opens_at"]:
        return f"opens {age_text(lane['opens_at'])}"
    if lane["state"] == "online" and lane["blocked_by"]:
        return block(lane["blocked_by"])
    return str(lane["state"])


def _work(lane: dict[str, Any]) -> str:
    job = lane["job"]
    if not job:
        return "busy" if lane["busy"] else ""
    suspended = "  suspended" if job["suspended_at"] else ""
    return f"{job['id']}  {job['processor']}  {job['progress']:.0%}{suspended}"
