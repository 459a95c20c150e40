"""What `comfyui` does with servers that are busy, away, half-dead, or lie; the processor is called directly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from starlette.responses import Response

from tests.comfyui.conftest import GRAPH, TEMPLATE
from tests.comfyui.contract import JPEG, PNG, ContractServer
from tests.web import answer, serving
from vidqueue.errors import VidqueueError, WaitingError
from vidqueue.job import OutputDraft
from vidqueue.limits import Limits
from vidqueue.processors import registry
from vidqueue.processors.base import Context
from vidqueue.processors.comfy import run, servers, templates
from vidqueue.processors.comfy.collector import files_of
from vidqueue.processors.comfy.graph import in_order, media_kind, models_of
from vidqueue.processors.comfy.preview import as_preview
from vidqueue.processors.comfy.progress import GraphProgress
from vidqueue.processors.comfy.settings import ComfyuiSettings
from vidqueue.processors.comfyui import Comfyui
from vidqueue.processors.sonic import Sonic
from vidqueue.progress import is_preview


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ContractServer]:
    made = ContractServer(tmp_path, b"a video").start()
    yield made
    made.stop()


@dataclass
class Attempt:
    """One attempt of a processor, called here."""

    folder: Path
    urls: list[str]
    outputs: list[OutputDraft] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    on_log: Callable[[str], None] = lambda text: None
    name: str = field(default_factory=lambda: f"{uuid4()}-1")

    def run(self, graph: dict[str, Any], **inputs: Path) -> list[str]:
        """The names of what it publishes."""
        config = ComfyuiSettings.model_validate({"servers": {f"s{n}": {"url": url} for n, url in enumerate(self.urls)}})
        processor = Comfyui(config)
        workspace = self.folder / self.name
        workspace.mkdir(parents=True)
        ctx = Context(
            inputs, workspace, "cpu", Limits(), lambda _: None, lambda line: self._hear(line.text),
            canceled=threading.Event(), settings=config, publish_output=self.outputs.append,
        )  # fmt: skip
        processor.run(registry.parse(processor, {"graph": graph}), ctx)
        return [one.name for one in self.outputs]

    def _hear(self, text: str) -> None:
        self.log.append(text)
        self.on_log(text)


def saving(**more: Any) -> dict[str, Any]:
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 255}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    } | more


def slow(seconds: float) -> dict[str, Any]:
    graph = {name: node for name, node in GRAPH.items() if name not in ("1", "2")}
    graph["1"] = saving()["1"]
    graph["3"] = {
        "class_type": "VQSlow", "inputs": {"images": ["1", 0], "steps": 1, "seconds": seconds, "fails": "no"},
    }  # fmt: skip
    return graph


def test_servers_that_do_not_answer_are_waited_for(tmp_path: Path) -> None:
    with serving() as garbage:
        garbage.pages["/queue"] = answer(200, b"<html>")
        with pytest.raises(WaitingError) as raised:
            Attempt(tmp_path, ["http://127.0.0.1:9", garbage.url]).run(saving())
    assert raised.value.reason == "peer_unavailable"
    assert "s0" in raised.value.message


def test_a_server_that_works_for_others_is_waited_for(
    server: ContractServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"prompt": slow(30), "client_id": "somebody", "prompt_id": str(uuid4())}
    httpx2.post(f"{server.url}/prompt", json=body).raise_for_status()
    monkeypatch.setattr(servers, "PATIENCE_S", 0.1)
    with pytest.raises(WaitingError) as raised:
        Attempt(tmp_path, [server.url]).run(saving())
    assert raised.value.reason == "peer_busy"
    assert len(server.ran) == 1


def test_one_of_several_is_taken_that_is_free_and_has_the_models(tmp_path: Path) -> None:
    made = [ContractServer(tmp_path / str(number), b"").start() for number in range(3)]
    checkpoint = {"7": {"class_type": "VQCheckpoint", "inputs": {"ckpt_name": "svd_xt_1_1.safetensors"}}}
    try:
        Attempt(tmp_path, [made[1].url]).run(saving(**checkpoint))
        Attempt(tmp_path, [made[0].url]).run(saving())
        Attempt(tmp_path, [one.url for one in made]).run(saving(**checkpoint))
        assert [len(one.ran) for one in made] == [1, 2, 0]
    finally:
        for one in made:
            one.stop()


def test_a_server_that_describes_no_nodes_is_believed_in_what_it_refuses(
    server: ContractServer, tmp_path: Path
) -> None:
    async def refuse(request: Any) -> Any:
        return Response(status_code=403)

    server.stop()
    server._info = refuse  # type: ignore[method-assign]
    server.start()
    assert Attempt(tmp_path, [server.url]).run(saving()) == ["output"]
    nope = {"9": {"class_type": "Nope", "inputs": {}}}
    with pytest.raises(VidqueueError) as raised:
        Attempt(tmp_path, [server.url]).run(saving(**nope))
    assert raised.value.code == "missing_model"
    assert raised.value.errors[0]["pointer"] == "/input/graph/9/class_type"


def test_a_server_that_refuses_every_question_is_told_of(server: ContractServer, tmp_path: Path) -> None:
    async def refuse(request: Any) -> Any:
        return Response(status_code=400)

    server.stop()
    server._history = refuse  # type: ignore[method-assign]
    server.start()
    with pytest.raises(VidqueueError) as raised:
        Attempt(tmp_path, [server.url]).run(saving())
    assert raised.value.code == "peer_lost"


def test_as_many_jobs_run_as_there_are_servers() -> None:
    config = ComfyuiSettings.model_validate(
        {"servers": {"a": {"url": ["http://h:1", "http://h:2"]}, "b": {"url": "http://h:3"}}}
    )
    for kind, given in ((Comfyui, {"graph": saving()}), (Sonic, {"image": "vq:files/x", "audio": "vq:files/y"})):
        processor = kind(config)
        found = [
            processor.resource_for(processor.Params.model_validate(given | {"server": name}))
            for name in (None, "a", "b")
        ]
        assert [one.capacity for one in found if one is not None] == [3, 2, 1]
        assert len({one.name for one in found if one is not None}) == 3
        assert processor.unavailable() == ""
        assert "comfyui.servers" in kind(ComfyuiSettings()).unavailable()


def test_what_an_earlier_attempt_had_made_on_any_server_is_taken_from_there(tmp_path: Path) -> None:
    made = [ContractServer(tmp_path / str(number), b"").start() for number in range(2)]
    job = str(uuid4())
    try:
        Attempt(tmp_path, [made[1].url], name=f"{job}-1").run(saving())
        following = Attempt(tmp_path, [one.url for one in made], name=f"{job}-2")
        assert following.run(saving()) == ["output"]
        assert following.outputs[0].facts["filename"].startswith(f"{job}-1")
        assert [len(one.ran) for one in made] == [0, 1]
    finally:
        for one in made:
            one.stop()


def test_a_lane_that_reserves_a_server_keeps_others_from_it(
    server: ContractServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "PATIENCE_S", 0.1)
    reserved = servers._reserve(server.url)
    assert reserved is not None
    with reserved, pytest.raises(WaitingError):
        Attempt(tmp_path, [server.url]).run(saving())
    assert Attempt(tmp_path, [server.url]).run(saving()) == ["output"]


def test_a_file_that_is_not_delivered_is_made_again(server: ContractServer, tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, [server.url])
    view = server._view
    refused: list[str] = []

    async def lose(request: Any) -> Any:
        if not refused:
            refused.append(request.query_params["filename"])
            server.files.clear()
        return await view(request)

    server.stop()
    server._view = lose  # type: ignore[method-assign]
    server.start()
    assert attempt.run(saving()) == ["output"]
    assert len(server.ran) == 2
    assert server.freed == 1


def test_a_graph_whose_first_answer_is_lost_is_submitted_once(server: ContractServer, tmp_path: Path) -> None:
    prompt = server._prompt
    lost: list[Any] = []

    async def lose(request: Any) -> Any:
        answer = await prompt(request)
        lost.append(answer)
        return Response(status_code=504) if len(lost) == 1 else answer

    server.stop()
    server._prompt = lose  # type: ignore[method-assign]
    server.start()
    assert Attempt(tmp_path, [server.url]).run(saving()) == ["output"]
    assert (len(lost), len(server.ran)) == (1, 1)


def test_work_that_is_lost_again_and_again_is_peer_lost(server: ContractServer, tmp_path: Path) -> None:
    def restart() -> None:
        server.kill()
        server.start()

    def forget(text: str) -> None:
        threading.Timer(0.3, restart).start()

    attempt = Attempt(tmp_path, [server.url], on_log=forget)
    with pytest.raises(VidqueueError) as raised:
        attempt.run(slow(60))
    assert raised.value.code == "peer_lost"
    assert len(attempt.log) == 1 + run.SUBMISSIONS


def test_a_server_that_says_success_without_a_file_is_told_of(server: ContractServer, tmp_path: Path) -> None:
    history = server._history

    async def lie(request: Any) -> Any:
        await history(request)
        for ended in server._state.history.values():
            ended["outputs"] = {}
        return await history(request)

    server.stop()
    server._history = lie  # type: ignore[method-assign]
    server.start()
    with pytest.raises(VidqueueError) as raised:
        Attempt(tmp_path, [server.url]).run(saving())
    assert raised.value.code == "bad_output"


def test_progress_counts_the_nodes_that_the_outputs_need_and_never_falls() -> None:
    graph = {
        "1": {"class_type": "Loader", "inputs": {}},
        "2": {"class_type": "KSampler", "inputs": {"model": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}},
        "9": {"class_type": "KSampler", "inputs": {}},
    }
    progress = GraphProgress(graph, ["3"])
    told: list[tuple[str, dict[str, Any]]] = [
        ("execution_cached", {"nodes": ["1"]}),
        ("executing", {"node": "2"}),
        ("progress", {"node": "2", "value": 5, "max": 10}),
        ("progress", {"node": "2", "value": 2, "max": 10}),
        ("progress_state", {"nodes": {"2": {"value": 8, "max": 10, "state": "running", "node_id": "2"}}}),
        ("executing", {"node": "3"}),
        ("executed", {"node": "3"}),
        ("progress", {"node": "3", "value": "x", "max": 0}),
        ("progress_state", {"nodes": None}),
    ]
    shares = []
    for kind, data in told:
        progress.hear(kind, data)
        shares.append(progress.now().fraction)
    assert shares == sorted(shares)
    assert shares[2] == pytest.approx((3 + 10) / 26)
    assert shares[-1] == 0.98
    assert progress.cached == 1


def test_files_are_found_in_every_list_that_a_node_tells() -> None:
    output = {
        "gifs": [{"filename": "a.mp4", "subfolder": "s", "type": "output", "format": "video/h264"}],
        "images": [{"filename": "b.png"}, {"filename": ""}, "c", None],
        "animated": [True],
        "text": ["x"],
    }
    assert [(one.filename, one.subfolder, one.kind) for one in files_of(output)] == [
        ("a.mp4", "s", "output"), ("b.png", "", "output"),
    ]  # fmt: skip
    assert files_of(None) == []


def test_node_ids_are_ordered_as_numbers() -> None:
    assert in_order(["10", "9", "a", "10:2", "10:11", "1"]) == ["1", "9", "10", "10:2", "10:11", "a"]


def test_a_text_is_media_only_where_media_are_loaded() -> None:
    assert media_kind("LoadImage", "image", "vq:files/x") == "image"
    assert media_kind("VHS_LoadVideoPath", "video", "https://example.com/a.mp4") == "video"
    assert media_kind("LoadAudio", "audio", "in.wav") is None
    assert media_kind("CLIPTextEncode", "text", "/imagine a cat") is None
    assert media_kind("CLIPTextEncode", "text", "https://example.com") is None
    assert models_of({"1": {"class_type": "X", "inputs": {"a": "m.safetensors", "b": "text", "c": ["2", 0]}}}) == {
        "m.safetensors"
    }


def test_a_picture_of_the_server_becomes_a_preview() -> None:
    import cv2
    import numpy as np

    noise = np.random.default_rng(1).integers(0, 255, (900, 1200, 3), np.uint8)
    png = cv2.imencode(".png", noise[:500, :500])[1].tobytes()
    assert as_preview(JPEG) == JPEG
    assert is_preview(as_preview(png) or b"")
    assert is_preview(as_preview(PNG) or b"")
    assert as_preview(b"no picture") is None
    assert as_preview(b"x" * (2 << 20)) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[parameters.a]\nsets = '9.x'\n", "which broken.json does not have"),
        ("[parameters.a]\nsets = '1.image'\ntype = 'word'\n", "type"),
        ("nonsense", "broken"),
        ("color = 1\n", "color"),
    ],
)
def test_a_workflow_at_fault_is_said(tmp_path: Path, text: str, words: str) -> None:
    import json

    (tmp_path / "broken.json").write_text(json.dumps(GRAPH))
    (tmp_path / "broken.toml").write_text(text)
    with pytest.raises(VidqueueError) as raised:
        templates.find("broken", ComfyuiSettings(workflows=tmp_path))
    assert raised.value.code == "unknown_model"
    assert words in raised.value.message


def test_what_an_earlier_run_of_the_attempt_published_is_not_published_again(
    server: ContractServer, tmp_path: Path
) -> None:
    """The server forgets everything after it has told of two files, and before the graph has ended."""
    graph = slow(1.5) | {"2": saving()["2"], "8": saving()["2"]}
    graph["20"] = graph.pop("5")
    attempt = Attempt(tmp_path, [server.url])
    attempt.outputs = _Restarting(server, at=2)
    attempt.run(graph)
    assert [one.name for one in attempt.outputs] == ["output_1", "output_2", "output_3"]
    assert len(server.ran) == 2


class _Restarting(list[OutputDraft]):
    """Outputs; the server restarts when there are so many."""

    def __init__(self, server: ContractServer, *, at: int) -> None:
        super().__init__()
        self._server, self._at = server, at

    def append(self, draft: OutputDraft) -> None:
        super().append(draft)
        if len(self) == self._at:
            self._server.kill()
            self._server.start()


def test_a_workflow_describes_itself_as_json_schema(tmp_path: Path) -> None:
    import json

    (tmp_path / "shrink.json").write_text(json.dumps(GRAPH))
    (tmp_path / "shrink.toml").write_text(TEMPLATE)
    (tmp_path / "bare.json").write_text(json.dumps(GRAPH))
    config = ComfyuiSettings(workflows=tmp_path)
    assert templates.find("bare", config).schema_of()["properties"] == {}
    assert set(templates.known(config)) == {"bare", "shrink", "sonic"}
    schema = templates.find("shrink", config).schema_of()
    assert schema["required"] == ["picture"]
    assert schema["properties"]["picture"] == {"type": "string", "format": "media-image"}
    assert schema["properties"]["size"]["multipleOf"] == 16
