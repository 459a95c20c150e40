"""What processors on ComfyUI share: which servers a job may use, what they would refuse, and a run on one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from vidqueue.errors import VidqueueError
from vidqueue.job import Device, OutputDraft
from vidqueue.processors.base import Context, Resource, WaitingError
from vidqueue.processors.comfy import servers
from vidqueue.processors.comfy.client import IDLE_S, AwayError, Client, DeniedError
from vidqueue.processors.comfy.graph import with_inputs
from vidqueue.processors.comfy.inspection import inspect, refusal
from vidqueue.processors.comfy.known import FRESH_S, NODES
from vidqueue.processors.comfy.run import Run, Task, earlier_prompt_ids
from vidqueue.processors.comfy.settings import ComfyuiSettings
from vidqueue.processors.comfy.templates import Filled
from vidqueue.processors.peers import Condition, PeerServer

# A short timeout, because a client waits for the response to its submission.
ASK_S = 4.0
# The last address of each managed server on any lane; while it runs, submissions are checked with it.
_LAST_AT = dict[str, str]()


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


def clients_of(name: str | None, config: ComfyuiSettings) -> dict[str, Client]:
    """Return clients of the servers that are reachable without a lane: the one that a job names, or all."""
    return _clients(peers_of(name, config), _LAST_AT, idle_s=ASK_S)


def clients_on_lane(name: str | None, config: ComfyuiSettings, ctx: Context) -> dict[str, Client]:
    """Return clients of the servers that a job may use on its lane, including those that the daemon runs for it."""
    return _clients([one for one in peers_of(name, config) if one.runs_on(ctx.lane)], ctx.peers)


def peers_of(name: str | None, config: ComfyuiSettings) -> list[PeerServer]:
    """Return the configured servers: the one of this name, or all."""
    return [
        PeerServer(f"comfyui:{known}", one.device, one.lane, tuple(one.urls), one.launch, partial(_condition, known))
        for known, one in config.servers.items()
        if name in (None, known)
    ]


def _clients(servers: Iterable[PeerServer], managed: Mapping[str, str], *, idle_s: float = IDLE_S) -> dict[str, Client]:
    found = {}
    for server in servers:
        known = server.name.removeprefix("comfyui:")
        urls = server.urls or tuple(url for name, url in managed.items() if name == server.name)
        for number, url in enumerate(urls, 1):
            found[known if number == 1 else f"{known}-{number}"] = Client(url, idle_s=idle_s)
    return found


def _condition(name: str, url: str) -> Condition:
    """Return the condition of the server at an address; it may block for seconds."""
    try:
        empty = Client(url).line().empty
    except (AwayError, DeniedError) as error:
        return Condition("away", str(error))
    _LAST_AT[f"comfyui:{name}"] = url
    return Condition("ready" if empty else "busy")


def cancel_left(url: str, prompt_id: str) -> bool:
    """Cancel a prompt of a job that has ended; False if the server cannot be told now."""
    try:
        Client(url, idle_s=ASK_S).cancel(prompt_id)
    except (AwayError, DeniedError):
        return False
    return True


def device_of(name: str | None, config: ComfyuiSettings) -> Device:
    """The kind of lane that the servers need."""
    devices = {server.device for known, server in config.servers.items() if name in (None, known)}
    return "cpu" if devices == {"cpu"} else "gpu"


def resource_of(name: str | None, config: ComfyuiSettings) -> Resource | None:
    """Return the servers that a job may use as a resource with one job for each address.

    None where the daemon can start one for each lane.

    Without it, jobs that find no free server would wait on their lanes, and seem to wait for other users of the server.
    """
    if any(server.launch for server in peers_of(name, config)):
        return None
    clients = clients_of(name, config)
    label = f"the ComfyUI server {name}" if name else "all ComfyUI servers"
    return Resource(f"comfyui:{name or ''}", max(1, len(clients)), label)


def lane_of(name: str | None, config: ComfyuiSettings) -> str | None:
    """The only lane that may use these servers, where there is but one."""
    lanes = {server.lane for known, server in config.servers.items() if name in (None, known)}
    return lanes.pop() if len(lanes) == 1 else None


def check_with_servers(filled: Filled, name: str | None, config: ComfyuiSettings) -> None:
    """Refuse a graph that every server that the job may use would refuse; unreachable servers refuse nothing.

    Raises:
        VidqueueError: `missing_model`, `invalid_params`.
    """
    if any(one.launch is not None and one.name not in _LAST_AT for one in peers_of(name, config)):
        return
    graph = with_inputs(filled.graph, filled.values)
    clients = clients_of(name, config)
    refused: VidqueueError | None = None
    for known, client in clients.items():
        info = NODES.info(client)
        faults = inspect(graph, info) if info is not None else []
        if info is not None and faults:
            fresh = NODES.info(client, not_older_than_s=FRESH_S)
            faults = inspect(graph, fresh) if fresh is not None else []
        if info is None or not faults:
            return
        refused = refused or refusal(faults, filled.pointers, f"The server {known}")
    if refused is not None:
        raise refused


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
    ours = earlier_prompt_ids(ctx.attempt, label)

    with servers.chosen(clients, task.graph, ours, ctx) as choice:
        ctx.log(f"runs on {choice.name} ({choice.client.url})")
        Run(choice.client, task, ctx, publish)()
