"""Starting a confined ffmpeg, supervising it, and killing it when it must end.

Each run has a supervisor thread that reads its standard error, and that alone kills and reaps; so everyone else may use
plain blocking reads, which end when the supervisor has killed. What happens inside the jail is in `launcher`.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import selectors
import signal
import subprocess
import sys
import threading
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
from vidqueue.media.jail.lines import COMPLAINTS, Line, LineReader
from vidqueue.ops import active_time

_LAUNCHER = Path(launcher.__file__)
_TICK_S = 0.1
_TAIL_LINES = 200
_MEBIBYTE = 1024 * 1024

# What a program that is linked against the C library needs to start, and what encoders read to count processors.
_READABLE = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/urandom",
    "/proc/cpuinfo", "/proc/self", "/sys/devices/system",
)  # fmt: skip
# NVIDIA's libraries look into all of these; see docs of drivers 570 and newer for /proc.
_READABLE_FOR_GPU = ("/proc", "/sys", "/etc", "/usr/share", "/usr/local", "/opt", "/run/opengl-driver")
_WRITABLE_FOR_GPU = ("/dev", "/proc/self/task")
_GPU_VARIABLES = frozenset({"CUDA_VISIBLE_DEVICES"})

EndedBy = Literal["itself", "cancel", "timeout", "caller", "fault"]
OnLine = Callable[[Line], object]


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """The bounds of one run.

    Attributes:
        limits: what the job may cost.
        timeout_s: wall time, in seconds; the whole process group is killed then.
        canceled: set when the job is canceled; noticed within a tenth of a second.
        gpu: True if this run needs the GPU, which means access to its devices and no bound on address space.
    """

    limits: Limits
    timeout_s: float
    canceled: threading.Event = field(default_factory=threading.Event)
    gpu: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended.

    Attributes:
        returncode: negative for a signal.
        by: what ended it; `fault` means that the caller's reader of its lines raised `fault`.
        tail: the end of standard error, without the lines that ffmpeg itself marks as mere information.
    """

    returncode: int
    by: EndedBy
    tail: tuple[str, ...]
    fault: BaseException | None = None


class Sandboxed:
    """A confined process that runs now. Leaving the `with` block kills what is left of it.

    Start it from a thread that outlives it: the kernel sends the parent-death signal when the *thread* that started
    the child ends, not the process.
    """

    def __init__(self, process: subprocess.Popen[bytes], messages: int, bounds: SandboxLimits, on_line: OnLine) -> None:
        self._process = process
        self._messages = messages
        self._bounds = bounds
        self._on_line = on_line
        self._deadline = active_time.now() + bounds.timeout_s
        self._by: EndedBy = "itself"
        self._fault: BaseException | None = None
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._lines = LineReader()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._pidfd = os.pidfd_open(process.pid)
        self._supervisor = threading.Thread(target=self._supervise, name=f"jail-{process.pid}", daemon=True)
        self._supervisor.start()

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
        """Ask the supervisor to end the whole group now; returns at once and may be called twice."""
        os.eventfd_write(self._stop, 1)

    def wait(self) -> Ended:
        """Wait for the end. Every pipe must be read or closed by then, or this waits for the wall time."""
        self._supervisor.join()
        return Ended(self._process.returncode, self._by, tuple(self._tail), self._fault)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._supervisor.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        os.close(self._stop)
        os.close(self._pidfd)

    def _supervise(self) -> None:
        try:
            self._watch_until_it_ends()
            self._read_rest()
        finally:
            # Whatever happened above. Until it is reaped, its number belongs to nobody else.
            self._kill_group()
            self._process.wait()
            os.close(self._messages)

    def _watch_until_it_ends(self) -> None:
        with selectors.DefaultSelector() as watch:
            for descriptor in (self._messages, self._stop, self._pidfd):
                watch.register(descriptor, selectors.EVENT_READ)
            while self._pidfd not in (ready := {key.fd for key, _ in watch.select(_TICK_S)}):
                if self._messages in ready and not self._read():
                    watch.unregister(self._messages)
                self._end_if_due(asked=self._stop in ready)

    def _end_if_due(self, *, asked: bool) -> None:
        reason: EndedBy | None = None
        if asked:
            os.eventfd_read(self._stop)
            reason = "caller"
        elif self._bounds.canceled.is_set():
            reason = "cancel"
        elif active_time.now() > self._deadline:
            reason = "timeout"
        if reason is not None:
            self._end(reason)

    def _end(self, reason: EndedBy) -> None:
        self._by = reason if self._by == "itself" else self._by
        self._kill_group()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _read(self) -> bool:
        """Take one message, which is one write of the child; False when nothing more will come."""
        written = os.read(self._messages, _MEBIBYTE)
        line = self._lines.feed(written) if written else self._lines.rest()
        if line is not None:
            self._take(line)
        return bool(written)

    def _take(self, line: Line) -> None:
        if line.level in COMPLAINTS or not line.level:
            self._tail.append(line.text)
        if self._fault is None:
            try:
                self._on_line(line)
            except BaseException as error:
                self._fault = error
                self._end("fault")

    def _read_rest(self) -> None:
        os.set_blocking(self._messages, False)
        # BlockingIOError: something else still holds the other end.
        with suppress(BlockingIOError):
            while self._read():
                pass


def start(
    arguments: Sequence[str],
    bounds: SandboxLimits,
    *,
    keep_open: Sequence[int] = (),
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    on_line: OnLine = lambda _: None,
) -> Sandboxed:
    """Start ffmpeg in the jail with these arguments.

    Args:
        arguments: what follows the program's name.
        bounds: the bounds of the run.
        keep_open: descriptors that the arguments speak of, by the same number; the child gets no others.
        stdin: a descriptor, or a constant of `subprocess`.
        stdout: the same.
        on_line: called for each line of standard error, in the supervisor thread; what it raises ends the run.
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
    # In packet mode each write of the child arrives as a message of its own (see `lines`).
    messages, child_end = os.pipe2(os.O_CLOEXEC | os.O_DIRECT)
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_LAUNCHER), marshal.dumps(spec).hex(), "--", str(binary), *arguments],
            stdin=stdin,
            stdout=stdout,
            stderr=child_end,
            pass_fds=tuple(keep_open),
            # Otherwise the encoder of a GPU uses the first one of the machine, whichever lane this is.
            env={name: os.environ[name] for name in _GPU_VARIABLES & os.environ.keys()} if bounds.gpu else {},
            cwd="/",
            # Here and not in the launcher: a group to kill exists from the first moment.
            start_new_session=True,
        )
    except BaseException:
        os.close(messages)
        raise
    finally:
        os.close(child_end)
    if process.stdout is not None:
        enlarge(process.stdout.fileno())
    return Sandboxed(process, messages, bounds, on_line)


def enlarge(pipe: int) -> None:
    """Let a pipe hold a mebibyte, so that a picture takes few wake-ups."""
    # The kernel refuses where the user's share of pipe memory is used up; the pipe works all the same.
    with suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _MEBIBYTE)


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
