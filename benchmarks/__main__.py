"""Runs the parts of the benchmark one after the other and writes one table: `make bench`, `make bench ONLY=queue`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Report, machine

# Name of the part, its module, and the arguments of its short form.
PARTS: dict[str, tuple[str, list[str]]] = {
    "queue": ("benchmarks.queues", ["--jobs", "200", "--pickups", "30", "--rounds", "1"]),
    "frames": ("benchmarks.frames", ["--rounds", "2", "--quick"]),
    "http": ("benchmarks.web", ["--rounds", "2", "--requests", "320", "--listeners", "1", "100"]),
    "rest": ("benchmarks.rest", ["--rounds", "2", "--seconds", "10"]),
    "backlog": ("benchmarks.backlog", []),
    "failpoints": ("benchmarks.failpoints", []),
}
# Those that do not write their figures as JSON; what they print is shown as it is.
PRINTING = {"backlog", "failpoints"}


def run(part: str, report: Report, folder: Path, *, short: bool) -> None:
    """Run one part in a process of its own and take its figures over."""
    module, less = PARTS[part]
    out = folder / part
    arguments = [] if part in PRINTING else ["--out", str(out), *(less if short else [])]
    print(f"== {part}: python -m {module} {' '.join(arguments)}", flush=True)
    code = subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode
    if code != 0:
        report.skip(part, f"it failed with exit code {code}")
    elif part not in PRINTING:
        report.merge(json.loads(out.with_suffix(".json").read_text()))


def main() -> int:
    """Run the parts that were asked for; 1 when one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all when none is named")
    parser.add_argument("--short", action="store_true", help="fewer jobs and rounds: minutes instead of an hour")
    parser.add_argument("--out", type=Path, default=Path("bench-results") / "latest", help="where the table goes")
    wanted = parser.parse_args()
    if unknown := set(wanted.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    report = Report(machine=machine())
    with tempfile.TemporaryDirectory(prefix="vidqueue-bench-") as folder:
        for part in wanted.parts or PARTS:
            run(part, report, Path(folder), short=wanted.short)
    report.publish(wanted.out)
    print(f"written to {wanted.out.with_suffix('.md')} and {wanted.out.with_suffix('.json')}")
    return 1 if any(part in report.skipped for part in PARTS) else 0


if __name__ == "__main__":
    sys.exit(main())
