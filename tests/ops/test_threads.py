"""Pools of threads: bounded, a call that hangs costs its own pool one thread, and nobody waits for it for ever."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.factory import eventually
from vidqueue.errors import VidqueueError
from vidqueue.ops.threads import ThreadPool
from vidqueue.ops.watchdog import Watchdog

HANGS_AFTER_S = 0.3


@pytest_asyncio.fixture
async def returns() -> AsyncIterator[threading.Event]:
    """Hanging calls wait for it; set at the end."""
    event = threading.Event()
    yield event
    event.set()


def pool(size: int = 2) -> ThreadPool:
    return ThreadPool("share", size=size, hangs_after_s=HANGS_AFTER_S, code="input_unreachable")


async def code_of(threads: ThreadPool, event: threading.Event) -> str:
    with pytest.raises(VidqueueError, match="share does not respond") as caught:
        await threads.run(event.wait, 60)
    return caught.value.code


async def test_results_and_errors_reach_the_caller_and_no_more_threads_run_than_allowed() -> None:
    threads, running, most = pool(), 0, 0
    lock = threading.Lock()

    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.001)
        with lock:
            running -= 1
        return 10 // number

    assert await asyncio.gather(*(threads.run(work, number) for number in range(1, 100))) == [
        10 // number for number in range(1, 100)
    ]
    assert most == 2
    with pytest.raises(ZeroDivisionError):
        await threads.run(work, 0)
    assert threads.hanging() == 0


async def test_a_call_that_hangs_is_given_up_and_one_that_only_waits_for_others_is_not(
    returns: threading.Event,
) -> None:
    threads = pool()
    assert await code_of(threads, returns) == "input_unreachable"
    assert threads.hanging() == 1
    # The other thread works on: many short calls take longer together than a call may hang.
    assert await asyncio.gather(*(threads.run(time.sleep, 0.01) for _ in range(60))) == [None] * 60


async def test_once_every_thread_hangs_calls_are_refused_at_once_until_one_returns(returns: threading.Event) -> None:
    threads = pool()
    # The last of them never got a thread.
    assert set(await asyncio.gather(*(code_of(threads, returns) for _ in range(12)))) == {"input_unreachable"}
    begun = time.monotonic()
    await code_of(threads, returns)
    assert time.monotonic() - begun < HANGS_AFTER_S
    watchdog = Watchdog()
    watchdog.watch(threads, pool(), pool(1))
    assert watchdog.hanging() == {"share": 2}
    assert watchdog.stuck() == []
    returns.set()

    async def is_well() -> bool:
        return threads.hanging() == 0

    await eventually(is_well)
    assert await threads.run(int, "7") == 7


async def test_a_canceled_call_that_has_not_begun_never_does(returns: threading.Event) -> None:
    threads = ThreadPool("one", size=1)
    begun: list[int] = []
    first = asyncio.create_task(threads.run(returns.wait))
    second = asyncio.create_task(threads.run(begun.append, 2))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    returns.set()
    assert await first
    await threads.run(begun.append, 3)
    assert begun == [3]


def test_a_process_ends_while_calls_hang() -> None:
    code = """
import asyncio, time
from vidqueue.ops.threads import ThreadPool
async def main():
    ThreadPool("a", size=1).submit(time.sleep, 60)
    await asyncio.sleep(0.1)
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
