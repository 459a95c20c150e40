"""Creating the output file of a jailed ffmpeg, which gets open descriptors and never a path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sink:
    """An output file that is open twice.

    `+faststart` reads back what was written, and ffmpeg opens `fd:` for that without naming a number, which means
    standard input. So `reading` has to be the standard input of the run; with anything else there ffmpeg
    moves the index in front of garbage and still exits with 0.
    """

    writing: int
    reading: int


@contextmanager
def created(path: Path) -> Iterator[Sink]:
    """Create a file at `path` that no other user can read; an existing file is an error, links are not followed.

    Raises:
        FileExistsError: something is there already.
    """
    writing = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        reading = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield Sink(writing, reading)
        finally:
            os.close(reading)
    finally:
        os.close(writing)
