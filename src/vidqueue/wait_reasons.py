"""Why a job waits, in words, by the `wait_reason` of its row; and what to do about some of it. No IO."""

from __future__ import annotations

REASONS = {
    "dependency": "waits for another job",
    "backoff": "waits before the next attempt",
    "scheduled": "scheduled for later",
    "no_lane": "no lane can take it",
    "no_processor": "no daemon has this processor",
    "file_elsewhere": "its file lies on another host",
    "no_space": "the disk of its lanes is full",
    "gpu_lost": "the GPU does not respond",
    "gpu_busy": "other programs keep the GPU busy",
    "gpu_memory": "other programs hold the GPU memory",
    "program_runs": "a configured program is running",
    "outside_window": "its lanes are closed at this time",
    "paused": "paused",
    "owner_limit": "its owner has reached a limit",
    "processor_limit": "its processor has reached a limit",
    "endpoint_busy": "its server is busy",
    "peer_busy": "its server is busy",
    "peer_starting": "its server is starting",
    "peer_unavailable": "its server does not answer",
    "peer_elsewhere": "its server belongs to other lanes",
    "busy": "all lanes are busy",
}

ADVICE = {
    "no_processor": "Install its package where the daemon runs, and run `vidqueue reload`.",
}

BLOCKS = {
    "no_space": "The disk is nearly full, so this lane takes no jobs until there is space.",
    "gpu_lost": "The GPU does not respond. It may need a reset or a reboot.",
    "gpu_busy": "Other programs keep the GPU busy, so this lane takes no jobs until they stop.",
    "program_runs": "A program of neighbours.programs is running, so this lane takes no jobs until it has ended.",
    "outside_window": "This lane is outside its time windows.",
}


def reason(code: str | None) -> str:
    """Return why a job waits, in words."""
    return REASONS.get(code or "", (code or "").replace("_", " "))


def block(code: str) -> str:
    """Return why a lane is blocked, in a sentence."""
    return BLOCKS.get(code, f"Blocked: {code.replace('_', ' ')}.")
