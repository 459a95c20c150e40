"""Bounded pools of daemon threads, for blocking calls that may hang in the kernel (a dead NFS server, a lost disk).

The event loop's own thread pool serves everybody, and a process cannot end before each of its threads has returned.
Here each pool is used for one purpose, a caller stops waiting for a call that hangs, and nothing waits for it at exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec, TypeVar

import structlog

from vidqueue.errors import VidqueueError
from vidqueue.ops.log_throttle import ThrottledEvent

Args = ParamSpec("Args")
Result = TypeVar("Result")

log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class _Call:
    """A call that waits for a thread or runs in one (`started_at` is set then)."""

    act: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    started_at: float | None = None


class ThreadPool:
    """Up to `size` daemon threads, started when they are needed.

    A call hangs once it has run for `hangs_after_s` seconds. Its caller gets an error with the pool's `code`, and its
    thread is lost until the call returns. A call that waits for a thread is refused when all threads hang, and not
    before, so a slow folder only makes its callers wait. Without `hangs_after_s` calls may take any time.
    """

    def __init__(
        self, name: str, *, size: int, hangs_after_s: float | None = None, code: str = "internal_error"
    ) -> None:
        self.name = name
        self._size = size
        self._hangs_after_s = hangs_after_s
        self._code = code
        self._lock = threading.Condition()
        self._waiting: deque[_Call] = deque()
        self._running: set[_Call] = set()
        self._threads = 0
        self._idle = 0
        self._told = ThrottledEvent(log.warning, "calls_hang")

    async def run(self, function: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs) -> Result:
        """Run a function in a thread of the pool and return its result.

        A caller that is cancelled stops waiting; a call that has begun goes on, because a thread cannot be cancelled.

        Raises:
            VidqueueError: the call hangs, or every thread hangs.
        """
        if self._refuses():
            raise self._error()
        loop = asyncio.get_running_loop()
        call = _Call(partial(function, *args, **kwargs), loop, loop.create_future())
        self._enqueue(call)
        if self._hangs_after_s is None:
            return await call.answer  # type: ignore[no-any-return]
        try:
            while not call.answer.done():
                await asyncio.wait([call.answer], timeout=self._patience_s(call))
                if not call.answer.done() and (self._is_hanging(call) or (not call.started_at and self._refuses())):
                    raise self._error()
            return call.answer.result()  # type: ignore[no-any-return]
        finally:
            # A call that has not begun never will.
            call.answer.cancel()

    def submit(
        self, function: Callable[Args, object], *args: Args.args, **kwargs: Args.kwargs
    ) -> asyncio.Future[object]:
        """Run a function in a thread of the pool though nobody may wait for it; what it raises is logged."""
        loop = asyncio.get_running_loop()
        call = _Call(partial(function, *args, **kwargs), loop, loop.create_future())
        call.answer.add_done_callback(self._log_error)
        self._enqueue(call)
        return call.answer

    def hanging(self) -> int:
        """Return how many threads are in a call that hangs."""
        with self._lock:
            return sum(map(self._is_hanging, self._running))

    def _refuses(self) -> bool:
        return self._hangs_after_s is not None and self.hanging() >= self._size

    def _is_hanging(self, call: _Call) -> bool:
        if self._hangs_after_s is None or call.started_at is None:
            return False
        return time.monotonic() - call.started_at >= self._hangs_after_s

    def _patience_s(self, call: _Call) -> float:
        """Return the time after which the call may hang, or after which all threads may hang if it waits for one."""
        assert self._hangs_after_s is not None
        with self._lock:
            now = time.monotonic()
            begun = call.started_at or max((one.started_at or now for one in self._running), default=now)
        # At least a moment: a call that has just ended gets the time to tell its result.
        return max(0.05, begun + self._hangs_after_s - now)

    def _error(self) -> VidqueueError:
        self._told.tell(pool=self.name, hanging=self.hanging())
        return VidqueueError(self._code, f"{self.name} does not respond.")

    def _log_error(self, answer: asyncio.Future[Any]) -> None:
        if not answer.cancelled() and (error := answer.exception()) is not None:
            log.error("call_failed", pool=self.name, error=repr(error), exc_info=error)

    def _enqueue(self, call: _Call) -> None:
        with self._lock:
            self._waiting.append(call)
            if self._idle >= len(self._waiting) or self._threads == self._size:
                self._lock.notify()
                return
            self._threads += 1
            name = f"{self.name}-{self._threads}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
                while not self._waiting:
                    self._lock.wait()
                self._idle -= 1
                call = self._waiting.popleft()
                if call.answer.cancelled():
                    continue
                call.started_at = time.monotonic()
                self._running.add(call)
            self._settle(call)

    def _settle(self, call: _Call) -> None:
        result, error = None, None
        try:
            result = call.context.run(call.act)
        except BaseException as raised:
            error = raised
        if self._is_hanging(call):
            log.info("hanging_call_returned", pool=self.name)
        with self._lock:
            self._running.discard(call)
        # The loop may be closed: a call that hung has returned after the daemon's end.
        with contextlib.suppress(RuntimeError):
            call.loop.call_soon_threadsafe(_tell, call.answer, result, error)


def _tell(answer: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
