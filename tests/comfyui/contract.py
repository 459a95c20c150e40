"""A server that answers as ComfyUI 0.3.64 was recorded to: routes, refusals, messages, cache, interrupt, restart.

It renders nothing: nodes that save write a small picture or video that the tests hand over. What its nodes take is
recorded from a real server (`object_info.json`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

INFO: dict[str, Any] = json.loads(Path(__file__).with_name("object_info.json").read_text(encoding="utf-8"))
JPEG = b"\xff\xd8\xff\xe0 a preview \xff\xd9"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)
SAVES = {"SaveImage": ("png", "output"), "SaveVideo": ("mp4", "output"), "PreviewImage": ("png", "temp")}
MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ..."
LARGEST = 512


class _InterruptedError(Exception):
    """The prompt was interrupted."""


class _NodeError(Exception):
    """A node failed: kind and words."""


@dataclass
class _State:
    """What a process of ComfyUI has in memory; a restart begins anew."""

    running: list[Any] = field(default_factory=list)
    pending: list[list[Any]] = field(default_factory=list)
    history: dict[str, Any] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)
    sockets: dict[str, WebSocket] = field(default_factory=dict)
    interrupt: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    count: int = 0


class ContractServer:
    """One server on a free port of 127.0.0.1; its files survive `restart`, its memory does not."""

    def __init__(self, folder: Path, video: bytes) -> None:
        self.folder = folder
        self.video = video
        self.port = 0
        self.ran: list[str] = []
        self.freed = 0
        self.files: dict[tuple[str, str, str], bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> ContractServer:
        """Listen, and work."""
        self._state = _State()
        self._server = uvicorn.Server(uvicorn.Config(self._app(), port=self.port, log_level="error", lifespan="off"))
        threading.Thread(target=self._serve, daemon=True).start()
        while not self._server.started:
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        threading.Thread(target=self._work, args=[self._state], daemon=True).start()
        return self

    def _serve(self) -> None:
        self._loop = asyncio.new_event_loop()
        # `kill` stops the loop of a server that does not end by itself.
        with contextlib.suppress(RuntimeError):
            self._loop.run_until_complete(self._server.serve())

    def kill(self) -> None:
        """End at once: everything in memory is lost."""
        self._state.ended.set()
        self._state.interrupt.set()
        self._server.force_exit = self._server.should_exit = True
        patience = time.monotonic() + 5
        while self._loop.is_running():
            time.sleep(0.01)
            if time.monotonic() > patience:
                self._loop.call_soon_threadsafe(self._loop.stop)

    stop = kill

    def _app(self) -> Starlette:
        return Starlette(routes=[
            Route("/object_info", self._info), Route("/queue", self._line), Route("/history", self._last),
            Route("/history/{prompt_id}", self._history), Route("/view", self._view),
            Route("/prompt", self._prompt, methods=["POST"]), Route("/queue", self._delete, methods=["POST"]),
            Route("/interrupt", self._stop, methods=["POST"]), Route("/free", self._free, methods=["POST"]),
            Route("/upload/image", self._upload, methods=["POST"]), WebSocketRoute("/ws", self._ws),
        ])  # fmt: skip

    async def _info(self, request: Request) -> Response:
        return JSONResponse(INFO)

    async def _line(self, request: Request) -> Response:
        return JSONResponse({"queue_running": self._state.running, "queue_pending": self._state.pending})

    async def _last(self, request: Request) -> Response:
        return JSONResponse(dict(list(self._state.history.items())[-1:]))

    async def _history(self, request: Request) -> Response:
        prompt_id = request.path_params["prompt_id"]
        found = self._state.history.get(prompt_id)
        return JSONResponse({prompt_id: found} if found else {})

    async def _view(self, request: Request) -> Response:
        asked = (
            request.query_params["filename"],
            request.query_params.get("subfolder", ""),
            request.query_params["type"],
        )
        if asked not in self.files:
            return Response(status_code=404)
        kind = "video/mp4" if asked[0].endswith(".mp4") else "image/png"
        return Response(self.files[asked], media_type=kind)

    async def _prompt(self, request: Request) -> Response:
        body = await request.json()
        graph = body["prompt"]
        if (refusal := _refusal(graph)) is not None:
            return JSONResponse(refusal, 400)
        outputs = [node_id for node_id, node in graph.items() if INFO[node["class_type"]]["output_node"]]
        self._state.count += 1
        entry = [self._state.count, body["prompt_id"], graph, {"client_id": body["client_id"]}, outputs]
        self._state.pending.append(entry)
        return JSONResponse({"prompt_id": body["prompt_id"], "number": entry[0], "node_errors": {}})

    async def _delete(self, request: Request) -> Response:
        gone = (await request.json()).get("delete", [])
        self._state.pending[:] = [one for one in self._state.pending if one[1] not in gone]
        return Response()

    async def _stop(self, request: Request) -> Response:
        wanted = (await request.json()).get("prompt_id")
        if any(wanted in (None, one[1]) for one in self._state.running):
            self._state.interrupt.set()
        return Response()

    async def _free(self, request: Request) -> Response:
        self.freed += 1
        self._state.cache.clear()
        return Response()

    async def _upload(self, request: Request) -> Response:
        form = await request.form()
        upload: Any = form["image"]
        subfolder = str(form["subfolder"])
        self.files[upload.filename, subfolder, "input"] = await upload.read()
        return JSONResponse({"name": upload.filename, "subfolder": subfolder, "type": "input"})

    async def _ws(self, socket: WebSocket) -> None:
        client = socket.query_params["clientId"]
        await socket.accept()
        self._state.sockets[client] = socket
        try:
            while True:
                await socket.receive_text()
        except WebSocketDisconnect:
            self._state.sockets.pop(client, None)

    def _work(self, state: _State) -> None:
        while not state.ended.is_set():
            if not state.pending:
                time.sleep(0.01)
                continue
            state.running = [entry := state.pending.pop(0)]
            state.interrupt.clear()
            _Execution(self, state, entry).run()
            state.running = []

    def tell(self, state: _State, client: str, message: dict[str, Any] | bytes) -> None:
        """Send a message to the client that submitted the prompt."""
        socket = state.sockets.get(client)
        if socket is None or state.ended.is_set():
            return
        sending = socket.send_bytes(message) if isinstance(message, bytes) else socket.send_text(json.dumps(message))
        try:
            asyncio.run_coroutine_threadsafe(sending, self._loop).result(5)
        except Exception:
            state.sockets.pop(client, None)


class _Execution:
    """One prompt."""

    def __init__(self, server: ContractServer, state: _State, entry: list[Any]) -> None:
        self._server, self._state = server, state
        _, self._id, self._graph, extra, self._outputs = entry
        self._entry = entry
        self._client = extra["client_id"]
        self._messages: list[Any] = []
        self._ui: dict[str, Any] = {}

    def run(self) -> None:
        server, order = self._server, list(_order(self._graph, self._outputs))
        server.ran.append(self._id)
        self._tell("execution_start", timestamp=int(time.time() * 1000))
        signatures = {node: _signature(self._graph, node) for node in order}
        cached = [node for node in order if signatures[node] in self._state.cache]
        self._tell("execution_cached", nodes=cached)
        done: list[str] = []
        try:
            for node in order:
                if node not in cached:
                    self._tell("executing", node=node, display_node=node)
                    self._state.cache[signatures[node]] = self._node(node)
                done.append(node)
                if (made := self._state.cache[signatures[node]]) is not None:
                    self._ui[node] = made
                    self._tell("executed", node=node, display_node=node, output=made)
        except _InterruptedError:
            where = {"node_id": node, "node_type": self._graph[node]["class_type"], "executed": done}
            self._tell("execution_interrupted", **where)
            self._end("error")
            return
        except _NodeError as error:
            where = {"node_id": node, "node_type": self._graph[node]["class_type"], "executed": done}
            kind, words = error.args
            self._tell("execution_error", **where, exception_type=kind, exception_message=words, traceback=[])
            self._end("error")
            return
        self._tell("execution_success", timestamp=int(time.time() * 1000))
        self._end("success")
        self._tell("executing", node=None)

    def _end(self, status: str) -> None:
        if self._state.ended.is_set():
            return
        self._state.history[self._id] = {
            "prompt": self._entry, "outputs": self._ui,
            "status": {"status_str": status, "completed": status == "success", "messages": self._messages}, "meta": {},
        }  # fmt: skip

    def _tell(self, kind: str, **data: Any) -> None:
        message = {"type": kind, "data": data | {"prompt_id": self._id}}
        if kind.startswith("execution_"):
            self._messages.append([kind, message["data"]])
        self._server.tell(self._state, self._client, message)

    def _node(self, node: str) -> Any:
        kind, inputs = self._graph[node]["class_type"], self._graph[node]["inputs"]
        if kind == "VQSlow":
            for step in range(inputs["steps"]):
                self._step(node, step + 1, inputs["steps"], inputs["seconds"])
            _fail(inputs["fails"])
        if kind == "SONICSampler":
            self._step(node, 1, inputs["inference_steps"], 0.0)
            if self._graph[inputs["data_dict"][0]]["inputs"]["min_resolution"] > LARGEST:
                _fail("memory")
        if kind not in SAVES:
            return None
        suffix, folder = SAVES[kind]
        subfolder, _, prefix = str(inputs.get("filename_prefix", "ComfyUI_temp")).rpartition("/")
        name = f"{prefix}_00001_.{suffix}"
        self._server.files[name, subfolder, folder] = self._server.video if suffix == "mp4" else PNG
        made: dict[str, Any] = {"images": [{"filename": name, "subfolder": subfolder, "type": folder}]}
        return made | ({"animated": [True]} if suffix == "mp4" else {})

    def _step(self, node: str, value: int, most: int, seconds: float) -> None:
        if self._state.interrupt.wait(seconds):
            raise _InterruptedError
        self._tell("progress", value=value, max=most, node=node)
        state = {"value": value, "max": most, "state": "running", "node_id": node, "display_node_id": node}
        self._tell("progress_state", nodes={node: state | {"prompt_id": self._id, "parent_node_id": None}})
        self._server.tell(self._state, self._client, struct.pack(">II", 1, 1) + JPEG)


def _fail(how: str) -> None:
    if how == "memory":
        raise _NodeError("torch.OutOfMemoryError", MEMORY)
    if how == "face":
        raise _NodeError("ValueError", "no face was detected in the image")
    if how == "error":
        raise _NodeError("ValueError", "the node gave up")


def _refusal(graph: dict[str, Any]) -> dict[str, Any] | None:
    for node_id, node in graph.items():
        if node["class_type"] not in INFO:
            message = f"Cannot execute because node {node['class_type']} does not exist."
            return {"error": {"type": "invalid_prompt", "message": message, "details": f"Node ID '#{node_id}'",
                              "extra_info": {}}, "node_errors": {}}  # fmt: skip
    if not any(INFO[node["class_type"]]["output_node"] for node in graph.values()):
        return {"error": {"type": "prompt_no_outputs", "message": "Prompt has no outputs", "details": "",
                          "extra_info": {}}, "node_errors": {}}  # fmt: skip
    return None


def _order(graph: dict[str, Any], outputs: list[str]) -> Iterator[str]:
    """The nodes that the outputs need, sources first."""
    seen: set[str] = set()

    def visit(node: str) -> Iterator[str]:
        if node not in seen:
            seen.add(node)
            for value in graph[node]["inputs"].values():
                if isinstance(value, list):
                    yield from visit(value[0])
            yield node

    for node in outputs:
        yield from visit(node)


def _signature(graph: dict[str, Any], node: str) -> str:
    inputs = {
        name: _signature(graph, value[0]) if isinstance(value, list) else value
        for name, value in graph[node]["inputs"].items()
    }
    return json.dumps([graph[node]["class_type"], inputs], sort_keys=True)
