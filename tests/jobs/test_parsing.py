"""Large parameters are parsed beside the event loop, and a flood of faults in them is not listed."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.daemon import promised
from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.jobs import batches, submit
from vidqueue.jobs.members import BatchRequest
from vidqueue.jobs.parsing import is_large
from vidqueue.jobs.submit import JobRequest
from vidqueue.processors import registry
from vidqueue.processors.base import Context, Parameters, Processor
from vidqueue.services import Services


@pytest.mark.parametrize(
    "raw",
    [[0] * 300, {str(n): n for n in range(300)}, [[[0] * 100]] * 3, "x" * 20_000, {"a": {"b": ["x" * 1000] * 20}},
     {"x" * 20_000: 1}, [[]] * 100_000],
)  # fmt: skip
def test_what_takes_longer_to_parse_is_large(raw: Any) -> None:
    assert is_large(raw)


@pytest.mark.parametrize("raw", [None, 1, "x" * 10_000, {}, {"video": "/a", "crop": [1, 2, 3, 4]}, [0] * 100])
def test_usual_parameters_are_not_large(raw: Any) -> None:
    assert not is_large(raw)


def test_judging_a_huge_value_takes_no_time() -> None:
    begun = time.monotonic()
    assert is_large([[0] * 100_000] * 1000)
    assert is_large({"a": ["x" * 1000] * 1_000_000})
    assert time.monotonic() - begun < promised(0.05)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> set[threading.Thread]:
    """Those in which parameters are parsed."""
    real, seen = registry.parse, set[threading.Thread]()

    def parse(processor: Processor, raw: dict[str, Any]) -> Parameters:
        seen.add(threading.current_thread())
        return real(processor, raw)

    monkeypatch.setattr(registry, "parse", parse)
    return seen


async def test_only_large_parameters_leave_the_event_loop(services: Services, threads: set[threading.Thread]) -> None:
    places: dict[str, Any] = {"database": services.database, "inputs": services.inputs, "owner": "local"}
    await submit.submit(JobRequest(processor="zoo"), **places)
    assert threads == {threading.main_thread()}
    threads.clear()
    await submit.submit(JobRequest(processor="zoo", input={"marker": "x" * 100_000}), **places, idempotency_key="k")
    await batches.submit(BatchRequest.model_validate({"jobs": [{"processor": "zoo"}] * 300}), **places)
    assert threads
    assert threading.main_thread() not in threads


class Numbers(Processor):
    """Takes numbers."""

    name = "numbers"

    class Params(Parameters):
        """Any."""

        numbers: list[int]

    def run(self, params: Any, ctx: Context) -> list[OutputDraft]:
        """Never called."""
        raise NotImplementedError


def test_many_faults_are_counted_and_not_listed() -> None:
    with pytest.raises(VidqueueError, match="They have 200000 faults") as caught:
        registry.parse(Numbers(), {"numbers": ["x"] * 200_000})
    assert caught.value.errors == []
    with pytest.raises(VidqueueError) as caught:
        registry.parse(Numbers(), {"numbers": ["x"] * 200})
    assert len(caught.value.errors) == registry.FAULTS_TOLD
