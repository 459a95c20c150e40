"""The jail, from the outside: starts a confined ffmpeg, keeps an eye on it, and ends it when it must end.

Each run has a keeper thread that reads its standard error, and that alone kills and reaps; so everyone else may use
plain blocking reads, which end when the keeper has killed. What happens inside the jail is in `launcher`.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import Literal, Self, cast

import imageio_ffmpeg

from vidqueue.limits import Limits
from vidqueue.media.jail import launcher

_LAUNCHER = Path(launcher.__file__)
_TICK_S = 0.1
_TAIL_LINES = 200
_LINE_BYTES = 2000
_MEBIBYTE = 1024 * 1024

# What a program that is linked against the C library needs to start, and what encoders read to count processors.
_READABLE = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/urandom",
    "/proc/cpuinfo", "/proc/self", "/sys/devices/system",
)  # fmt: skip
# NVIDIA's libraries look into all of these; see docs of drivers 570 and newer for /proc.
_READABLE_FOR_GPU = ("/proc", "/sys", "/etc", "/usr/share", "/usr/local", "/opt", "/run/opengl-driver")
_WRITABLE_FOR_GPU = ("/dev", "/proc/self/task")

EndedBy = Literal["itself", "cancel", "timeout", "caller"]


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """The bounds of one run.

    Attributes:
        limits: what the job may cost.
        timeout_s: wall time, in seconds; the whole process group is killed then.
        canceled: set when the job shall stop; noticed within a tenth of a second.
        gpu: whether this run needs the graphics card, which means wider doors and no bound on address space.
    """

    limits: Limits
    timeout_s: float
    canceled: threading.Event = field(default_factory=threading.Event)
    gpu: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended. `returncode` is negative for a signal; `tail` is the end of standard error."""

    returncode: int
    by: EndedBy
    tail: tuple[str, ...]


class Sandboxed:
    """A confined process that runs now. Leaving the `with` block kills what is left of it.

    Start it from a thread that outlives it: the kernel sends the parent-death signal when the *thread* that started
    the child ends, not the process.
    """

    def __init__(self, process: subprocess.Popen[bytes], bounds: SandboxLimits, on_line: Callable[[str], None]) -> None:
        self._process = process
        self._cell = bounds
        self._on_line = on_line
        self._deadline = time.monotonic() + bounds.timeout_s
        self._by: EndedBy = "itself"
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._rest = b""
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._pidfd = os.pidfd_open(process.pid)
        self._keeper = threading.Thread(target=self._keep, name=f"jail-{process.pid}", daemon=True)
        self._keeper.start()

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its group."""
        return self._process.pid

    @property
    def stdout(self) -> BufferedReader:
        """The read end of its standard output; only where it was started with one."""
        assert self._process.stdout is not None
        return cast("BufferedReader", self._process.stdout)

    def kill(self) -> None:
        """Ask the keeper to end the whole group now; returns at once and may be called twice."""
        os.eventfd_write(self._stop, 1)

    def wait(self) -> Ended:
        """Wait for the end. Every pipe must be read or closed by then, or this waits for the wall time."""
        self._keeper.join()
        return Ended(self._process.returncode, self._by, tuple(self._tail))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._keeper.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        os.close(self._stop)
        os.close(self._pidfd)

    def _keep(self) -> None:
        assert self._process.stderr is not None
        with selectors.DefaultSelector() as watch, self._process.stderr as stderr:
            for descriptor in (stderr.fileno(), self._stop, self._pidfd):
                watch.register(descriptor, selectors.EVENT_READ)
            while self._pidfd not in (ready := {key.fd for key, _ in watch.select(_TICK_S)}):
                if stderr.fileno() in ready and not self._read(stderr.fileno()):
                    watch.unregister(stderr.fileno())
                self._end_if_due(asked=self._stop in ready)
            self._read_rest(stderr.fileno())
        # Until it is reaped, its number belongs to nobody else.
        self._kill_group()
        self._process.wait()

    def _end_if_due(self, *, asked: bool) -> None:
        reason: EndedBy | None = None
        if asked:
            os.eventfd_read(self._stop)
            reason = "caller"
        elif self._cell.canceled.is_set():
            reason = "cancel"
        elif time.monotonic() > self._deadline:
            reason = "timeout"
        if reason is not None:
            self._by = reason if self._by == "itself" else self._by
            self._kill_group()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _read(self, stderr: int) -> bool:
        chunk = os.read(stderr, 65536)
        # Carriage returns end a line too: ffmpeg's status line uses them.
        *lines, self._rest = (self._rest + chunk).replace(b"\r", b"\n").split(b"\n")
        self._rest = self._rest[-_LINE_BYTES:]
        if not chunk and self._rest:
            lines, self._rest = [self._rest], b""
        for line in lines:
            text = line[:_LINE_BYTES].decode("utf-8", "replace")
            self._tail.append(text)
            self._on_line(text)
        return bool(chunk)

    def _read_rest(self, stderr: int) -> None:
        os.set_blocking(stderr, False)
        # BlockingIOError: something else still holds the other end.
        with suppress(BlockingIOError):
            while self._read(stderr):
                pass


def start(
    arguments: Sequence[str],
    bounds: SandboxLimits,
    *,
    keep_open: Sequence[int] = (),
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    on_line: Callable[[str], None] = lambda _: None,
) -> Sandboxed:
    """Start ffmpeg in the jail with these arguments.

    Args:
        arguments: what follows the program's name.
        bounds: the bounds of the run.
        keep_open: descriptors that the arguments speak of, by the same number; the child gets no others.
        stdin: a descriptor, or a constant of `subprocess`.
        stdout: the same.
        on_line: called for each line of standard error, in the keeper's thread.
    """
    binary = ffmpeg_path()
    spec = {
        "parent": os.getpid(),
        "limits": _rlimits(bounds),
        "readable": [str(binary), *_READABLE, *(_READABLE_FOR_GPU if bounds.gpu else ())],
        "writable": ["/dev/null", *(_WRITABLE_FOR_GPU if bounds.gpu else ())],
        # The NVIDIA driver talks to its daemon over a Unix socket.
        "filter_calls": not bounds.gpu,
    }
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_LAUNCHER), json.dumps(spec), "--", str(binary), *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        pass_fds=tuple(keep_open),
        env={},
        cwd="/",
        # Here and not in the launcher: a group to kill exists from the first moment.
        start_new_session=True,
        pipesize=_MEBIBYTE,
    )
    return Sandboxed(process, bounds, on_line)


def _rlimits(bounds: SandboxLimits) -> dict[str, int]:
    limits = bounds.limits
    rlimits = {
        "CORE": 0,
        "CPU": int(bounds.timeout_s * (os.cpu_count() or 1)) + 10,
        "FSIZE": limits.max_output_mib * _MEBIBYTE,
        "NOFILE": 256,
    }
    # CUDA reserves far more addresses than the machine has memory.
    return rlimits if bounds.gpu else rlimits | {"AS": limits.memory_mib * _MEBIBYTE}


@cache
def ffmpeg_path() -> Path:
    """The ffmpeg that is used, links resolved.

    The wheel's is found by its name: imageio_ffmpeg runs it first, and remembers for the life of the process that there
    is none when that run is killed.
    """
    bundled = sorted(Path(imageio_ffmpeg.__file__).parent.glob("binaries/ffmpeg-*"))
    given = os.environ.get("IMAGEIO_FFMPEG_EXE") or (bundled[0] if bundled else imageio_ffmpeg.get_ffmpeg_exe())
    return Path(given).resolve()
