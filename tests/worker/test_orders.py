"""The executor hears orders in its main thread while that is idle, and in another one while it works."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from vidqueue.worker.executor import messages, orders
from vidqueue.worker.executor.messages import CancelJob, Exit, RunJob, encode
from vidqueue.worker.executor.orders import Orders

JOB = encode(RunJob("zoo", {"text": "x" * 1000}, {}, "/workspace", {}))


@dataclass
class Executor:
    """The lane's end of the socket, and what hears at the other end."""

    lane: socket.socket
    orders: Orders

    def tell(self, *lines: bytes) -> None:
        self.lane.sendall(b"".join(lines))


@pytest.fixture
def executor() -> Iterator[Executor]:
    """An executor whose main thread is that of the test."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        heard = Orders(theirs)
        listener = threading.Thread(target=heard.listen, daemon=True)
        listener.start()
        yield Executor(ours, heard)
        ours.sendall(encode(Exit()))
        while heard.next() is not None:
            pass
        ours.close()
        listener.join(10)
        assert not listener.is_alive()


def test_a_job_is_taken_whether_it_comes_while_the_main_thread_waits_or_works(executor: Executor) -> None:
    for _ in range(20):
        executor.tell(JOB)
        assert isinstance(executor.orders.next(), RunJob)
        executor.tell(JOB, JOB)
        time.sleep(0.002)
        assert [type(executor.orders.next()) for _ in range(2)] == [RunJob] * 2


def test_an_idle_main_thread_hears_a_job_by_itself(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    heard_by: Counter[str] = Counter()

    def decode(line: bytes) -> object:
        heard_by[threading.current_thread().name] += 1
        return messages.decode(line)

    monkeypatch.setattr(orders, "decode", decode)
    for _ in range(50):
        # By then the main thread waits.
        threading.Timer(0.01, executor.tell, [JOB]).start()
        assert executor.orders.next() is not None
    assert heard_by[threading.main_thread().name] > 40, heard_by


def test_a_cancel_reaches_a_main_thread_at_work(executor: Executor) -> None:
    executor.tell(JOB)
    assert executor.orders.next() is not None
    assert not executor.orders.canceled.is_set()
    executor.tell(encode(CancelJob()))
    assert executor.orders.canceled.wait(10)
    assert not executor.orders.interrupted.is_set()
    executor.tell(JOB)
    assert executor.orders.next() is not None
    assert not executor.orders.canceled.is_set()
    executor.tell(encode(CancelJob(goes_on=True)))
    assert executor.orders.canceled.wait(10)
    assert executor.orders.interrupted.is_set()


def test_a_job_and_its_cancel_may_arrive_together_and_a_job_in_pieces(executor: Executor) -> None:
    executor.tell(JOB, encode(CancelJob()))
    assert executor.orders.next() is not None
    assert executor.orders.canceled.wait(10)

    def trickle() -> None:
        for start in range(0, len(JOB), 100):
            executor.tell(JOB[start : start + 100])
            time.sleep(0.001)

    sender = threading.Thread(target=trickle)
    sender.start()
    job = executor.orders.next()
    sender.join()
    assert job is not None
    assert job.params == {"text": "x" * 1000}
