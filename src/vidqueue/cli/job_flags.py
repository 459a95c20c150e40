"""Flags of `vidqueue submit` that every job can have, whatever its processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Group, Parameter

from vidqueue.cli.completers import jobs_in, lanes
from vidqueue.cli.durations import seconds_of
from vidqueue.cli.exits import CommandError, Exit
from vidqueue.cli.options import DASH
from vidqueue.cli.times import moment_of

JOB = Group("The job", sort_key=20)
WAITING = Group("Files and waiting", sort_key=30)


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class JobFlags:
    """Flags that every job can have."""

    title: Annotated[str | None, Parameter(group=JOB, allow_leading_hyphen=True)] = None
    """A label for people."""
    tag: Annotated[tuple[str, ...] | None, Parameter(group=JOB, allow_leading_hyphen=True)] = None
    """A label to filter by; may be given more than once."""
    priority: Annotated[int | None, Parameter(group=JOB, allow_leading_hyphen=True)] = None
    """From -1000 to 1000; higher goes first, and one point outweighs a minute of waiting."""
    run_at: Annotated[str | None, Parameter(group=JOB)] = None
    """Not before this time: 2027-01-31T22:00, 23:00 (the next), +2h, or tonight (22:00 today, or now if later)."""
    expires_at: Annotated[str | None, Parameter(group=JOB)] = None
    """Fail if it has not started by this time, such as 2027-01-31T22:00, 07:30 or +8h; local unless it names a zone."""
    max_attempts: Annotated[int | None, Parameter(group=JOB)] = None
    """Number of failed attempts after which the job fails."""
    timeout: Annotated[str | None, Parameter(group=JOB)] = None
    """Longest time one attempt may run, such as 90s, 30m or 2h; a number alone is seconds."""
    stall_timeout: Annotated[str | None, Parameter(group=JOB)] = None
    """Longest time without progress, such as 90s or 5m; a number alone is seconds."""
    lane: Annotated[str | None, Parameter(group=JOB, completer=lanes)] = None
    """Run on this lane only."""
    label: Annotated[tuple[str, ...] | None, Parameter(group=JOB)] = None
    """Run only on lanes that have this label; may be given more than once."""
    after: Annotated[tuple[str, ...] | None, Parameter(group=JOB, completer=jobs_in())] = None
    """A job that must succeed before this one begins, by its id or a piece of it; may be given more than once."""
    keep: Annotated[str | None, Parameter(group=JOB)] = None
    """Remove the job with its outputs so long after its end, such as 90s, 30m, 2h or 7d."""
    cache: Annotated[bool | None, Parameter(group=JOB)] = None
    """Reuse the outputs of an earlier job that did the same work. --no-cache does the work again."""
    webhook: Annotated[str | None, Parameter(group=JOB)] = None
    """A URL that is told of the job by POST requests."""
    webhook_event: Annotated[tuple[str, ...] | None, Parameter(group=JOB)] = None
    """Tell only started, progress, output or completed; may be given more than once."""
    owner: Annotated[str | None, Parameter(group=JOB)] = None
    """Submit for this owner; where keys are used, with one of the role operate. The default is the owner of the key."""
    idempotency_key: Annotated[str | None, Parameter(group=JOB)] = None
    """A key of your choice. Sending the same request with the same key again does not create a second job."""
    wait: Annotated[bool, Parameter(group=WAITING, negative="", show_default=False)] = False
    """Watch the job until it ends. Ctrl-C stops watching; the job continues."""
    output: Annotated[str | None, DASH, Parameter(group=WAITING, alias="-o")] = None
    """Wait, and download the result to this file or folder, or `-` for standard output."""
    forget_uploads: Annotated[bool, Parameter(group=WAITING, negative="", show_default=False)] = False
    """Let the daemon remove the uploaded copies once every job that names them has succeeded or is deleted."""
    force: Annotated[bool, Parameter(group=WAITING, negative="", show_default=False)] = False
    """Replace an existing file with the result. An input is never replaced."""
    upload: Annotated[bool | None, Parameter(group=WAITING)] = None
    """Upload local files. With --no-upload the daemon opens them itself by path, under its inputs.roots. The default is
    to upload what is smaller than 64 MiB, and larger files where a daemon on this machine cannot read them in place."""

    def request(self) -> dict[str, Any]:
        """The part of the request that says how to run the job; what was not given is left to the daemon."""
        given = {
            "title": self.title,
            "tags": list(self.tag or ()) or None,
            "priority": self.priority,
            "run_at": moment_of(self.run_at).isoformat() if self.run_at else None,
            "expires_at": moment_of(self.expires_at).isoformat() if self.expires_at else None,
            "max_attempts": self.max_attempts,
            "timeout_s": seconds_of(self.timeout) if self.timeout else None,
            "stall_timeout_s": seconds_of(self.stall_timeout) if self.stall_timeout else None,
            "lane": self.lane,
            "labels": list(self.label or ()) or None,
            "after": list(self.after or ()) or None,
            "keep_s": seconds_of(self.keep) if self.keep else None,
            "cache": self.cache,
            "forget_uploads": self.forget_uploads or None,
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
