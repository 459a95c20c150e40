"""Forty clients who submit the same job at once, over real connections to a real daemon."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx2
import pytest

from tests.faults.conftest import Start

pytestmark = pytest.mark.slow


def test_forty_racing_submits_with_one_key_make_one_job_and_everybody_gets_it(start: Start) -> None:
    daemon = start("data")
    for round_ in range(5):
        ready = Barrier(40)

        def submit(key: str, ready: Barrier) -> str:
            with httpx2.Client(base_url=daemon.url, timeout=30) as http:
                http.get("/healthz")  # so that the race is not for connections
                ready.wait(timeout=30)
                body = {"processor": "zoo", "input": {"act": "work"}}
                answer = http.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})
                assert answer.status_code == 202, answer.text
                return str(answer.json()["id"])

        with ThreadPoolExecutor(40) as crowd:
            ids = list(crowd.map(submit, [f"key-{round_}"] * 40, [ready] * 40))
        assert len(set(ids)) == 1
        assert daemon.ended(ids[0])["attempt"] == 1
    assert daemon.sql("SELECT count(*) AS n FROM vidqueue.jobs") == [{"n": 5}]
    assert daemon.violations() == []
    assert daemon.stop() == 0
