"""What a daemon loaded at its start is not looked at by the garbage collector."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from vidqueue.ops import garbage


@pytest.fixture
def defaults_afterwards() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


class Node:
    """An object that is part of a cycle."""

    def __init__(self) -> None:
        self.other = self


@pytest.mark.usefixtures("defaults_afterwards")
def test_what_exists_is_exempt_and_garbage_made_before_and_after_is_collected() -> None:
    kept, before = [Node()], weakref.ref(Node())
    garbage.exempt_what_exists()
    assert before() is None
    assert gc.get_freeze_count() > len(kept)
    assert not any(one is kept for one in gc.get_objects())
    after = weakref.ref(Node())
    gc.collect()
    assert after() is None
    assert gc.get_threshold() == garbage.THRESHOLDS
