"""A bounded queue between two threads that either side can close, so that no thread waits for one that has ended."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ClosedError(Exception):
    """The queue is closed; no more items will be put or taken."""


class Handoff(Generic[Item]):
    """A bounded queue. After `finish` the remaining items can still be taken; `close` ends both sides at once."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._closed = False

    def put(self, item: Item, *, even_if_closed: bool = False) -> None:
        """Append an item; blocks while the queue is full.

        Raises:
            ClosedError: the queue was closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._capacity)
            if self._closed and not even_if_closed:
                raise ClosedError
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> Item:
        """Take the oldest item; blocks while the queue is empty.

        Raises:
            ClosedError: the queue is empty and finished, or was closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._finished or self._items)
            if self._closed or not self._items:
                raise ClosedError
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def finish(self) -> None:
        """Declare that no more items will be put."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """Drop all items and wake every thread that waits."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
