"""The queue between two threads: order, bounds, and that nobody is left waiting."""

from __future__ import annotations

import threading

import pytest

from vidqueue.media.handoff import ClosedError, Handoff


def in_thread(act: object) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


def test_items_come_out_in_the_order_they_went_in() -> None:
    queue: Handoff[int] = Handoff(3)
    for item in (1, 2, 3):
        queue.put(item)
    assert [queue.get(), queue.get(), queue.get()] == [1, 2, 3]


def test_what_is_inside_can_still_be_taken_after_the_finish() -> None:
    queue: Handoff[int] = Handoff(2)
    queue.put(1)
    queue.finish()
    assert queue.get() == 1
    with pytest.raises(ClosedError):
        queue.get()


def test_a_close_wakes_a_waiting_taker() -> None:
    queue: Handoff[int] = Handoff(1)
    ended: list[str] = []

    def take() -> None:
        with pytest.raises(ClosedError):
            queue.get()
        ended.append("taker")

    thread = in_thread(take)
    queue.close()
    thread.join(5)
    assert ended == ["taker"]


def test_a_close_wakes_a_putter_before_a_full_queue() -> None:
    queue: Handoff[int] = Handoff(1)
    queue.put(1)
    ended: list[str] = []

    def put() -> None:
        with pytest.raises(ClosedError):
            queue.put(2)
        ended.append("putter")

    thread = in_thread(put)
    queue.close()
    thread.join(5)
    assert ended == ["putter"]


def test_a_full_queue_makes_the_putter_wait_for_a_taker() -> None:
    queue: Handoff[int] = Handoff(1)
    queue.put(1)
    thread = in_thread(lambda: queue.put(2))
    assert queue.get() == 1
    assert queue.get() == 2
    thread.join(5)
    assert not thread.is_alive()
