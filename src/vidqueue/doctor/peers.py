"""Checks of peers: whether external servers answer, managed ones can be started, and how those that ran are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vidqueue.db.tables.lanes import LaneRow
from vidqueue.doctor.check import Check
from vidqueue.processors.base import Processor
from vidqueue.processors.peers import PeerServer


def check_peers(processors: Iterable[Processor]) -> Check:
    """Check that external servers answer, and that managed ones can be started."""
    found = {one.name: one for processor in processors for one in processor.peers()}
    told = {name: _told_of(one) for name, one in found.items()}
    said = "; ".join(f"{name}: {words}" for name, (_, words) in told.items())
    if all(well for well, _ in told.values()):
        return Check("peers", "ok", said or "no server of another program is configured")
    return Check("peers", "warning", said, "Start them, or correct url, command or directory; their jobs wait or fail.")


def _told_of(server: PeerServer) -> tuple[bool, str]:
    """Whether a server is well, and what is known of it."""
    if server.launch is not None:
        fault = server.launch.fault()
        return not fault, fault or "can be started by the daemon"
    conditions = [(url, server.ask(url)) for url in server.urls]
    words = [f"{url} is {one.state}{f' ({one.words})' if one.words else ''}" for url, one in conditions]
    return all(one.state in ("ready", "busy") for _, one in conditions), ", ".join(words)


def _state_of(told: tuple[str, dict[str, Any]]) -> str:
    lane, peer = told
    problem = f" ({peer['problem']})" if peer["problem"] else ""
    return f"{peer['name']} on {lane} is {peer['state']}{problem}"


def check_running(found: list[LaneRow]) -> list[Check]:
    """Say how each managed server of the lanes is; no check where there are none."""
    told = [(lane.name, one) for lane in found for one in lane.peers]
    said = "; ".join(map(_state_of, told))
    if any(one["state"] == "resting" for _, one in told):
        return [Check("servers", "warning", said, "The log of the attempts that needed them has their last output.")]
    return [Check("servers", "ok", said)] if told else []
