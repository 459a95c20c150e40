"""`python -m tests.storm --seed N --seconds S [--keep] [--only FAULT] [--often KIND]`: 0 if all promises were kept."""

from __future__ import annotations

import argparse
import random
import signal
import sys
from types import FrameType

from tests.storm.faults import FAULTS
from tests.storm.storm import run


def main() -> int:
    """Read the arguments and run one storm."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description="Thousands of jobs under random faults.")
    parser.add_argument("--seed", default=str(random.randrange(10_000)), help="the same seed makes the same choices")
    parser.add_argument("--seconds", type=float, default=600, help="how long faults strike (default: 600)")
    parser.add_argument("--keep", action="store_true", help="keep data folders and logs also when all is well")
    parser.add_argument("--only", default="", help="only faults whose name holds this word")
    parser.add_argument("--often", default="", help="more jobs of the kinds whose name holds this word, such as video")
    arguments = parser.parse_args()
    names = [fault.name for fault in FAULTS]
    if not any(arguments.only in name for name in names):
        parser.error(f"--only: no fault is named {arguments.only!r}; there are {', '.join(names)}")
    signal.signal(signal.SIGTERM, _leave)
    print(f"storm: seed {arguments.seed}, {arguments.seconds:g} s", flush=True)
    try:
        given = vars(arguments)
        return 0 if run(given.pop("seed"), given.pop("seconds"), **given) else 1
    except KeyboardInterrupt:
        print("storm: interrupted; everything is cleaned up")
        return 130


def _leave(number: int, frame: FrameType | None) -> None:
    """Leave as by Ctrl-C, so that everything is cleaned up."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
