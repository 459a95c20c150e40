"""Completers for ids, processors and lanes on the command line, from what the daemon has at this moment.

After an error a completer returns nothing, because the shell must not print errors into the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from vidqueue.cli.client import Client
from vidqueue.cli.exits import CommandError
from vidqueue.cli.options import DEFAULT_URL
from vidqueue.cli.render import name_of

if TYPE_CHECKING:
    from cyclopts.completion import CompletionContext

    Completer: TypeAlias = Callable[[CompletionContext], list[tuple[str, str]]]

# How many of the newest jobs are offered.
NEWEST = 100
PATIENCE_S = 5.0


def jobs_in(*states: str) -> Completer:
    """Return a completer for ids of jobs in these states; of all jobs if none is given."""

    def complete(context: CompletionContext) -> list[tuple[str, str]]:
        given = {"limit": NEWEST} | ({"state": ",".join(states)} if states else {})
        found = _ask(context, "/v1/jobs", given).get("jobs", ())
        return [(job["id"], f"{job['state']}  {name_of(job)}") for job in found]

    return complete


def processors(context: CompletionContext) -> list[tuple[str, str]]:
    """Complete names of processors."""
    found = _ask(context, "/v1/processors").get("processors", ())
    return [(processor["name"], processor["description"]) for processor in found]


def lanes(context: CompletionContext) -> list[tuple[str, str]]:
    """Complete names of lanes."""
    return [(lane["name"], lane["state"]) for lane in _ask(context, "/v1/lanes").get("lanes", ())]


def uploads(context: CompletionContext) -> list[tuple[str, str]]:
    """Complete ids of uploads."""
    found = _ask(context, "/v1/files", {"limit": NEWEST}).get("files", ())
    return [(file["id"], file["name"]) for file in found]


def _ask(context: CompletionContext, path: str, given: dict[str, Any] | None = None) -> dict[str, Any]:
    url = context.get("url")
    try:
        with Client(str(url.value) if url is not None else DEFAULT_URL) as client:
            answer = client.call("GET", path, params=given, timeout=PATIENCE_S)
    except CommandError:
        return {}
    return answer if isinstance(answer, dict) else {}
