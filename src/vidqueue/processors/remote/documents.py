"""A cache of the OpenAPI documents of models, so that a check of a job needs no request to a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeAlias

Document: TypeAlias = Mapping[str, Any]
MOST = 256


class Documents:
    """A small cache. One question for a document at a time: a server that does not answer must not have many of them.

    Args:
        known_for_s: how long a document is used, in seconds; a server that was started anew may have another model.
        unknown_for_s: how long it is not asked again after there was none, in seconds.
    """

    def __init__(self, *, known_for_s: float, unknown_for_s: float) -> None:
        self._known_for_s, self._unknown_for_s = known_for_s, unknown_for_s
        self._kept: dict[Hashable, tuple[Document | None, float]] = {}
        self._lock = threading.Lock()
        self._asking = dict[Hashable, threading.Lock]()

    def get(self, key: Hashable, ask: Callable[[], Document | None], *, keeps_old: bool = False) -> Document | None:
        """Return the document of a model; None if it cannot be had. It may block.

        Args:
            key: what the document depends on.
            ask: gets it.
            keeps_old: an earlier document is used where there is none to be had now.
        """
        if (kept := self._fresh(key)) is None:
            with self._lock:
                asking = self._asking.setdefault(key, threading.Lock())
            with asking:
                if (kept := self._fresh(key)) is None:
                    kept = self._asked(key, ask(), keeps_old=keeps_old)
        return kept[0]

    def _fresh(self, key: Hashable) -> tuple[Document | None, float] | None:
        kept = self._kept.get(key)
        return kept if kept is not None and kept[1] >= time.monotonic() else None

    def _asked(self, key: Hashable, found: Document | None, *, keeps_old: bool) -> tuple[Document | None, float]:
        until = time.monotonic() + (self._unknown_for_s if found is None else self._known_for_s)
        with self._lock:
            earlier = self._kept.pop(key, None)
            if found is None and earlier is not None and keeps_old:
                found = earlier[0]
            while len(self._kept) >= MOST:
                oldest = next(iter(self._kept))
                self._kept.pop(oldest)
                self._asking.pop(oldest, None)
            self._kept[key] = (found, until)
            return self._kept[key]
