"""Refuses files on a disk or network share that does not respond, where looking at them would wait for ever."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress

from vidqueue.cli.exits import CommandError

# For one file; the daemon waits as long for a file that it is to read.
PATIENCE_S = 10.0


def require_response(paths: Iterable[str]) -> None:
    """Look at each file once; whether it is there does not matter.

    Raises:
        CommandError: the file system of one does not respond.
    """
    asked, looked = list(paths), list[str]()

    def look() -> None:
        for path in asked:
            with suppress(OSError, ValueError):
                os.stat(path)  # noqa: PTH116 - a name may be one that Path refuses
            looked.append(path)

    # Nothing can end a call that hangs in the kernel, and the program does not wait for this thread at its end.
    thread = threading.Thread(target=look, name="stat", daemon=True)
    thread.start()
    while thread.is_alive():
        before = len(looked)
        thread.join(PATIENCE_S)
        if thread.is_alive() and len(looked) == before:
            raise CommandError(
                f"{asked[before]} did not respond within {PATIENCE_S:g} s.",
                code="input_unreachable",
                hint="Its disk or network share hangs; mount it again, or name a file elsewhere.",
            )
