"""Mounts a file system (FUSE) on a folder and answers no question about its files, as a dead network share.

python dead_share.py FOLDER: prints `mounted`, or why it cannot be, and `asked` for each question.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

INIT = 26
HEADER = struct.Struct("<IIQ24x")
# Version 7.31 of the protocol, and sizes that the kernel accepts.
WELCOME = struct.pack("<IIII4xIII32x", 7, 31, 65_536, 0, 65_536, 1, 0)


def main(folder: str) -> None:
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        print(error, flush=True)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    if libc.mount(b"dead", os.fsencode(folder), b"fuse", 0, options.encode()) != 0:
        print(os.strerror(ctypes.get_errno()), flush=True)
        return
    print("mounted", flush=True)
    while True:
        _, kind, number = HEADER.unpack_from(os.read(device, 1 << 18))
        if kind != INIT:
            print("asked", flush=True)
        else:
            os.write(device, struct.pack("<IiQ", 16 + len(WELCOME), 0, number) + WELCOME)


if __name__ == "__main__":
    main(sys.argv[1])
