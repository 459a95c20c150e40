"""The command line. `main` is the entry point; the other modules contain the commands.

Modules import only what a command needs, so that commands start quickly.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    try:
        _open_closed_streams()
        # Imported here, because Ctrl-C may be pressed while modules are still being loaded.
        from vidqueue.cli.invocation import run

        return run(arguments)
    except KeyboardInterrupt:
        return 130  # Exit.INTERRUPTED


def _open_closed_streams() -> None:
    """Open what the caller has closed of the standard streams, so that no other file gets its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(descriptor)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor
