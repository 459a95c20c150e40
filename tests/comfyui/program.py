"""The contract server as a program, as a daemon would start ComfyUI: `python -m tests.comfyui.program --port N`."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

from tests.comfyui.contract import ContractServer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--video", type=Path, required=True)
    given = parser.parse_args()
    server = ContractServer(Path(os.environ["TMPDIR"]), given.video.read_bytes())
    server.port = given.port
    server.start()
    print(f"To see the GUI go to: {server.url}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
