"""Runs a job on a Cog server: starts the prediction, follows it, cancels it with the job, and fetches its files.

The request that starts a prediction stays open until it ends. Cog written in Rust (0.17 and newer) cancels the
prediction when that connection closes, so that none is left on it when this process is killed. For older ones a later
attempt cancels those before it.

Before 0.13 such a request blocks every other one, a cancel and the health check among them. There the prediction is
begun with `Prefer: respond-async`, and its end is a report. Such a server delivers files of it only if it was started
with `--upload-url`; a model that returns files is asked in the open way otherwise, and cannot be canceled.
"""

from __future__ import annotations

import base64
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from vidqueue.errors import LostWorkError, VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.ops import active_time
from vidqueue.ops.http_client import Stop
from vidqueue.processors.base import CanceledError, Context, WaitingError
from vidqueue.processors.media import with_reference
from vidqueue.processors.remote.cog_answers import failure_of, prediction_of
from vidqueue.processors.remote.cog_outputs import CogOutputs
from vidqueue.processors.remote.cog_reports import CogReports
from vidqueue.processors.remote.cog_server import ANSWERS_SINCE, CANCELS_SINCE, CogServer
from vidqueue.processors.remote.cog_settings import Endpoint, returns_files
from vidqueue.processors.remote.listener import Listener, listening
from vidqueue.processors.remote.peer import PeerError, TooLargeError
from vidqueue.processors.remote.uploads import Uploads
from vidqueue.progress import Progress

# A small file travels inside the input; the server fetches a larger one.
LARGEST_INLINE = 256 << 10
# Responses are held in memory; servers upload larger files.
LARGEST_ANSWER = 384 << 20
# Longest time that the server may leave the question open whether it lives, in seconds.
SILENT_S = 60.0
HEALTH_EVERY_S = 5.0
CANCEL_S = 8.0
BUSY_RETRY_S = 1.0
# Time for the answer that a prediction has begun, in seconds.
BEGIN_S = 30.0
# Consecutive checks that find the server idle before a prediction without a report of its end counts as lost.
IDLE_TWICE = 2

Answer = tuple[int, Any]


