"""What processors on ComfyUI share: which servers a job may use, what they would refuse, and a run on one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from vidqueue.errors import VidqueueError
from vidqueue.job import Device, OutputDraft
from vidqueue.processors.base import Context, Resource, WaitingError
from vidqueue.processors.comfy import servers
from vidqueue.processors.comfy.client import Client
from vidqueue.processors.comfy.graph import with_inputs
from vidqueue.processors.comfy.inspection import inspect, refusal
from vidqueue.processors.comfy.known import FRESH_S, NODES
from vidqueue.processors.comfy.run import Run, Task, earlier_prompt_ids
from vidqueue.processors.comfy.settings import ComfyuiSettings
from vidqueue.processors.comfy.templates import Filled


def check_server(name: str | None, config: ComfyuiSettings) -> None:
    """Refuse a server that is not configured.

    Raises:
        VidqueueError: `unknown_model`.
    """
    if not config.servers:
        hint = 'Name one in the configuration: [comfyui.servers.main] url = "http://127.0.0.1:8188".'
        raise VidqueueError("unknown_model", "No ComfyUI server is configured.", hint=hint)
    if name is not None and name not in config.servers:
        message = f"There is no server {name!r}. Known: {', '.join(config.servers)}."
        errors = [{"pointer": "/input/server", "detail": message}]
        raise VidqueueError("unknown_model", message, errors=errors)


def clients_of(name: str | None, config: ComfyuiSettings, lane: str = "") -> dict[str, Client]:
    """The servers that a job may use: the one that it names, or any, as far as its lane may use them."""
    found = {}
    for known, server in config.servers.items():
        if name in (None, known) and (not lane or server.lane in (None, lane)):
            for number, url in enumerate(server.urls, 1):
                found[known if number == 1 else f"{known}-{number}"] = Client(url)
    return found


def device_of(name: str | None, config: ComfyuiSettings) -> Device:
    """The kind of lane that the servers need."""
    devices = {server.device for known, server in config.servers.items() if name in (None, known)}
    return "cpu" if devices == {"cpu"} else "gpu"


def resource_of(name: str | None, config: ComfyuiSettings) -> Resource:
    """The servers that a job may use, as what its daemon shares out: one job for each address.

    Jobs that find no server free would else wait on their lanes, and be counted as waiting for work of others.
    """
    clients = clients_of(name, config)
    label = f"the ComfyUI server {name}" if name else "all ComfyUI servers"
    return Resource(f"comfyui:{name or ''}", max(1, len(clients)), label)


def lane_of(name: str | None, config: ComfyuiSettings) -> str | None:
    """The only lane that may use these servers, where there is but one."""
    lanes = {server.lane for known, server in config.servers.items() if name in (None, known)}
    return lanes.pop() if len(lanes) == 1 else None


def check_with_servers(filled: Filled, clients: Mapping[str, Client]) -> None:
    """Refuse a graph that every server that answers would refuse; a server that is away refuses nothing.

    Raises:
        VidqueueError: `missing_model`, `invalid_params`.
    """
    graph = with_inputs(filled.graph, filled.values)
    refused: VidqueueError | None = None
    for name, client in clients.items():
        info = NODES.info(client)
        faults = inspect(graph, info) if info is not None else []
        if info is not None and faults:
            fresh = NODES.info(client, not_older_than_s=FRESH_S)
            faults = inspect(graph, fresh) if fresh is not None else []
        if info is None or not faults:
            return
        refused = refused or refusal(faults, filled.pointers, f"The server {name}")
    if refused is not None:
        raise refused


def drawn_seed(ctx: Context) -> int:
    """A seed for a job that names none: drawn by its id, so that each attempt of the job has the same."""
    job, _, _ = ctx.workspace.name.rpartition("-")
    return int.from_bytes(hashlib.sha256(job.encode()).digest()[:4], "big")


def run_on_server(
    filled: Filled,
    ctx: Context,
    clients: Mapping[str, Client],
    publish: Callable[[OutputDraft], None],
    *,
    label: str = "",
) -> None:
    """Run a filled graph on a free server; `publish` gets each file as soon as it is there.

    `filled.media` names the inputs of the job, and `label` tells runs of one attempt apart.

    Raises:
        VidqueueError: the graph is refused or fails.
        WaitingError: no server can take it now.
    """
    if not clients:
        raise WaitingError("peer_elsewhere", f"The lane {ctx.lane} may use none of the servers.")
    task = Task(
        with_inputs(filled.graph, filled.values),
        {place: ctx.inputs[name] for place, name in filled.media.items()},
        filled.pointers,
        label,
    )
    ours = earlier_prompt_ids(ctx.workspace.name, label)

    with servers.chosen(clients, task.graph, ours, ctx) as choice:
        ctx.log(f"runs on {choice.name} ({choice.client.url})")
        Run(choice.client, task, ctx, publish)()
