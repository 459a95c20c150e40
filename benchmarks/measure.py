"""Shared by all benchmarks: interleaved rounds, medians, one table as Markdown and JSON, and the machine it ran on.

A figure alone says little on a shared machine. So every system is measured once per round, in an order that rotates,
and the table shows each median with its range and its ratio to the system it is compared with.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Figure:
    """What one system reached in one measurement, over all rounds."""

    part: str
    what: str
    system: str
    unit: str
    rounds: tuple[float, ...]
    # Ratio to the system compared with: this median divided by that one.
    ratio: float | None = None
    against: str = ""

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.rounds)


@dataclass(slots=True)
class Report:
    """Figures of one run, the parts that were skipped with the reason, and the machine."""

    figures: list[Figure] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)

    def add(
        self, part: str, what: str, unit: str, systems: Mapping[str, Sequence[float]], *, against: str = ""
    ) -> None:
        """Add one measurement of several systems; each is compared with `against`, which defaults to the first."""
        measured = {system: tuple(rounds) for system, rounds in systems.items() if rounds}
        base = against if against in measured else next(iter(measured), "")
        for system, rounds in measured.items():
            figure = Figure(part, what, system, unit, rounds)
            other = statistics.median(measured[base])
            if system != base and other:
                figure = Figure(part, what, system, unit, rounds, figure.median / other, base)
            self.figures.append(figure)

    def skip(self, what: str, why: str) -> None:
        """Note that something was not measured, and say so at once."""
        self.skipped[what] = why
        print(f"SKIPPED {what}: {why}", flush=True)

    def markdown(self) -> str:
        """The table, the skipped parts and the machine as Markdown."""
        lines = ["| part | measurement | system | median | range | unit | ratio |", "|---|---|---|---:|---:|---|---:|"]
        for one in self.figures:
            ratio = f"{_short(one.ratio)} of {one.against}" if one.ratio is not None else ""
            extent = f"{_short(min(one.rounds))} to {_short(max(one.rounds))}" if len(one.rounds) > 1 else ""
            cells = (one.part, one.what, one.system, _short(one.median), extent, one.unit, ratio)
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", *(f"- skipped: {what}: {why}" for what, why in self.skipped.items())]
        lines += [f"- {key}: {value}" for key, value in self.machine.items()]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Everything, with all rounds."""
        figures = [asdict(one) | {"median": one.median} for one in self.figures]
        return {"machine": self.machine, "skipped": self.skipped, "figures": figures}

    def merge(self, other: Mapping[str, Any]) -> None:
        """Take over what another run wrote as JSON."""
        for one in other["figures"]:
            values = {key: value for key, value in one.items() if key != "median"}
            self.figures.append(Figure(**(values | {"rounds": tuple(one["rounds"])})))
        self.skipped |= other["skipped"]
        self.machine |= other["machine"]

    def publish(self, out: Path | None) -> None:
        """Print the table; write `out`.md and `out`.json beside it where `out` is given."""
        print(self.markdown(), flush=True)
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.with_suffix(".md").write_text(self.markdown() + "\n")
            out.with_suffix(".json").write_text(json.dumps(self.as_json(), indent=1) + "\n")


def interleaved(systems: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Measure each system once per round; every round begins with another system."""
    names = list(systems)
    measured: dict[str, list[T]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names) if names else 0
        for name in names[turn:] + names[:turn]:
            measured[name].append(systems[name]())
    return measured


def percentile(values: Iterable[float], share: float) -> float:
    """The value that `share` of all values do not exceed; the largest when there are few."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine(**more: str) -> dict[str, Any]:
    """What the figures depend on: cores, CPU, memory, load, kernel, and the versions in use."""
    packages = ("vidqueue", "psycopg", "procrastinate", "starlette", "uvicorn", "torch")
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _output("git", "describe", "--always", "--dirty"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB",
        "load before (1, 5, 15 min)": ", ".join(f"{load:.2f}" for load in os.getloadavg()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {version}" for name in packages if (version := _version(name))),
        **more,
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    except OSError:
        return ""
    return done.stdout.strip()


def _short(value: float) -> str:
    """Three figures that count."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
