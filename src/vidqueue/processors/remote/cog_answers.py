"""Interprets responses of a Cog server: a prediction, a refusal, or the error of a failed prediction. No IO."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from vidqueue.errors import VidqueueError

_OUT_OF_MEMORY = re.compile(r"out of memory|outofmemoryerror", re.IGNORECASE)
# The message of servers whose worker died; "possibly out of memory" in it is only a guess.
_CRASHED = ("Worker crashed", "Prediction failed for an unknown reason")


def prediction_of(name: str, status: int, answer: Any) -> dict[str, Any]:
    """Return the prediction in a response of the server called `name`.

    Raises:
        VidqueueError: `invalid_params`, the input is refused; `peer_lost`, the answer is none.
    """
    if status in (400, 422):
        raise VidqueueError("invalid_params", f"The model of {name} does not accept this input: {_told(answer)}.")
    if status not in (200, 201) or not isinstance(answer, dict) or "status" not in answer:
        raise VidqueueError("peer_lost", f"The server of {name} answered {status} without a prediction.")
    return answer


def failure_of(name: str, prediction: dict[str, Any], is_lost: Callable[[], bool]) -> VidqueueError:
    """The error of a prediction that did not succeed; `is_lost` asks whether the server is away or broken."""
    words = _without_prefix(str(prediction.get("error") or "")) or f"the prediction ended as {prediction['status']}"
    if prediction["status"] != "failed" or any(one in words for one in _CRASHED) or is_lost():
        return VidqueueError("peer_lost", f"The server of {name} lost the work: {words[:1000]}.")
    return VidqueueError("gpu_out_of_memory" if _OUT_OF_MEMORY.search(words) else "model_failed", words[:2000])


def _told(answer: Any) -> str:
    """Return a server's reasons for refusing the input."""
    detail = answer.get("detail", answer.get("error")) if isinstance(answer, dict) else None
    if not isinstance(detail, list):
        return str(detail or "it gave no reason")[:1000]
    told = [
        f"{'.'.join(map(str, one.get('loc', ())[1:]))}: {one.get('msg', '')}" for one in detail if isinstance(one, dict)
    ]
    return "; ".join(told)[:1000]


def _without_prefix(error: str) -> str:
    while error.startswith("Prediction failed: "):
        error = error.removeprefix("Prediction failed: ")
    return error.strip()
