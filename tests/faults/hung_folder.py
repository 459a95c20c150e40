"""Runs a daemon for which one folder hangs, as on a dead NFS server, for as long as a flag file exists.

python hung_folder.py FOLDER FLAG [what would have been run]: a call of the `os` module for a path in FOLDER blocks its
thread while FLAG exists. Executors are other processes and do not notice.
"""

from __future__ import annotations

import functools
import os
import runpy
import sys
import time
from typing import Any

CALLS = ("open", "stat", "lstat", "readlink", "listdir", "scandir", "statvfs")


def main(folder: str, flag: str) -> None:
    exists = functools.partial(os.access, flag, os.F_OK)

    def hanging(real: Any) -> Any:
        @functools.wraps(real)
        def call(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
            while isinstance(path, str | os.PathLike) and os.fspath(path).startswith(folder) and exists():
                time.sleep(0.02)
            return real(path, *args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, hanging(getattr(os, name)))
    # After that of `os`, so that no module has kept the real functions.
    from vidqueue.jobs import roots

    roots.HANGS_AFTER_S = 2.0
    sys.argv = ["vidqueue", "serve"]
    runpy.run_module("vidqueue", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
