"""Follows jobs until they end. An event says that a job changed; the job is then read again."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator

from vidqueue.cli import stream
from vidqueue.cli.client import FINAL, Client, Job
from vidqueue.cli.exits import CommandError, Exit

_PROGRESS_FIELDS = ("progress", "stage", "message", "fps", "speed", "eta_s", "attempt")

_AWAY = (Exit.UNAVAILABLE, Exit.BUSY)

UNFINISHED = "queued,running"
# No event tells that a job has moved up. Places are read again so often, among so many of the newest waiting jobs.
PLACES_EVERY_S = 3.0
PLACES = 500


def changes(
    client: Client, wanted: Collection[str] | None, *, tell: Callable[[str], None], places: bool = False
) -> Iterator[Job]:
    """Yields each wanted job when it has changed, until all of them have ended.

    With `wanted` of None all jobs are followed, including new ones, until Ctrl-C. `tell` gets a message when the
    connection to the daemon is lost and when it is back. With `places`, a waiting job is yielded too when its place in
    the queue has changed, every few seconds.
    """
    follower, away = _Follower(client, wanted), False
    for arrived in stream.messages(client, "/v1/events"):
        match arrived:
            case stream.Watchdog():
                if away:
                    tell("The daemon is back.")
                away = False
                yield from follower.read_again()
            case stream.Message(kind=kind, data=data):
                yield from follower.learn(kind, data)
                if places:
                    yield from follower.moved()
            case stream.Broken(reason):
                if not away:
                    tell(f"The daemon is away ({reason}); waiting for it. Its jobs are kept.")
                away = True
        if follower.done:
            return


class _Follower:
    def __init__(self, client: Client, wanted: Collection[str] | None) -> None:
        self._client = client
        self._wanted = wanted
        self._known: dict[str, Job] = {}
        self._placed_at = 0.0

    @property
    def done(self) -> bool:
        """Whether every wanted job has ended."""
        if self._wanted is None:
            return False
        return all(self._has_ended(job_id) for job_id in self._wanted)

    def read_again(self) -> Iterator[Job]:
        """Read every job that has not ended, because events may have been missed."""
        if self._wanted is None:
            yield from map(self._remember, self._unfinished())
        ids = self._known if self._wanted is None else self._wanted
        for job_id in [job_id for job_id in ids if not self._has_ended(job_id)]:
            yield from self._read(job_id)

    def learn(self, kind: str, data: Job) -> Iterator[Job]:
        """Yield the job that an event is about, if it is followed."""
        job_id = str(data.get("job_id", ""))
        if not job_id:
            return  # an event of the machine, such as a pause
        if self._wanted is not None and job_id not in self._wanted:
            return
        known = self._known.get(job_id)
        if kind == "progress" and known is not None and known["state"] == "running":
            yield self._remember(known | {name: data.get(name) for name in _PROGRESS_FIELDS if name in data})
        elif kind != "progress" or known is None:
            yield from self._read(job_id)

    def moved(self) -> Iterator[Job]:
        """Yield the waiting jobs whose place has changed, if it is time to look."""
        waiting = {job["id"]: job.get("position") for job in self._known.values() if job["state"] == "queued"}
        if not waiting or time.monotonic() - self._placed_at < PLACES_EVERY_S:
            return
        for job in self._waiting():
            if job["id"] in waiting and job.get("position") != waiting[job["id"]]:
                yield self._remember(job)
        self._placed_at = time.monotonic()

    def _waiting(self) -> list[Job]:
        try:
            return list(self._client.jobs(limit=PLACES, state="queued"))
        except CommandError as error:
            if error.exit in _AWAY:
                return []
            raise

    def _read(self, job_id: str) -> Iterator[Job]:
        try:
            yield self._remember(self._client.job(job_id))
        except CommandError as error:
            if error.exit in _AWAY:
                return  # the stream breaks too, and all jobs are read again afterwards
            if error.exit is not Exit.NOT_FOUND:
                raise
            # Someone deleted it while it was watched.
            self._known.pop(job_id, None)
            if self._wanted is not None:
                self._wanted = [other for other in self._wanted if other != job_id]

    def _unfinished(self) -> list[Job]:
        try:
            return list(self._client.jobs(limit=None, state=UNFINISHED))
        except CommandError as error:
            if error.exit in _AWAY:
                return []
            raise

    def _remember(self, job: Job) -> Job:
        self._known[job["id"]] = job
        return job

    def _has_ended(self, job_id: str) -> bool:
        return job_id in self._known and self._known[job_id]["state"] in FINAL
