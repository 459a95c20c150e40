"""A bounded queue between two threads that either side can end, so that nobody waits for a partner who is gone."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ClosedError(Exception):
    """The other side has ended; nothing more will come or be taken."""


class Handoff(Generic[Item]):
    """Hands items on in order. `finish` lets what is inside be taken still; `close` ends both sides at once."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._closed = False

    def put(self, item: Item, *, even_if_closed: bool = False) -> None:
        """Add an item; waits while the queue is full.

        Raises:
            ClosedError: nobody will take it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._capacity)
            if self._closed and not even_if_closed:
                raise ClosedError
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> Item:
        """Take the oldest item; waits while there is none.

        Raises:
            ClosedError: nothing will come any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._finished or self._items)
            if self._closed or not self._items:
                raise ClosedError
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def finish(self) -> None:
        """No more items will be put."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """End now: what is inside is dropped, and everyone who waits is woken."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()
