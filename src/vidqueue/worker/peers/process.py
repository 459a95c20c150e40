"""The process of a managed peer: started under a subreaper on a port of its own, and ended with its children."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from functools import reduce
from pathlib import Path

from vidqueue.ops import processes, subreaper
from vidqueue.processors.peers import PORT, UPLOAD_PORT, Launch
from vidqueue.worker.executor.output import ProcessOutput

HOST = "127.0.0.1"
# Seconds for a server to exit after SIGTERM, and for the subreaper to kill its remaining processes.
GRACE_S = 5.0
SUBREAPER_S = 10.0
# The range from which the two ports of a server are chosen.
PORTS = 8000
KEPT = ("PATH", "HOME", "LANG", "TMPDIR")

_ports_in_use = set[int]()


class PeerProcess:
    """One run of a server's command. `output` reads what it prints, and `port` is where it must listen."""

    def __init__(self, launch: Launch, port: int, mark: str, gpu_uuid: str | None, output: ProcessOutput) -> None:
        self._launch = launch
        self._mark = mark
        self._gpu_uuid = gpu_uuid
        self._output = output
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self.port = port

    @property
    def url(self) -> str:
        """The URL at which it listens."""
        return f"http://{HOST}:{self.port}"

    @property
    def subreaper(self) -> int | None:
        """The process id of its subreaper; None if it does not run."""
        return self._process.pid if self._process is not None and self.alive else None

    @property
    def alive(self) -> bool:
        """True if it runs."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it.

        Raises:
            OSError: the process cannot be created.
        """
        words, words_end = os.pipe()
        with os.fdopen(words_end, "wb") as output:
            self._listener = asyncio.create_task(self._output.read(words), name="peer-words")
            try:
                # From the event loop's thread: the signal of the parent's death follows the thread that spawned.
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-I", "-S", subreaper.__file__, str(os.getpid()), str(GRACE_S), *self._command(),
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=self._environment(),
                    cwd=self._launch.directory or "/", start_new_session=True,
                )  # fmt: skip
            except RuntimeError as error:
                # asyncio waits for a child in a thread, and raises RuntimeError if it cannot start one.
                raise OSError(str(error)) from error

    async def ended(self) -> str:
        """Wait until it ends, and return how it ended as text."""
        if self._process is None:
            return "it was not started"
        code = await self._process.wait()
        await self._read_the_rest()
        return f"signal {_signal_name(code - 128)}" if code > 128 else f"exit code {code}"

    async def stop(self) -> None:
        """Stop it and all processes that it has started, with SIGKILL if its subreaper does not."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S + SUBREAPER_S):
                    await self._process.wait()
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        # Nothing is left here unless the subreaper itself was killed.
        await asyncio.to_thread(processes.kill_marked, self._mark, whole=True)
        await self._read_the_rest()

    async def _read_the_rest(self) -> None:
        if self._listener is not None:
            await asyncio.wait([self._listener], timeout=0.5)
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)

    def _command(self) -> list[str]:
        ports = (PORT, str(self.port)), (UPLOAD_PORT, str(self.port + 1))
        return [reduce(lambda text, one: text.replace(*one), ports, word) for word in self._launch.command]

    def _environment(self) -> dict[str, str]:
        """Return a few variables of the daemon's environment, the configured ones, and those of the lane."""
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        found = {**kept, **self._launch.environment}
        program = self._launch.command[0]
        if "/" in program:
            # Servers start programs of their virtual environment by name, as Cog does its worker (`python`).
            folder = str(Path(self._launch.directory or "/", program).parent)
            found["PATH"] = os.pathsep.join(filter(None, (folder, found.get("PATH"))))
        return found | {
            "PORT": str(self.port),
            "PYTHONUNBUFFERED": "1",
            "CUDA_VISIBLE_DEVICES": self._gpu_uuid or "",
            processes.MARK: self._mark,
            processes.DAEMON: processes.own_name(),
        }


def free_port() -> int:
    """Return a port that nobody listens on, like the one above it, and that no other peer of this daemon was given.

    Both lie below those that the kernel gives to outgoing connections. A server may load its model for minutes before
    it listens, and a connection could take the port meanwhile, even one that asks whether the server listens already.
    """
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = max(0, end - 2 - 2 * secrets.randbelow(PORTS // 2))
        with socket.socket() as tried, socket.socket() as above, contextlib.suppress(OSError, OverflowError):
            tried.bind((HOST, port))
            port = int(tried.getsockname()[1])
            above.bind((HOST, port + 1))
            if _ports_in_use.isdisjoint((port, port + 1)):
                _ports_in_use.update((port, port + 1))
                return port


def release_port(port: int) -> None:
    """Release the port, and the one above it, for other peers."""
    _ports_in_use.difference_update((port, port + 1))


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return str(number)
