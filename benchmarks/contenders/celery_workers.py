"""Celery with acks_late and a prefetch of one, on a Redis or RabbitMQ that runs for the benchmark alone."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import usage
from benchmarks.contenders.base import Drained, Marks, difference
from benchmarks.contenders.children import PEERS, SkippedError, ask, child, server
from tests.postgres import Postgres

# /usr/sbin/rabbitmq-server would change the user; this one runs as whoever starts it.
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
CONSUMERS = (1, 4)


class Celery:
    """Two workers on one queue, of one and of four processes; both rest until one of them is let go."""

    def __init__(self, submitter: subprocess.Popen[bytes], marks: Marks, pids: Sequence[int]) -> None:
        self._submitter = submitter
        self._marks = marks
        self._pids = pids
        self._waiting = 0
        for consumers in CONSUMERS:
            ask(submitter, "pause", _worker(consumers))

    def one_by_one(self, jobs: int) -> float:
        """One `apply_async` for each job."""
        took, _ = self._submit(jobs)
        self._waiting += jobs
        return took / 1e9

    def batch(self, jobs: int) -> float:
        """The same: Celery has no call for many jobs."""
        return self.one_by_one(jobs)

    def drain(self, consumers: int) -> Drained:
        """Let the worker with so many processes consume."""
        jobs, self._waiting = self._waiting, 0
        self._marks.forget()
        before = usage.cpu_s(*self._pids)
        with self._resumed(consumers):
            self._marks.wait_for(jobs)
            used = difference(usage.cpu_s(*self._pids), before)
        return self._marks.drained(jobs, used)

    def pickups(self, samples: int) -> list[float]:
        """One job at a time on the worker of one process."""
        taken = []
        with self._resumed(1):
            for _ in range(samples):
                self._marks.forget()
                _, begun = self._submit(1)
                taken.append((self._marks.wait_for(1)[0] - begun) / 1e6)
                time.sleep(0.03)
        return taken

    def _submit(self, jobs: int) -> tuple[int, int]:
        took, begun = ask(self._submitter, "submit", self._marks.path, jobs).split()
        return int(took), int(begun)

    @contextmanager
    def _resumed(self, consumers: int) -> Iterator[None]:
        ask(self._submitter, "resume", _worker(consumers))
        try:
            yield
        finally:
            ask(self._submitter, "pause", _worker(consumers))


@contextmanager
def celery_redis(postgres: Postgres, folder: Path) -> Iterator[Celery]:
    """Redis as Debian starts it, without a file of commands: what it accepted is lost with it."""
    del postgres
    _require(shutil.which("redis-server"), "redis-server is not installed (apt-get install redis-server)")
    port = _free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    with server(command, folder / "redis.log", lambda: _answers(port)) as pid:
        yield from _celery(folder, f"redis://127.0.0.1:{port}/0", "redis", pid)


@contextmanager
def celery_rabbitmq(postgres: Postgres, folder: Path) -> Iterator[Celery]:
    """RabbitMQ with the durable queue and persistent messages that Celery asks for."""
    del postgres
    _require(RABBITMQ.exists(), "rabbitmq-server is not installed (apt-get install rabbitmq-server)")
    port, epmd = _free_port(), _free_port()
    home = folder / "rabbitmq"
    home.mkdir(mode=0o700)
    variables = {
        "HOME": str(home),
        "ERL_EPMD_PORT": str(epmd),
        "RABBITMQ_NODENAME": "bench@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(_free_port()),
        "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
    }
    try:
        with server([str(RABBITMQ)], folder / "rabbitmq.log", lambda: _answers(port), **variables) as pid:
            yield from _celery(folder, f"amqp://guest:guest@127.0.0.1:{port}//", "rabbitmq", pid)
    finally:
        # Erlang leaves its name server running; this one is ours alone, by its port.
        subprocess.run(["epmd", "-port", str(epmd), "-kill"], check=False, capture_output=True)


def _celery(folder: Path, broker: str, name: str, server_pid: int) -> Iterator[Celery]:
    _require(PEERS.exists(), "Celery is not installed in .venv-bench (make bench installs it)")
    marks = Marks(folder / f"{name}.marks")
    with ExitStack() as stack:
        pids = [server_pid]
        for consumers in CONSUMERS:
            command = [str(PEERS), "-m", "celery", "-A", "benchmarks.contenders.celery_tasks", "worker", "-Q", "noop"]
            command += ["-c", str(consumers), "-n", _worker(consumers), "--without-gossip", "--without-mingle"]
            log = folder / f"{name}-{consumers}.log"
            # It is ready when it answers to being paused.
            pids.append(stack.enter_context(server(command, log, lambda: True, BENCH_BROKER=broker)))
        submitter = "benchmarks.contenders.celery_submitter"
        yield Celery(stack.enter_context(child(submitter, python=str(PEERS), BENCH_BROKER=broker)), marks, pids)


def _worker(consumers: int) -> str:
    return f"bench{consumers}@localhost"


def _require(there: object, why: str) -> None:
    if not there:
        raise SkippedError(why)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
