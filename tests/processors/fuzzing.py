"""Mutating small files of five containers and sending them through probe and `transcode`; `make fuzz` tries many.

A mutated file may be refused or come out. It must not take long, and a success must hold what plain ffmpeg decodes of
the same file, unless its warnings tell of the difference.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.processors.comparison import differences_of_pictures
from tests.processors.work import Work
from vidqueue.errors import VidqueueError
from vidqueue.media.jail.sandbox import ffmpeg_path

LONGEST_S = 30.0
SEEDS = {
    "seed.mp4": ("-c:v", "libx264", "-c:a", "aac"),
    "seed.mkv": ("-c:v", "libx264", "-c:a", "libopus"),
    "seed.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"),
    "seed.ts": ("-c:v", "mpeg2video", "-c:a", "mp2"),
    "seed.avi": ("-c:v", "mpeg4", "-c:a", "libmp3lame"),
}


def seeds(folder: Path) -> list[Path]:
    """One small whole file of each container."""
    made = []
    for name, coded in SEEDS.items():
        path = folder / name
        sources = (
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=96x64:rate=25:duration=1",
            "-f",
            "lavfi",
            "-i",
            "sine=duration=1",
        )
        command: list[str | Path] = [
            ffmpeg_path(),
            "-v",
            "error",
            "-y",
            *sources,
            *coded,
            "-pix_fmt",
            "yuv420p",
            str(path),
        ]
        subprocess.run(command, check=True)
        made.append(path)
    return made


def mutated(content: bytes, dice: random.Random) -> bytes:
    """The content with one to eight faults: flipped bits, blocks that are zero, lost, twice or foreign; or cut off."""
    data = bytearray(content)
    for _ in range(dice.randint(1, 8)):
        at, size = dice.randrange(len(data)), dice.randint(1, 400)
        match dice.choice(("flip", "flip", "flip", "zero", "lose", "twice", "noise", "cut")):
            case "flip":
                data[at] ^= 1 << dice.randrange(8)
            case "zero":
                data[at : at + size] = bytes(len(data[at : at + size]))
            case "lose":
                del data[at : at + size]
            case "twice":
                data[at:at] = data[at : at + size]
            case "noise":
                data[at : at + size] = dice.randbytes(len(data[at : at + size]))
            case _:
                del data[max(at, len(data) // 2) :]
        if len(data) < 1000:
            break
    return bytes(data)


def outcomes(count: int, seed: int, folder: Path) -> Iterator[tuple[str, str]]:
    """Try that many mutated files; for each its name and what came of it: `came out`, a code, or `WRONG: ...`."""
    originals = seeds(folder)
    for number in range(count):
        dice = random.Random(f"{seed}:{number}")
        original = originals[number % len(originals)]
        path = folder / f"{number}{original.suffix}"
        path.write_bytes(mutated(original.read_bytes(), dice))
        yield path.name, _outcome(path, folder / f"work{number}")


def _outcome(path: Path, workspace: Path) -> str:
    began = time.monotonic()
    try:
        output = Work("transcode", path, workspace).run(quality="high")
    except VidqueueError as error:
        found = error.code
    else:
        wrong = differences_of_pictures(path, output.path, output.facts["warnings"])
        found = f"WRONG: {wrong}" if wrong else "came out"
    took = time.monotonic() - began
    return f"WRONG: it took {took:.0f} s" if took > LONGEST_S else found


def main() -> int:
    """Try many, and print what was wrong and how often what came."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for name, outcome in outcomes(wanted.count, wanted.seed, Path(folder).resolve()):
            found[outcome.split(":")[0]] += 1
            if outcome.startswith(("WRONG", "internal")):
                print(f"seed {wanted.seed}, {name}: {outcome}")
    print(", ".join(f"{count} {what}" for what, count in found.most_common()))
    return 1 if found["WRONG"] else 0


if __name__ == "__main__":
    sys.exit(main())
