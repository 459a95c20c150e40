"""Runs work on a server that is polled: submits it, polls it until it ends, and stops it with the job.

Only the server's answers are believed. Work that it does not know any more was lost by a restart, which interrupts the
attempt. The next attempt of a job goes on with the work of the one before, if that is there. If the answer that the
work has begun is lost, the work is looked for in the server's list.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vidqueue.errors import LostWorkError, VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.ops import active_time
from vidqueue.processors.base import CanceledError, Context, WaitingError
from vidqueue.processors.remote.error_mapping import error_for_response, failure_of, retry_after_s
from vidqueue.processors.remote.kept_ids import kept_id
from vidqueue.processors.remote.keys import bearer
from vidqueue.processors.remote.left_work import DONE, FAILED, NOT_NOW, status_of
from vidqueue.processors.remote.lost_answers import UnlistedError, found
from vidqueue.processors.remote.peer import Peer, PeerError, Reply, stopped_by
from vidqueue.progress import Progress

POLL_S = 1.0
SHORTEST_POLL_S, LONGEST_POLL_S = 0.2, 10.0
SUBMIT_S, STOP_S = 120.0, 12.0
# When a server is asked whether it has begun the work whose answer was lost, in seconds after each other.
LOOK_AFTER_S = (0.5, 1.5, 3.0)
# Answers in a row that say nothing about the work.
NONSENSE = 5

# The words of several servers for work that waits there.
QUEUED = frozenset({"queued", "pending", "starting", "created"})
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,199}")


class PolledRun(ABC):
    """One piece of work. Subclasses say how it is asked for, and what its result is."""

    # The processor, the address of all its work, and of the list of what began last.
    kind: str
    path: str
    newest: str

    def __init__(self, name: str, url: str, key_file: Path | None, away_timeout_s: float, ctx: Context) -> None:
        self.name = name
        self.ctx = ctx
        self.peer = Peer(url, bearer(key_file, ctx.redact))
        self.kept = kept_id(ctx, self.kind, url)
        # A server that the daemon runs ends with it, and serves one lane.
        self._outlives_us = not any(f"{url}/".startswith(f"{own}/") for own in ctx.peers.values())
        self._away_timeout_s = away_timeout_s
        self._wait_s = POLL_S
        self._may_have_begun = self._resumed = self._asks_again = False
        # What the server was asked for, while it is not known whether it has begun.
        self._asked_for: Any = None

    @abstractmethod
    def request(self) -> tuple[str, Any]:
        """The path and the body of the request that begins the work."""

    @abstractmethod
    def is_same(self, work: Mapping[str, Any], body: Any) -> bool:
        """True if the server says that the work was asked for with what stands in this body."""

    @abstractmethod
    def tell(self, work: Mapping[str, Any], status: str) -> None:
        """Report how far the work is."""

    @abstractmethod
    def result(self, work: Mapping[str, Any]) -> list[OutputDraft]:
        """Fetch what came of work that has ended well."""

    @abstractmethod
    def stop(self) -> int:
        """Tell the server to stop the work; return the status of its answer."""

    def run(self) -> list[OutputDraft]:
        """Have the work done.

        Raises:
            VidqueueError: with the code that fits what the server said.
            WaitingError: the server cannot take the work now.
            LostWorkError: the server forgot the work, or went away with it.
        """
        try:
            ended = self._followed(self._earlier() or self._submitted())
            self.ctx.progress(Progress(0.99, stage="fetch"))
            drafts = self._delivered(ended)
        except CanceledError:
            if not (self._outlives_us and self.ctx.interrupted.is_set()):
                self._end_on_server()
            raise
        except VidqueueError:
            if not self._asks_again and (self.kept.remote or not self._may_have_begun):
                # The next attempt begins anew.
                self.kept.forget()
            raise
        self.kept.fetched()
        return drafts

    @property
    def address(self) -> str:
        """The path of the work."""
        return f"{self.path}/{self.kept.remote}"

    def download(self, reference: str, path: Path, limit: int) -> str:
        """Download a file of the work; return its media type.

        Raises:
            VidqueueError: `peer_lost`, it cannot be had.
            OSError: it cannot be written; the work is kept, and the next attempt fetches it.
        """
        try:
            with stopped_by(self.ctx.canceled) as stop:
                return self.peer.download(reference, path, largest=limit, stop=stop)
        except PeerError as error:
            self.ctx.check_canceled()
            raise VidqueueError("peer_lost", f"A file of the result cannot be fetched: {error}.") from None

    def _end_on_server(self) -> None:
        """Have the server stop. If it cannot be told now, the id is kept, and the daemon tells it later."""
        try:
            with suppress(UnlistedError):
                self._find_for_stop()
            if self.kept.remote and self.stop() in NOT_NOW:
                return
        except PeerError:
            return
        self.kept.forget()

    def _delivered(self, ended: dict[str, Any]) -> list[OutputDraft]:
        """Fetch the result. Where that fails, the next attempt asks for it again, and the one after it begins anew."""
        try:
            return self.result(ended)
        except VidqueueError as error:
            self._asks_again = error.code == "peer_lost" and not self._resumed
            raise

    def _earlier(self) -> dict[str, Any] | None:
        """The work that an earlier attempt left on the server."""
        if not self.kept.remote:
            return None
        try:
            reply = self.peer.reply("GET", self.address)
        except PeerError as error:
            raise self._away(str(error)) from None
        if (why := _says_nothing(reply)) or reply.status in (401, 403):
            raise self._away(why or "it refuses the key", retry_after_s=retry_after_s(reply))
        known = reply.status == 200 and isinstance(reply.value, dict) and not self.kept.is_other(reply.value)
        if known and status_of(reply.value) not in FAILED:
            self.ctx.log(f"Goes on with {self.kept.remote}, which an earlier attempt began.")
            self._resumed = True
            return dict(reply.value)
        self.kept.forget()
        return None

    def _submitted(self) -> dict[str, Any]:
        self.ctx.progress(Progress(0.0, stage="submit"))
        path, body = self.request()
        if self.kept.asked_at and (begun := self._begun_before(body)) is not None:
            return begun
        self.kept.ask()
        self._asked_for = body
        try:
            with stopped_by(self.ctx.canceled) as stop:
                headers = {"Idempotency-Key": self.kept.key}
                reply = self.peer.reply("POST", path, body, headers=headers, idle_s=SUBMIT_S, stop=stop)
        except PeerError as error:
            if error.unsent:
                self._asked_for, self.kept.asked_at = None, 0.0
                raise self._away(str(error)) from None
            message = f"The {self.name} broke off while it took the work: {error}."
            lost = LostWorkError(f"{message} It has not begun it.", retry_after_s=10)
            return self._in_doubt(body, VidqueueError("peer_lost", message), lost)
        if reply.status // 100 != 2:
            # What stands between may have lost the answer, and not the work.
            if reply.status in (500, 502, 504):
                refused = error_for_response(self.name, reply)
                return self._in_doubt(body, refused, refused)
            self._asked_for, self.kept.asked_at = None, 0.0
            raise error_for_response(self.name, reply)
        work = reply.value
        if not isinstance(work, dict) or not _ID.fullmatch(str(work.get("id", ""))):
            raise VidqueueError("peer_lost", f"The {self.name} answers, but with nothing that has an id.")
        return self._taken(work)

    def _taken(self, work: dict[str, Any]) -> dict[str, Any]:
        self._asked_for = None
        self.kept.remember(str(work["id"]), work)
        self.ctx.log(f"The server calls it {work['id']}.")
        return work

    def _in_doubt(self, body: Any, unknown: Exception, not_begun: Exception) -> dict[str, Any]:
        """The work after its first answer was lost, if the server has begun it.

        Raises:
            Exception: `not_begun`, or `unknown` if the server does not tell; one that knows idempotency keys does not
                begin it twice then.
        """
        self._may_have_begun = True
        try:
            for pause_s in LOOK_AFTER_S:
                self.ctx.canceled.wait(pause_s)
                self.ctx.check_canceled()
                if (begun := self._look_for(body)) is not None:
                    return begun
        except (PeerError, UnlistedError):
            raise unknown from None
        raise not_begun

    def _find_for_stop(self) -> None:
        """Find the work of a job that was canceled while the server was asked to begin it."""
        if self.kept.remote or self._asked_for is None:
            return
        for pause_s in LOOK_AFTER_S:
            time.sleep(pause_s)
            if self._look_for(self._asked_for) is not None:
                return

    def _begun_before(self, body: Any) -> dict[str, Any] | None:
        """The work that an earlier attempt asked for and did not hear of."""
        try:
            return self._look_for(body)
        except UnlistedError:
            return None
        except PeerError as error:
            raise self._away(str(error)) from None

    def _look_for(self, body: Any) -> dict[str, Any] | None:
        """The work in the server's list, if it has begun it."""
        begun = found(self.peer, self.newest, self.kept, lambda work: self.is_same(work, body))
        if begun is None or not _ID.fullmatch(begun["id"]):
            return None
        self.ctx.log("The answer that it has begun was lost; the server lists it.")
        return self._taken(begun)

    def _followed(self, work: dict[str, Any]) -> dict[str, Any]:
        """The work once it has ended well."""
        heard_at, nonsense = active_time.now(), 0
        while True:
            status = status_of(work)
            self.tell(work, status)
            if status in DONE:
                return work
            if status in FAILED:
                raise failure_of(work.get("error"), f"The {self.name} reports the status {status}.")
            self.ctx.canceled.wait(self._wait_s)
            self.ctx.check_canceled()
            reply = self._asked(heard_at)
            if reply is None:
                continue
            heard_at = active_time.now()
            told = reply.value if reply.status == 200 and isinstance(reply.value, dict) else {}
            if reply.status == 404 or self.kept.is_other(told):
                self.kept.forget()
                raise LostWorkError(f"The {self.name} no longer has the work; it may have been restarted.")
            if told.get("status"):
                work, nonsense = told, 0
                continue
            nonsense += 1
            if nonsense >= NONSENSE:
                # The work may go on there all the same.
                self._asks_again = not self._resumed
                raise VidqueueError("peer_lost", f"The {self.name} answered {reply.status}, and not about the work.")

    def _asked(self, heard_at: float) -> Reply | None:
        """The answer of the server; None if there is none yet."""
        try:
            reply = self.peer.reply("GET", self.address)
            why = _says_nothing(reply)
        except PeerError as error:
            why = str(error)
        if why:
            if active_time.now() > heard_at + self._away_timeout_s:
                raise LostWorkError(f"The {self.name} does not answer any more: {why}.", retry_after_s=10)
            return None
        told = reply.headers.get("openai-poll-after-ms", "")
        wait_s = int(told) / 1000 if told.isascii() and told.isdigit() and len(told) < 9 else POLL_S
        self._wait_s = min(max(wait_s, SHORTEST_POLL_S), LONGEST_POLL_S)
        return reply

    def _away(self, why: str, *, retry_after_s: float = 10) -> WaitingError:
        return WaitingError("peer_unavailable", f"The {self.name} does not answer: {why}.", retry_after_s=retry_after_s)


def _says_nothing(reply: Reply) -> str:
    """Why an answer says nothing of the work: the server is overloaded, or starts; empty if it may say something."""
    return f"it answers {reply.status}" if reply.status in (408, 425, 429) or reply.status >= 500 else ""