class CogRun:
    """One prediction."""

    def __init__(
        self, name: str, endpoint: Endpoint, url: str, document: Mapping[str, Any] | None, ctx: Context
    ) -> None:
        self._name = name
        self._endpoint = endpoint
        self._document = document
        self._ctx = ctx
        self._server = CogServer(name, url, ctx, external=endpoint.url is not None)
        self._peer = self._server.peer
        # The same for everyone who runs this attempt, and of no other one.
        self._id = ctx.attempt
        self._reports = CogReports(self._id, ctx)
        self._upload_port = endpoint.uploads_to(url)
        self._uploads = Uploads(self._id, ctx.workspace / "uploads", endpoint.file_limit_mb << 20)
        # Whether the server hears us while it works, and whether it is asked to work without an open request.
        self._hears = self._detached = True

    def run(self, given: dict[str, Any]) -> list[OutputDraft]:
        """Run the model on this input.

        Raises:
            VidqueueError: with the code that fits what the server said.
            WaitingError: the server cannot start the work now.
            LostWorkError: the server was restarted with the work.
        """
        self._server.check_ready()
        self._server.cancel_earlier(self._id)
        version = self._server.version()
        answers = version >= ANSWERS_SINCE
        self._detached = not answers and (self._upload_port is not None or not returns_files(self._document))
        self._hears = answers or self._detached
        older = version < CANCELS_SINCE
        with self._listening() as listener:
            answer = self._predict(self._request(given, listener, older=older))
            output = self._output(answer)
            self._ctx.progress(Progress(self._reports.fraction, stage="fetch"))
            limit, uploads = self._endpoint.file_limit_mb, self._uploads
            return CogOutputs(self._peer, limit, self._document, self._ctx, uploads).drafts(output)

    # Before.

    def _listening(self) -> AbstractContextManager[Listener]:
        own, port = self._endpoint.callback_host, self._upload_port
        return listening(self._peer.url, self._reports.put, self._uploads, own_address=own, upload_port=port)

    def _request(self, given: dict[str, Any], listener: Listener, *, older: bool) -> dict[str, Any]:
        sent: Any = {"input": given}
        for place, file in self._ctx.inputs.items():
            steps = tuple(int(word) if word.isdigit() else word for word in place.split("."))
            sent = with_reference(sent, steps, _reference(file, listener))
        request = {"id": self._id, "input": sent["input"], "webhook": listener.reports_url}
        if not older:
            # It uploads files if it was started with --upload-url.
            return {**request, "webhook_events_filter": ["start", "logs", "completed"]}
        # It is busy for minutes if it cannot tell the end to one who has gone.
        ends = ["completed"] if self._detached else []
        prefix = f"{listener.uploads_url}/"
        return {**request, "webhook_events_filter": ["start", "logs", *ends], "output_file_prefix": prefix}

    # At work.

    def _predict(self, request: dict[str, Any]) -> dict[str, Any]:
        """Have the prediction run, and wait while others are on the server."""
        until = active_time.now() + self._endpoint.busy_timeout_s
        while True:
            status, answer = self._begun(request) if self._detached else self._asked(request)
            if status == 202:
                status, answer = self._followed(self._reported)
            if status == 409:
                self._server.check_ready()
                if active_time.now() >= until:
                    message = f"The endpoint {self._name} is busy with other work."
                    raise WaitingError("endpoint_busy", message, retry_after_s=10)
                self._ctx.progress(Progress(0.0, stage="wait", message="The endpoint is busy with other work."))
                self._pause(BUSY_RETRY_S)
                continue
            if status == 503:
                self._server.check_ready()
                raise WaitingError("peer_unavailable", f"The server of {self._name} takes no work.", retry_after_s=10)
            if status == 500 and not self._reports.heard and request.pop("output_file_prefix", None):
                self._ctx.log(
                    "The server may not reach this machine (see callback_host). It is asked without.", "warning"
                )
                continue
            return self._prediction(status, answer)

    def _pause(self, seconds: float) -> None:
        self._ctx.canceled.wait(seconds)
        self._ctx.check_canceled()

    def _begun(self, request: dict[str, Any]) -> Answer:
        """Begin the prediction once, even if the answer is lost: a server that works on it says so when asked again."""
        headers, path = {"Prefer": "respond-async"}, f"/predictions/{self._id}"
        try:
            return self._peer.ask("PUT", path, request, idle_s=BEGIN_S, headers=headers)
        except PeerError as error:
            self._ctx.check_canceled()
            if error.unsent:
                raise self._away(error) from None
            self._reports.read_the_last()
            if self._reports.heard:
                return 202, None
            if self._server.health()[0] != "BUSY":
                raise self._away(error) from None
            return self._peer.ask("PUT", path, request, idle_s=BEGIN_S, headers=headers)

    def _asked(self, request: dict[str, Any]) -> Answer:
        """Send the request in a thread, and follow the reports until it is answered."""
        stop, answers = Stop(), queue.SimpleQueue[Any]()
        largest = min((self._endpoint.file_limit_mb << 20) * 4 // 3 + (16 << 20), LARGEST_ANSWER)

        def ask() -> None:
            try:
                path = f"/predictions/{self._id}"
                answers.put(self._peer.ask("PUT", path, request, idle_s=86_400, stop=stop, largest=largest))
            except PeerError as error:
                answers.put(error)

        def answered() -> Answer | PeerError | None:
            with suppress(queue.Empty):
                return answers.get(timeout=0.1)  # type: ignore[no-any-return]
            if not asking.is_alive() and answers.empty():
                raise VidqueueError("internal_error", "The request to the server ended without an answer.")
            return None

        asking = threading.Thread(target=ask, name="cog-prediction", daemon=True)
        asking.start()
        try:
            return self._followed(answered)
        finally:
            stop.stop()

    def _reported(self) -> Answer | None:
        """The end of the prediction, if that was reported."""
        self._reports.wait(0.1)
        return None if self._reports.end is None else (200, self._reports.end)

    def _followed(self, ended: Callable[[], Answer | PeerError | None]) -> Answer:
        heard_at = asked_at = active_time.now()
        canceled_at: float | None = None
        idle = 0
        while True:
            if (answer := ended()) is not None:
                return self._answered(answer, canceled=canceled_at is not None)
            self._reports.read()
            now = active_time.now()
            if canceled_at is None and self._ctx.canceled.is_set():
                canceled_at = now
                self._cancel()
            if canceled_at is not None and now > canceled_at + CANCEL_S:
                raise CanceledError
            if now > asked_at + HEALTH_EVERY_S:
                asked_at = now
                state = self._state()
                heard_at = now if state else heard_at
                idle = idle + 1 if ended == self._reported and state not in ("", "BUSY") else 0
                if now > heard_at + SILENT_S:
                    raise VidqueueError("peer_lost", f"The server of {self._name} does not answer any more.")
                if idle >= IDLE_TWICE and self._reports.end is None:
                    raise self._unreported()

    def _state(self) -> str:
        """The word of the server about itself; empty if it does not answer."""
        if not self._hears:
            return "BUSY" if self._server.connects() else ""
        try:
            _, answer = self._peer.ask("GET", "/health-check", idle_s=5)
        except PeerError:
            return ""
        return str(answer.get("status", "READY")).upper() if isinstance(answer, dict) else "READY"

    def _cancel(self) -> None:
        self._server.cancel(self._id)
        if not self._hears:
            self._ctx.log(
                "The server hears nothing while it works, so the prediction goes on to its end. One that was started "
                "with --upload-url (see upload_port) can be canceled.", "warning",
            )  # fmt: skip

    def _unreported(self) -> Exception:
        if self._reports.heard:
            return LostWorkError(f"The server of {self._name} has lost the prediction.")
        message = f"The server of {self._name} is idle again, but no report of the prediction arrived."
        return VidqueueError(
            "peer_lost", message, hint="Set callback_host to an address of this machine that the server can reach."
        )

    def _away(self, error: PeerError) -> WaitingError:
        message = f"The server of {self._name} did not accept the prediction: {error}."
        return WaitingError("peer_unavailable", message, retry_after_s=10)

    def _answered(self, answer: Answer | PeerError, *, canceled: bool) -> Answer:
        self._reports.read()
        if canceled:
            raise CanceledError
        if isinstance(answer, TooLargeError):
            raise VidqueueError(
                "output_too_large", f"The server of {self._name} returns its files inside its answer: {answer}.",
                hint="Start it with --upload-url, and name the port in upload_port.",
            )  # fmt: skip
        if isinstance(answer, PeerError):
            if answer.unsent:
                raise self._away(answer)
            raise VidqueueError(
                "peer_lost", f"The server of {self._name} broke off in the middle of the work: {answer}."
            )
        return answer

    # After.

    def _prediction(self, status: int, answer: Any) -> dict[str, Any]:
        self._uploads.check()
        return prediction_of(self._name, status, answer)

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
        raise failure_of(self._name, answer, self._server.is_lost)


def _reference(file: Path, listener: Listener) -> str:
    if file.stat().st_size > LARGEST_INLINE:
        return listener.offer(file)
    import mimetypes

    media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return f"data:{media_type};base64,{base64.b64encode(file.read_bytes()).decode()}"
