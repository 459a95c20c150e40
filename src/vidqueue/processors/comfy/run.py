"""One run of a graph on a ComfyUI server: upload, submit, follow, collect, and stop.

The server's queue and history are the truth; its websocket only says it sooner. A prompt that is in neither of them,
asked twice, is lost (the server was restarted) and is submitted again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4, uuid5

from vidqueue.errors import CanceledError, VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.ops import active_time
from vidqueue.processors.base import Context, WaitingError
from vidqueue.processors.comfy.client import AwayError, Client, DeniedError, succeeded
from vidqueue.processors.comfy.collector import Collector
from vidqueue.processors.comfy.failures import failure_of
from vidqueue.processors.comfy.graph import Graph, with_inputs, with_prefix
from vidqueue.processors.comfy.inspection import inspect, refusal, refused_by_server
from vidqueue.processors.comfy.listener import Listener
from vidqueue.processors.comfy.preview import as_preview
from vidqueue.processors.comfy.progress import GraphProgress
from vidqueue.processors.remote.kept_ids import kept_id
from vidqueue.progress import PREVIEW_EVERY_S, Progress

LOOK_S = 1.0
Result = TypeVar("Result")

# A server that is away so long in mid-run is not waited for inside the attempt.
AWAY_S = 120.0
SUBMISSIONS = 3
STOP_S = 8.0
_NAMESPACE = UUID("6d1f2f0e-6f55-4a5c-9a9b-6f0f8d3b5c11")


class LostError(Exception):
    """The server does not know the prompt any more, or does not deliver what it made."""


@dataclass(frozen=True, slots=True)
class Task:
    """A graph with what belongs to it.

    Attributes:
        uploads: the local file of each input of a node that takes an upload.
        pointers: which parameter of the job an input of a node came from, as a JSON pointer.
        label: tells runs of one attempt apart, such as the rungs of a ladder.
    """

    graph: Graph
    uploads: Mapping[tuple[str, str], Path] = field(default_factory=dict)
    pointers: Mapping[tuple[str, str], str] = field(default_factory=dict)
    label: str = ""


def prompt_ids(attempt: str, label: str = "") -> list[str]:
    """The ids of the prompts that an attempt may submit, first to last."""
    return [str(uuid5(_NAMESPACE, f"{attempt}/{label}/{number}")) for number in range(SUBMISSIONS)]


def earlier_prompt_ids(attempt: str, label: str = "") -> list[str]:
    """Those of the attempts of the same job before this one, newest first: an attempt is called `<job>-<number>`."""
    job, _, number = attempt.rpartition("-")
    count = int(number) if job and number.isdigit() else 1
    return [
        one for earlier in range(count - 1, max(0, count - 10), -1) for one in prompt_ids(f"{job}-{earlier}", label)
    ]


class Run:
    """Runs one task on one server; `publish` gets each file."""

    def __init__(self, client: Client, task: Task, ctx: Context, publish: Callable[[OutputDraft], None]) -> None:
        self._client = client
        self._task = task
        self._ctx = ctx
        self._attempt = ctx.attempt
        self._publish = publish
        # A server that the daemon runs ends with it, and serves one lane.
        self._outlives_us = client.url not in ctx.peers.values()
        self._kept = kept_id(ctx, "comfyui", client.url)
        self._shown_at = float("-inf")

    def __call__(self) -> None:
        """Run to the end.

        Raises:
            VidqueueError: the graph is refused or fails; `peer_lost` after it was lost three times.
            WaitingError: the server does not come back.
            CanceledError: the job was canceled, and the server was told to stop.
        """
        try:
            self._run()
        except DeniedError as error:
            message = f"The server refuses a question that every ComfyUI answers ({error})."
            raise VidqueueError("peer_lost", message) from None

    def _run(self) -> None:
        info = self._described()
        if info and (faults := inspect(self._task.graph, info)):
            raise refusal(faults, self._task.pointers, self._client.url)
        graph = with_inputs(self._task.graph, self._uploaded())
        saving = [node_id for node_id, node in graph.items() if info.get(node["class_type"], {}).get("output_node")]
        self._collector = Collector(self._client, graph, saving, self._ctx, self._publish)
        adopted = self._adoptable()
        for number, prompt_id in enumerate(prompt_ids(self._attempt, self._task.label)):
            prefix = f"{self._attempt}{self._task.label}{f'-{number}' if number else ''}"
            try:
                self._collector.begin()
                self._once(with_prefix(graph, prefix, info), adopted or prompt_id, saving, submitted=bool(adopted))
            except LostError as lost:
                adopted = ""
                self._ctx.log(f"{lost} It is submitted again.", "warning")
            else:
                return
        message = f"The server lost the work {SUBMISSIONS} times; it may have died of it each time."
        raise VidqueueError("peer_lost", message)

    def _described(self) -> dict[str, Any]:
        """The server's nodes; empty where it does not tell, so that only its own checks count."""
        try:
            return self._awaited(self._client.object_info)
        except DeniedError:
            return {}

    def _uploaded(self) -> dict[tuple[str, str], str]:
        """Upload the inputs under names that are made of their bytes, so that no two collide."""
        names = {}
        for place, path in self._task.uploads.items():
            self._ctx.progress(Progress(0.0, stage="upload", message=f"Uploads {place[0]}.{place[1]}"))
            name = f"{_digest(path, self._ctx.check_canceled)}{path.suffix}"
            try:
                names[place] = self._awaited(partial(self._client.upload, path, name, self._ctx.check_canceled))
            except DeniedError as error:
                size = path.stat().st_size >> 20
                raise VidqueueError(
                    "payload_too_large" if error.status == 413 else "model_failed",
                    f"The ComfyUI server does not take a file of {size} MiB (HTTP {error.status}).",
                    hint="Start the server with a larger --max-upload-size.",
                ) from None
        return names

    def _adoptable(self) -> str:
        """A prompt of an earlier attempt of this job that runs or waits still, or has succeeded; else nothing."""
        earlier = earlier_prompt_ids(self._attempt, self._task.label)
        line = self._awaited(self._client.line) if earlier else None
        for prompt_id in earlier:
            ended = self._awaited(partial(self._client.history, prompt_id))
            if (line is not None and prompt_id in line) or (ended and succeeded(ended)):
                self._ctx.log("An earlier attempt had submitted the graph; its run is followed.")
                return prompt_id
        return ""

    def _once(self, graph: Graph, prompt_id: str, saving: list[str], *, submitted: bool) -> None:
        client_id = uuid4().hex
        self._kept.remember(prompt_id, {})
        try:
            with Listener(self._client.url, client_id) as listener:
                if not submitted:
                    prompt_id = self._submitted(graph, prompt_id, client_id)
                    self._kept.remember(prompt_id, {})
                self._follow(prompt_id, listener, GraphProgress(graph, saving))
        except CanceledError:
            goes_on = self._outlives_us and self._ctx.interrupted.is_set()
            if not goes_on and self._stop(self._kept.remote):
                self._kept.forget()
            raise
        except (LostError, VidqueueError):
            self._kept.forget()
            raise
        self._kept.forget()

    def _submitted(self, graph: Graph, prompt_id: str, client_id: str) -> str:
        """Submit the graph once, however often the answer is lost."""

        def submit() -> str:
            if prompt_id in self._client.line() or self._client.history(prompt_id):
                return prompt_id
            try:
                return self._client.submit(graph, prompt_id, client_id)
            except DeniedError as error:
                raise refusal(refused_by_server(error.body), self._task.pointers, self._client.url) from None

        return self._awaited(submit)

    def _follow(self, prompt_id: str, listener: Listener, progress: GraphProgress) -> None:
        """Follow the prompt to its end."""
        absent, looked_at = 0, float("-inf")
        while True:
            self._ctx.check_canceled()
            told = listener.next(LOOK_S / 4)
            ends = told is not None and self._hear(told, prompt_id, progress)
            if not ends and active_time.now() - looked_at < LOOK_S:
                continue
            looked_at = active_time.now()
            known, ended = self._awaited(lambda: self._look(prompt_id))
            if ended is not None:
                return self._judge(ended)
            absent = 0 if known else absent + 1
            if absent >= 2:
                raise LostError("The server does not know the work any more.")

    def _look(self, prompt_id: str) -> tuple[bool, dict[str, Any] | None]:
        # The queue first: a prompt that ends between the two questions is in the history then.
        known = prompt_id in self._client.line()
        return known, self._client.history(prompt_id)

    def _hear(self, told: tuple[str, Any], prompt_id: str, progress: GraphProgress) -> bool:
        """Take a message; True if it may be the last one."""
        kind, data = told
        if kind == "preview":
            self._show(data)
            return False
        if data.get("prompt_id", prompt_id) != prompt_id:
            return False
        progress.hear(kind, data)
        if kind in ("executing", "progress", "progress_state", "execution_cached"):
            self._ctx.progress(progress.now())
        if kind == "executed":
            try:
                self._collector.hear(str(data.get("display_node") or data.get("node")), data.get("output"))
            except (AwayError, DeniedError) as error:
                self._ctx.log(f"An output is fetched later: {error}", "warning")
        return kind in ("execution_success", "execution_error", "execution_interrupted") or (
            kind == "executing" and data.get("node") is None
        )

    def _show(self, picture: bytes) -> None:
        now = active_time.now()
        if now - self._shown_at >= PREVIEW_EVERY_S:
            self._shown_at = now
            if (preview := as_preview(picture)) is not None:
                self._ctx.preview(preview)

    def _judge(self, ended: Mapping[str, Any]) -> None:
        """Collect what a prompt made, or raise what it failed of."""
        if succeeded(ended):
            outputs = ended.get("outputs")
            try:
                return self._awaited(lambda: self._collector.end(outputs if isinstance(outputs, dict) else {}))
            except DeniedError as error:
                self._client.free()
                raise LostError(f"The server does not deliver a file that it has named ({error}).") from None
        self._ctx.check_canceled()
        failure = failure_of(ended)
        if failure is None:
            raise LostError("Somebody has interrupted the work on the server.")
        if failure.code == "gpu_out_of_memory":
            self._awaited(self._client.free)
        raise failure

    def _stop(self, prompt_id: str) -> bool:
        """Have the server stop, and wait for it as long as a cancel may take; False if it cannot be told."""
        deadline = active_time.now() + STOP_S
        try:
            self._client.cancel(prompt_id)
            while prompt_id in self._client.line() and active_time.now() < deadline:
                time.sleep(0.1)
        except (AwayError, DeniedError) as error:
            self._ctx.log(f"The server could not be told to stop: {error}", "warning")
            return False
        return True

    def _awaited(self, ask: Callable[[], Result]) -> Result:
        """Ask the server, again and again while it is away.

        Raises:
            WaitingError: it is away for long.
        """
        deadline = active_time.now() + AWAY_S
        while True:
            try:
                return ask()
            except AwayError as error:
                if active_time.now() > deadline:
                    raise WaitingError("peer_unavailable", f"{self._client.url} does not answer: {error}.") from None
                self._ctx.canceled.wait(LOOK_S)
                self._ctx.check_canceled()


def _digest(path: Path, check: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(1 << 20):
            check()
            digest.update(chunk)
    return digest.hexdigest()[:40]
