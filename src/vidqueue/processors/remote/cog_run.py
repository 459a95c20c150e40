"""One run on a Cog server: starts the prediction, follows it, cancels it with the job, and fetches what it made.

The request that starts a prediction stays open until it ends. A server of version 0.14 or newer cancels the prediction
when that connection closes, so that none is left on it when this process is killed. For older ones a later attempt
cancels those before it.
"""

from __future__ import annotations

import base64
import queue
import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.ops.http_client import Stop
from vidqueue.processors.base import CanceledError, Context, WaitingError
from vidqueue.processors.media import with_reference
from vidqueue.processors.remote.cog_outputs import CogOutputs
from vidqueue.processors.remote.cog_reports import LARGEST_LINE, CogReports
from vidqueue.processors.remote.cog_settings import Endpoint
from vidqueue.processors.remote.listener import Listener, listening
from vidqueue.processors.remote.peer import Peer, PeerError
from vidqueue.progress import Progress

# A small file travels inside the input; the server fetches a larger one.
LARGEST_INLINE = 256 << 10
# Longest time that the server may leave the question open whether it lives, in seconds.
SILENT_S = 60.0
HEALTH_EVERY_S = 5.0
CANCEL_S = 8.0
BUSY_RETRY_S = 1.0

_OUT_OF_MEMORY = re.compile(r"out of memory|outofmemoryerror", re.IGNORECASE)
_SPOILED = frozenset({"UNHEALTHY", "DEFUNCT", "SETUP_FAILED"})


