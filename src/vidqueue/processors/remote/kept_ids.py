"""Ids of work on servers, kept from attempt to attempt: the next attempt goes on with what an earlier one began."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from vidqueue.processors.base import Context

KEPT_S = 14 * 86_400
# How long the id of work is kept whose result was fetched: the daemon may die before the attempt has ended, and the
# next one must fetch the result again instead of having the work done twice.
FETCHED_S = 86_400


@dataclass(slots=True)
class KeptId:
    """What is known of the work of one job on one server.

    Attributes:
        server: the address of the server.
        key: an idempotency key: a server that knows such keys begins the work once, however often it is asked to.
        remote: the id that the server gave it; empty before it has answered.
        asked_at: when the server was asked to begin it, in seconds since 1970; 0 before that.
    """

    server: str
    key: str
    remote: str = ""
    path: Path | None = None
    asked_at: float = 0.0

    def ask(self) -> None:
        """Keep that the server is asked to begin the work: it may do so although its answer is lost."""
        self.asked_at = time.time()
        self.save()

    def others(self) -> set[str]:
        """Ids of the work of other jobs of this machine on the same server."""
        if self.path is None:
            return set()
        with suppress(OSError):
            found = [_read(entry) for entry in self.path.parent.glob("*.json") if entry != self.path]
            return {one["remote"] for one in found if one.get("server") == self.server}
        return set()

    def remember(self, remote: str) -> None:
        """Keep the id that the server gave the work."""
        self.remote = remote
        self.save()

    def save(self) -> None:
        """Write it down, so that it is there after a crash; a disk that takes nothing only costs the memory of it."""
        if self.path is None:
            return
        with suppress(OSError):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self.path.with_suffix(f".{os.getpid()}")
            kept = {"server": self.server, "key": self.key, "remote": self.remote, "asked_at": str(self.asked_at)}
            fresh.write_text(json.dumps(kept))
            fresh.replace(self.path)

    def fetched(self) -> None:
        """The result has been fetched; the next attempt finds the work, if there is one."""
        if self.path is not None:
            with suppress(OSError):
                as_if = time.time() - KEPT_S + FETCHED_S
                os.utime(self.path, (as_if, as_if))

    def forget(self) -> None:
        """The work has ended, or is lost."""
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
        self.key, self.remote, self.asked_at = str(uuid4()), "", 0.0


def kept_id(ctx: Context, server: str) -> KeptId:
    """What an earlier attempt of this job left; something new if it left nothing, or was on another server."""
    job = ctx.workspace.name.rpartition("-")[0]
    path = ctx.cache_dir / "remote" / f"{job}.json" if ctx.cache_dir is not None and job else None
    found = _read(path)
    if path is not None and found.get("server") == server:
        return KeptId(server, found["key"], found["remote"], path, _number(found.get("asked_at", "")))
    _tidy(path)
    return KeptId(server, str(uuid4()), "", path)


def _read(path: Path | None) -> dict[str, str]:
    try:
        found: Any = json.loads(path.read_text()) if path is not None else None
    except (OSError, ValueError):
        return {}
    whole = isinstance(found, dict) and all(isinstance(found.get(name), str) for name in ("server", "key", "remote"))
    return {name: str(value) for name, value in found.items()} if whole else {}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _tidy(path: Path | None) -> None:
    """Remove what was left of jobs that nobody tried again."""
    if path is not None:
        with suppress(OSError):
            for entry in path.parent.iterdir():
                if entry.stat().st_mtime < time.time() - KEPT_S:
                    entry.unlink(missing_ok=True)
