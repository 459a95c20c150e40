"""Restores what a job changes of the executor's process, so that the next job does not find it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def place() -> Iterator[None]:
    """Undo what a processor changes of its working folder and its umask.

    A processor that goes into its workspace would leave the next one in a folder that is gone.
    """
    folder, umask = os.open(".", os.O_PATH), os.umask(0o077)
    os.umask(umask)
    try:
        yield
    finally:
        os.umask(umask)
        try:
            os.fchdir(folder)
        finally:
            os.close(folder)


@contextmanager
def environment() -> Iterator[None]:
    """Undo what a run changes of the environment variables. What a processor's module sets when it is loaded stays."""
    before = dict(os.environ)
    try:
        yield
    finally:
        if os.environ != before:
            os.environ.clear()
            os.environ.update(before)