class CogRun:
    """One prediction."""

    def __init__(self, name: str, endpoint: Endpoint, document: Mapping[str, Any] | None, ctx: Context) -> None:
        self._name = name
        self._endpoint = endpoint
        self._document = document
        self._ctx = ctx
        self._peer = Peer(endpoint.url)
        # The same for everyone who runs this attempt, and of no other one.
        self._id = ctx.workspace.name
        self._reports = CogReports(self._id, ctx)

    def run(self, given: dict[str, Any]) -> list[OutputDraft]:
        """Run the model on this input.

        Raises:
            VidqueueError: with the code that fits what the server said.
            WaitingError: the server cannot start the work now.
        """
        self._check_ready()
        self._cancel_earlier()
        with listening(self._peer.url, self._reports.put, own_address=self._endpoint.callback_host) as listener:
            answer = self._predict(self._request(given, listener))
            output = self._output(answer)
            self._ctx.progress(Progress(self._reports.fraction, stage="fetch"))
            return CogOutputs(self._peer, self._endpoint, self._document, self._ctx).drafts(output)

    # Before.

    def _check_ready(self) -> None:
        health = self._health()
        if health == "STARTING":
            raise WaitingError("peer_starting", f"The server of {self._name} is still starting.", retry_after_s=5)
        self._check_sound(health)

    def _health(self) -> str:
        """The word of the server about itself; an older one that has none is READY."""
        try:
            status, answer = self._peer.ask("GET", "/health-check")
        except PeerError as error:
            message = f"The server of {self._name} does not answer: {error}."
            raise WaitingError("peer_unavailable", message, retry_after_s=10) from None
        if isinstance(answer, dict) and isinstance(answer.get("status"), str):
            self._health_answer = answer
            return str(answer["status"]).upper()
        if status == 404:
            return "READY"
        message = f"The server of {self._name} answers, but not like a Cog server."
        raise WaitingError("peer_unavailable", message, retry_after_s=30)

    def _check_sound(self, health: str) -> None:
        """Put the job back if the server has to be started anew: it says that it is busy for ever then."""
        if health not in _SPOILED:
            return
        setup = self._health_answer.get("setup")
        words = str(setup.get("logs", "")) if health == "SETUP_FAILED" and isinstance(setup, dict) else ""
        for line in words.splitlines()[-20:]:
            self._ctx.log(line[:LARGEST_LINE], "warning")
        message = f"The server of {self._name} says {health}; it must be started again."
        raise WaitingError("peer_unavailable", message, retry_after_s=15)

    def _cancel_earlier(self) -> None:
        job, _, attempt = self._id.rpartition("-")
        with suppress(PeerError, ValueError):
            if int(attempt) > 1:
                self._peer.ask("POST", f"/predictions/{job}-{int(attempt) - 1}/cancel", {})

    def _request(self, given: dict[str, Any], listener: Listener) -> dict[str, Any]:
        sent: Any = {"input": given}
        for place, file in self._ctx.inputs.items():
            steps = tuple(int(word) if word.isdigit() else word for word in place.split("."))
            sent = with_reference(sent, steps, _reference(file, listener))
        return {
            "id": self._id,
            "input": sent["input"],
            "webhook": listener.reports_url,
            "webhook_events_filter": ["start", "logs", "completed"],
        }

    # At work.

    def _predict(self, request: dict[str, Any]) -> dict[str, Any]:
        """Have the prediction run, and wait while others are on the server."""
        until = time.monotonic() + self._endpoint.busy_timeout_s
        while True:
            status, answer = self._asked(request)
            if status == 409:
                self._check_ready()
                if time.monotonic() >= until:
                    message = f"The endpoint {self._name} is busy with other work."
                    raise WaitingError("endpoint_busy", message, retry_after_s=10)
                self._ctx.progress(Progress(0.0, stage="wait", message="The endpoint is busy with other work."))
                self._pause(BUSY_RETRY_S)
                continue
            if status == 503:
                self._check_ready()
                raise WaitingError("peer_unavailable", f"The server of {self._name} takes no work.", retry_after_s=10)
            return self._prediction(status, answer)

    def _pause(self, seconds: float) -> None:
        self._ctx.canceled.wait(seconds)
        self._ctx.check_canceled()

    def _asked(self, request: dict[str, Any]) -> tuple[int, Any]:
        """Send the request in a thread, and follow the reports until it is answered."""
        stop, answers = Stop(), queue.SimpleQueue[Any]()
        largest = (self._endpoint.file_limit_mb << 20) * 4 // 3 + (16 << 20)

        def ask() -> None:
            try:
                path = f"/predictions/{self._id}"
                answers.put(self._peer.ask("PUT", path, request, idle_s=86_400, stop=stop, largest=largest))
            except PeerError as error:
                answers.put(error)

        asking = threading.Thread(target=ask, name="cog-prediction", daemon=True)
        asking.start()
        try:
            return self._followed(answers, asking)
        finally:
            stop.stop()

    def _followed(self, answers: queue.SimpleQueue[Any], asking: threading.Thread) -> tuple[int, Any]:
        heard_at = asked_at = time.monotonic()
        canceled_at: float | None = None
        while True:
            with suppress(queue.Empty):
                return self._answered(answers.get(timeout=0.1), canceled=canceled_at is not None)
            if not asking.is_alive() and answers.empty():
                raise VidqueueError("internal_error", "The request to the server ended without an answer.")
            self._reports.read()
            now = time.monotonic()
            if canceled_at is None and self._ctx.canceled.is_set():
                canceled_at = now
                with suppress(PeerError):
                    self._peer.ask("POST", f"/predictions/{self._id}/cancel", {}, idle_s=3)
            if canceled_at is not None and now > canceled_at + CANCEL_S:
                raise CanceledError
            if now > asked_at + HEALTH_EVERY_S:
                asked_at = now
                heard_at = now if self._lives() else heard_at
                if now > heard_at + SILENT_S:
                    raise VidqueueError("peer_lost", f"The server of {self._name} does not answer any more.")

    def _lives(self) -> bool:
        try:
            self._peer.ask("GET", "/health-check", idle_s=5)
        except PeerError:
            return False
        return True

    def _answered(self, answer: Any, *, canceled: bool) -> tuple[int, Any]:
        self._reports.read()
        if canceled:
            raise CanceledError
        if isinstance(answer, PeerError):
            raise VidqueueError(
                "peer_lost", f"The server of {self._name} broke off in the middle of the work: {answer}."
            )
        status, body = answer
        return int(status), body

    # After.

    def _prediction(self, status: int, answer: Any) -> dict[str, Any]:
        if status in (400, 422):
            raise VidqueueError(
                "invalid_params", f"The model of {self._name} does not accept this input: {_told(answer)}."
            )
        if status not in (200, 201) or not isinstance(answer, dict) or "status" not in answer:
            raise VidqueueError("peer_lost", f"The server of {self._name} answered {status}, and no prediction.")
        return answer

    def _output(self, answer: dict[str, Any]) -> Any:
        """The output of a prediction that succeeded.

        Raises:
            VidqueueError: it did not.
        """
        if isinstance(log := answer.get("logs"), str) and log:
            self._reports.tell_log(log + "\n")
        if answer["status"] == "succeeded":
            return answer.get("output")
        self._reports.read_the_last()
        words = _without_prefix(str(answer.get("error") or "")) or f"the prediction ended as {answer['status']}"
        if answer["status"] != "failed" or "Worker crashed" in words or self._health_is_lost():
            raise VidqueueError("peer_lost", f"The server of {self._name} lost the work: {words[:1000]}.")
        if _OUT_OF_MEMORY.search(words):
            raise VidqueueError("gpu_out_of_memory", words[:2000])
        raise VidqueueError("model_failed", words[:2000])

    def _health_is_lost(self) -> bool:
        try:
            return self._health() in _SPOILED
        except WaitingError:
            return True


def _reference(file: Path, listener: Listener) -> str:
    if file.stat().st_size > LARGEST_INLINE:
        return listener.offer(file)
    import mimetypes

    media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return f"data:{media_type};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _told(answer: Any) -> str:
    """What a server says is wrong with the input."""
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
