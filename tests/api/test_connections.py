"""Connections to a real server: how fast they answer, and what they may cost."""

from __future__ import annotations

import statistics
import time

import httpx2


async def test_no_answer_on_a_kept_connection_waits_for_a_delayed_acknowledgement(wire: httpx2.AsyncClient) -> None:
    """Linux delays an ACK by 40 ms, and Nagle's algorithm holds the second packet of an answer back until it comes."""
    for path in ("/healthz", "/v1/lanes"):
        times = []
        for _ in range(20):
            began = time.perf_counter()
            assert (await wire.get(path)).status_code == 200
            times.append(time.perf_counter() - began)
        assert statistics.median(times) < 0.03, path
