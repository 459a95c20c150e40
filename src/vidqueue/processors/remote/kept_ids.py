"""Ids of work on servers, kept from attempt to attempt: the next attempt goes on with what an earlier one began.

What is left of a job that has ended is what the daemon tells the server to stop.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from vidqueue.processors.context import Context

# In the folder that stays from job to job.
FOLDER = "remote"
KEPT_S = 14 * 86_400
# How long the id of work is kept whose result was fetched: the daemon may die before the attempt has ended, and the
# next one must fetch the result again instead of having the work done twice.
FETCHED_S = 86_400
# What every file has.
_WHOLE = ("server", "key", "remote")


@dataclass(slots=True)
class KeptId:
    """What is known of the work of one job on one server.

    Attributes:
        kind: the processor that knows such servers.
        server: the address of the server.
        key: an idempotency key: a server that knows such keys begins the work once, however often it is asked to.
        remote: the id that the server gave it; empty before it has answered.
        asked_at: when the server was asked to begin it, in seconds since 1970; 0 before that.
        created, prompt: what the server said of it at first: when it was created, and a hash of its prompt.
        over: whether nothing is left to be stopped.
    """

    kind: str
    server: str
    key: str
    remote: str = ""
    path: Path | None = None
    asked_at: float = 0.0
    created: str = ""
    prompt: str = ""
    over: bool = False

    @property
    def job(self) -> UUID | None:
        """The job that it belongs to."""
        try:
            return None if self.path is None else UUID(self.path.stem)
        except ValueError:
            return None

    def ask(self) -> None:
        """Keep that the server is asked to begin the work: it may do so although its answer is lost."""
        self.asked_at = time.time()
        self.save()

    def others(self) -> set[str]:
        """Ids of the work of other jobs of this machine on the same server."""
        if self.path is None:
            return set()
        kept = kept_in(self.path.parent)
        return {one.remote for one in kept if one.path != self.path and one.server == self.server}

    def remember(self, remote: str, told: Mapping[str, Any]) -> None:
        """Keep the id that the server gave the work, and what it told of it."""
        self.remote, (self.created, self.prompt) = remote, _marks_of(told)
        self.save()

    def is_other(self, told: Mapping[str, Any]) -> bool:
        """True if the server has given the id to other work, as one that was restarted and counts may do."""
        created, prompt = _marks_of(told)
        known = all((created, prompt, self.created, self.prompt))
        return known and created != self.created and prompt != self.prompt

    def save(self) -> None:
        """Write it down, so that it is there after a crash; a disk that takes nothing only costs the memory of it."""
        if self.path is None:
            return
        with suppress(OSError):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self.path.with_suffix(f".{os.getpid()}")
            fresh.write_text(
                json.dumps(
                    {
                        "kind": self.kind, "server": self.server, "key": self.key, "remote": self.remote,
                        "asked_at": str(self.asked_at), "created": self.created, "prompt": self.prompt,
                        "over": "yes" if self.over else "",
                    }
                )
            )  # fmt: skip
            fresh.replace(self.path)

    def fetched(self) -> None:
        """The result has been fetched; the next attempt finds the work, if there is one."""
        self.ended()
        if self.path is not None:
            with suppress(OSError):
                as_if = time.time() - KEPT_S + FETCHED_S
                os.utime(self.path, (as_if, as_if))

    def ended(self) -> None:
        """Keep that the server has ended the work."""
        self.over = True
        self.save()

    def forget(self) -> None:
        """The work has ended, or is lost."""
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
        self.key, self.remote, self.asked_at = str(uuid4()), "", 0.0
        self.created, self.prompt, self.over = "", "", False


def kept_id(ctx: Context, kind: str, server: str) -> KeptId:
    """What an earlier attempt of this job left; something new if it left nothing, or was on another server."""
    job = ctx.attempt.rpartition("-")[0]
    path = ctx.cache_dir / FOLDER / f"{job}.json" if ctx.cache_dir is not None and job else None
    found = _read(path)
    if found is not None and found.server == server:
        found.over = False
        return found
    _tidy(path)
    return KeptId(kind, server, str(uuid4()), "", path)


def kept_in(folder: Path, *, since: float = 0.0) -> Iterator[KeptId]:
    """What is kept in a folder, of all jobs; only what was written since then, if a time is given."""
    for entry in folder.glob("*.json"):
        with suppress(OSError):
            if entry.stat().st_mtime >= since and (found := _read(entry)) is not None:
                yield found


def _read(path: Path | None) -> KeptId | None:
    try:
        found: Any = json.loads(path.read_text()) if path is not None else None
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or not all(isinstance(found.get(name), str) for name in _WHOLE):
        return None
    text = {name: str(value) for name, value in found.items()}
    return KeptId(
        text.get("kind", ""), text["server"], text["key"], text["remote"], path, _number(text.get("asked_at", "")),
        text.get("created", ""), text.get("prompt", ""), bool(text.get("over")),
    )  # fmt: skip


def _marks_of(told: Mapping[str, Any]) -> tuple[str, str]:
    """When work was created and a hash of its prompt, as the server tells; empty where it does not."""
    created, prompt = told.get("created_at"), told.get("prompt")
    hashed = hashlib.sha256(str(prompt).encode(errors="replace")).hexdigest()[:16] if prompt else ""
    return str(created or ""), hashed


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
