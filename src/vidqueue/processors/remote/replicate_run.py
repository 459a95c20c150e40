"""Runs a prediction at Replicate, or at a compatible server: its input, its log, and its files.

The files are fetched as soon as the prediction has ended: Replicate deletes them after an hour.
"""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.processors.base import Context, WaitingError
from vidqueue.processors.media import with_reference
from vidqueue.processors.remote.cog_outputs import CogOutputs
from vidqueue.processors.remote.cog_reports import CogReports
from vidqueue.processors.remote.error_mapping import error_for_response
from vidqueue.processors.remote.peer import Form, PeerError, stopped_by
from vidqueue.processors.remote.polled import QUEUED, STOP_S, SUBMIT_S, PolledRun
from vidqueue.processors.remote.replicate_settings import Account
from vidqueue.progress import Progress

# A small file travels inside the input where the server takes no uploads.
LARGEST_INLINE = 256 << 10


class ReplicateRun(PolledRun):
    """One prediction."""

    kind = "replicate"
    path = "/predictions"
    newest = "/predictions"

    def __init__(self, account: Account, document: Mapping[str, Any] | None, params: Any, ctx: Context) -> None:
        name = f"account {params.account}"
        super().__init__(name, account.url, account.token_file, account.away_timeout_s, ctx)
        self._account = account
        self._document = document
        self._params = params
        self._reports: CogReports | None = None

    def request(self) -> tuple[str, Any]:
        """The input, with the address of each file that was uploaded."""
        sent: Any = {"input": self._params.input}
        for place, file in self.ctx.inputs.items():
            steps = tuple(int(word) if word.isdigit() else word for word in place.split("."))
            sent = with_reference(sent, steps, self._reference(file))
        named, _, version = self._params.model.partition(":")
        if version:
            return self.path, {"version": version, **sent}
        return f"/models/{named}/predictions", sent

    def is_same(self, work: Mapping[str, Any], body: Any) -> bool:
        """By the input, in which each uploaded file has an address of its own."""
        named = self._params.model.partition(":")[0]
        return work.get("input") == body["input"] and work.get("model") in (None, named)

    def tell(self, work: Mapping[str, Any], status: str) -> None:
        """Take over the log of the model, and the progress that stands in it."""
        if self._reports is None:
            self._reports = CogReports(self.kept.remote, self.ctx)
        self.ctx.check_canceled()
        if status in QUEUED:
            self.ctx.progress(Progress(0.0, stage="queued"))
            return
        self._reports.put(dict(work))
        self._reports.read()

    def result(self, work: Mapping[str, Any]) -> list[OutputDraft]:
        """What the model returned, with its files."""
        if work.get("data_removed") is True:
            raise VidqueueError("peer_lost", f"The {self.name} has deleted the result already.")
        return CogOutputs(self.peer, self._account.file_limit_mb, self._document, self.ctx).drafts(work.get("output"))

    def stop(self) -> int:
        """Cancel the prediction."""
        return self.peer.ask("POST", f"{self.address}/cancel", {}, idle_s=STOP_S)[0]

    def _reference(self, file: Path) -> str:
        try:
            with stopped_by(self.ctx.canceled) as stop:
                reply = self.peer.reply("POST", "/files", Form({}, ("content", file)), idle_s=SUBMIT_S, stop=stop)
        except PeerError as error:
            self.ctx.check_canceled()
            message = f"The {self.name} does not take a file: {error}."
            raise WaitingError("peer_unavailable", message, retry_after_s=10) from None
        if reply.status in (404, 405) and file.stat().st_size <= LARGEST_INLINE:
            media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            return f"data:{media_type};base64,{base64.b64encode(file.read_bytes()).decode()}"
        if reply.status // 100 != 2:
            raise error_for_response(self.name, reply)
        urls = reply.value.get("urls") if isinstance(reply.value, dict) else None
        url = urls.get("get") if isinstance(urls, dict) else None
        if not isinstance(url, str):
            raise VidqueueError("peer_lost", f"The {self.name} took a file, and does not say where it is.")
        return url
