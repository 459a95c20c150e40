"""What follows from an outcome, decided in one place."""

from __future__ import annotations

import pytest

from vidqueue.errors import KINDS, VidqueueError
from vidqueue.job import (
    Canceled,
    Failed,
    Failure,
    Interrupted,
    RetryState,
    State,
    Succeeded,
    Verdict,
    Waiting,
    backoff_s,
    verdict,
)

FRESH = RetryState(failures=0, crashes=0, max_attempts=3)


def failed(code: str, *, crashed: bool = False) -> Failed:
    return Failed(Failure.of(code, "what happened"), crashed=crashed)


def test_success_cancel_and_interruption_burn_nothing() -> None:
    assert verdict(Succeeded(()), FRESH) == Verdict(State.SUCCEEDED)
    assert verdict(Canceled(), FRESH) == Verdict(State.CANCELED)
    assert verdict(Interrupted("drain"), RetryState(2, 2, 3)) == Verdict(State.QUEUED)


def test_a_job_that_is_put_back_burns_nothing_until_it_has_waited_for_the_limit() -> None:
    waiting = Waiting("peer_busy", "It is busy.", retry_after_s=40, waited_s=10, limit_s=60)
    assert verdict(waiting, RetryState(2, 2, 3)) == Verdict(State.QUEUED, delay_s=40, waited_s=50)
    # The last attempt begins when the limit is reached, not after it.
    assert verdict(waiting, RetryState(0, 0, 3, waited_s=40)) == Verdict(State.QUEUED, delay_s=10, waited_s=60)
    last = verdict(waiting, RetryState(0, 0, 3, waited_s=50))
    assert last.failure is not None
    assert (last.state, last.burned, last.failure.code) == (State.FAILED, False, "peer_unavailable")
    assert last.failure.message == "The job waited 60 s. It is busy."


def test_a_job_that_is_put_back_does_not_come_back_at_once() -> None:
    assert verdict(Waiting("peer_busy", "It is busy.", retry_after_s=0), FRESH).delay_s == 1


def test_a_retryable_failure_waits_and_is_tried_again() -> None:
    decided = verdict(failed("stalled"), FRESH)
    assert decided.state is State.QUEUED
    assert decided.burned
    assert 0.5 <= decided.delay_s <= 1


def test_the_last_attempt_and_the_final_code_end_in_failure() -> None:
    assert verdict(failed("stalled"), RetryState(2, 0, 3)).state is State.FAILED
    assert verdict(failed("unsupported_format"), FRESH).state is State.FAILED


def test_the_third_crash_is_poison_whatever_is_left_of_the_attempts() -> None:
    decided = verdict(failed("executor_crashed", crashed=True), RetryState(2, 2, 100))
    assert decided.state is State.FAILED
    assert decided.failure is not None
    assert decided.failure.code == "poison"


def test_codes_of_other_peoples_processors_may_be_tried_again() -> None:
    assert verdict(failed("their_own_code"), FRESH).state is State.QUEUED


@pytest.mark.parametrize("failures", range(1, 40))
def test_backoff_doubles_up_to_its_cap_with_jitter_above_a_half(failures: int) -> None:
    ceiling = min(300.0, 2.0 ** (failures - 1))
    assert ceiling / 2 <= backoff_s(failures) <= ceiling


@pytest.mark.parametrize("code", KINDS)
def test_every_code_has_a_status_and_says_what_to_do(code: str) -> None:
    error = VidqueueError(code, "what happened")
    assert 400 <= error.status < 600
    assert len(error.hint) > 20
    assert error.hint.endswith((".", ">"))
    # Most refusals have no `errors`, and the error of a failed job never has them.
    assert "fields named in `errors`" not in error.hint
