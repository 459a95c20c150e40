"""Runs blocking work in a thread of its own, where a pool would lose a thread to work that hangs in the system."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def begin(work: Callable[[], Result], name: str) -> asyncio.Future[Result]:
    """Start a thread and return the future of its result. Cancelling the future leaves the thread to itself.

    The thread is a daemon: the process does not wait for it when it ends.
    """
    answer: Future[Result] = Future()
    # Running, so that a cancellation of those who wait is not one of the work.
    answer.set_running_or_notify_cancel()
    threading.Thread(target=_work, args=[work, answer], name=name, daemon=True).start()
    return asyncio.wrap_future(answer)


def _work(work: Callable[[], Result], answer: Future[Result]) -> None:
    try:
        answer.set_result(work())
    except BaseException as error:
        answer.set_exception(error)
