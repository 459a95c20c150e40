"""The health check of a Cog server, and the formatting of its log."""

from __future__ import annotations

import json
from typing import Any

from vidqueue.processors.peers import Condition
from vidqueue.processors.remote.cog_settings import Endpoint, document_of
from vidqueue.processors.remote.peer import Peer, PeerError

ASK_S = 5.0
# A server in one of these states does not recover.
SPOILED = frozenset({"UNHEALTHY", "DEFUNCT", "SETUP_FAILED"})


def condition_of(endpoint: Endpoint, url: str) -> Condition:
    """Ask the server at an address how it is; it may block for seconds. One that is ready tells its schema too."""
    try:
        status, answer = Peer(url).ask("GET", "/health-check", idle_s=ASK_S)
    except PeerError as error:
        return Condition("away", str(error))
    health = answer if isinstance(answer, dict) else {}
    word = str(health.get("status", "READY" if status == 404 else "")).upper()
    if word in SPOILED:
        return Condition("broken", f"{word}: {_words(health)}".removesuffix(": "))
    if word == "READY" and endpoint.command:
        document_of(endpoint, url)
    states = {"READY": "ready", "BUSY": "busy", "STARTING": "starting"}
    return Condition(states.get(word, "away"), "" if word in states else "its response is not that of a Cog server")  # type: ignore[arg-type]


def _words(health: dict[str, Any]) -> str:
    setup = health.get("setup")
    told = setup.get("logs") if isinstance(setup, dict) and setup.get("status") == "failed" else None
    return str(told or health.get("user_healthcheck_error") or "").strip()[-4000:]


def readable(line: str) -> str | None:
    """Return the message of a JSON log line of Cog; None for output of the model, which its reports have too."""
    if not line.startswith("{"):
        return line
    try:
        fields = json.loads(line)["fields"]
        if fields.get("prediction_id") and fields.get("source"):
            return None
        said = " ".join(f"{name}={value}" for name, value in fields.items() if name != "message")
        return f"{fields['message']} {said}".strip()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return line
