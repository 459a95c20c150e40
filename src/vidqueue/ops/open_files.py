"""Limit of open files (RLIMIT_NOFILE): raised at the start of the daemon, because event streams need many."""

from __future__ import annotations

import resource

# Enough for thousands of event streams; some machines have a hard limit of a billion.
MOST_FILES = 65_536


def raise_open_files_limit() -> None:
    """Raise the soft limit of open files: its default of 1024 is for select(2), which is not used here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
