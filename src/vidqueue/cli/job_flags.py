"""Flags of `vidqueue submit` that every job can have, whatever its processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Group, Parameter

from vidqueue.cli.durations import seconds_of
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.moments import moment_of
from vidqueue.cli.options import DASH

JOB = Group("The job", sort_key=20)
WAITING = Group("Files and waiting", sort_key=30)


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class JobFlags:
    """Flags that every job can have."""

    title: Annotated[str | None, Parameter(group=JOB)] = None
    """A label for people."""
    tag: Annotated[tuple[str, ...] | None, Parameter(group=JOB)] = None
    """A label to filter by; may be given more than once."""
    priority: Annotated[int | None, Parameter(group=JOB, allow_leading_hyphen=True)] = None
    """From -1000 to 1000; higher goes first, and one point outweighs a minute of waiting."""
    run_at: Annotated[str | None, Parameter(group=JOB)] = None
    """Not before this time: 2027-01-31T22:00, 23:00 (the next), +2h, or tonight (22:00 today, or now if later)."""
    expires_at: Annotated[str | None, Parameter(group=JOB)] = None
    """Fail if it has not started by this time, such as 2027-01-31T22:00, 07:30 or +8h; local unless it names a zone."""
    max_attempts: Annotated[int | None, Parameter(group=JOB)] = None
    """Number of failed attempts after which the job fails."""
    timeout: Annotated[float | None, Parameter(group=JOB)] = None
    """Longest time one attempt may run, in seconds."""
    stall_timeout: Annotated[float | None, Parameter(group=JOB)] = None
    """Longest time without progress, in seconds."""
    lane: Annotated[str | None, Parameter(group=JOB)] = None
    """Run on this lane only."""
    after: Annotated[tuple[str, ...] | None, Parameter(group=JOB)] = None
    """A job that must succeed before this one begins, by its id or a piece of it; may be given more than once."""
    keep: Annotated[str | None, Parameter(group=JOB)] = None
    """Remove the job with its outputs so long after its end, such as 90s, 30m, 2h or 7d."""
    webhook: Annotated[str | None, Parameter(group=JOB)] = None
    """A URL that is told of the job by POST requests."""
    webhook_event: Annotated[tuple[str, ...] | None, Parameter(group=JOB)] = None
    """Tell only started, progress, output or completed; may be given more than once."""
    owner: Annotated[str | None, Parameter(group=JOB)] = None
    """Submit for this owner; needs a key with the role operate. The default is the owner of the key."""
    idempotency_key: Annotated[str | None, Parameter(group=JOB)] = None
    """A key of your choice. Sending the same request with the same key again does not create a second job."""
    wait: Annotated[bool, Parameter(group=WAITING, negative="", show_default=False)] = False
    """Watch the job until it ends. Ctrl-C stops watching; the job continues."""
    output: Annotated[str | None, DASH, Parameter(group=WAITING, alias="-o")] = None
    """Wait, and download the result to this file or folder, or `-` for standard output."""
    force: Annotated[bool, Parameter(group=WAITING, negative="", show_default=False)] = False
    """Replace an existing file with the result. An input is never replaced."""
    upload: Annotated[bool, Parameter(group=WAITING)] = True
    """Upload local files. With --no-upload the daemon opens them itself by path, under its inputs.roots."""

    def request(self) -> dict[str, Any]:
        """The part of the request that says how to run the job; what was not given is left to the daemon."""
        given = {
            "title": self.title,
            "tags": list(self.tag or ()) or None,
            "priority": self.priority,
            "run_at": moment_of(self.run_at).isoformat() if self.run_at else None,
            "expires_at": moment_of(self.expires_at).isoformat() if self.expires_at else None,
            "max_attempts": self.max_attempts,
            "timeout_s": self.timeout,
            "stall_timeout_s": self.stall_timeout,
            "lane": self.lane,
            "after": list(self.after or ()) or None,
            "keep_s": seconds_of(self.keep) if self.keep else None,
            "webhook": receiver(self.webhook, self.webhook_event),
        }
        return {name: value for name, value in given.items() if value is not None}


def receiver(url: str | None, events: tuple[str, ...] | None) -> dict[str, Any] | None:
    """Return whom to tell of a job, as a request names it.

    Raises:
        CommandError: there are events without a URL.
    """
    if url is None:
        if events:
            raise CommandError("--webhook-event needs --webhook.", exit=Exit.USAGE)
        return None
    return {"url": url, "events": list(events)} if events else {"url": url}
