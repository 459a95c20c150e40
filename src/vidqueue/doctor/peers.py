"""Checks of peers: external servers respond, managed servers can be started, running ones are healthy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vidqueue.db.tables.lanes import LaneRow
from vidqueue.doctor.check import Check
from vidqueue.processors.base import Processor
from vidqueue.processors.peers import PeerServer


def check_peers(processors: Iterable[Processor]) -> Check:
    """Check that external servers respond, and that managed servers can be started."""
    found = {one.name: one for processor in processors for one in processor.peers()}
    told = {name: _told_of(one) for name, one in found.items()}
    said = "; ".join(f"{name}: {words}" for name, (_, words) in told.items())
    if all(well for well, _ in told.values()):
        return Check("peers", "ok", said or "no peers are configured")
    return Check("peers", "warning", said, "Start them, or correct their url, command or directory.")


def _told_of(server: PeerServer) -> tuple[bool, str]:
    """Return whether a server is healthy, and its description."""
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
    """Check the managed servers of the lanes; no check if there are none."""
    told = [(lane.name, one) for lane in found for one in lane.peers]
    said = "; ".join(map(_state_of, told))
    if any(one["state"] == "resting" for _, one in told):
        return [Check("servers", "warning", said, "The log of the attempts that needed them has their last output.")]
    return [Check("servers", "ok", said)] if told else []
