"""Progress over a whole graph, from what ComfyUI tells of its nodes one by one. No IO."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from vidqueue.processors.comfy.graph import is_link
from vidqueue.progress import Progress

# Shares of the work, guessed from the kind of node: sampling takes nearly all of the time.
_HEAVY = re.compile(r"sampler|sample|generate|render|upscale|interpol", re.IGNORECASE)
_MIDDLING = re.compile(r"loader|checkpoint|decode|encode|save|combine|create", re.IGNORECASE)


class GraphProgress:
    """What is done of a graph. The fraction never falls, and counts only nodes that the outputs need."""

    def __init__(self, graph: Mapping[str, Any], outputs: list[str]) -> None:
        self._graph = graph
        self._weights = {node_id: _weight(graph[node_id]["class_type"]) for node_id in _needed(graph, outputs)}
        self._done: dict[str, float] = {}
        self._running = ""
        self._furthest = 0.0
        self.cached = 0

    def hear(self, kind: str, data: Mapping[str, Any]) -> None:
        """Take a message of the server."""
        match kind:
            case "execution_cached":
                nodes = [str(node) for node in data.get("nodes") or ()]
                self.cached = len(nodes)
                for node in nodes:
                    self._note(node, 1.0)
            case "executing" if data.get("node") is not None:
                self._now(str(data.get("display_node") or data["node"]))
            case "executed":
                self._note(str(data.get("display_node") or data.get("node")), 1.0)
            case "progress":
                self._note(str(data.get("node") or self._running), _share(data))
            case "progress_state":
                self._hear_states(data.get("nodes"))

    def now(self) -> Progress:
        """Return how far the graph is."""
        total = sum(self._weights.values()) or 1.0
        done = sum(weight * self._done.get(node, 0.0) for node, weight in self._weights.items())
        # The files are still to be fetched when every node is done.
        self._furthest = max(self._furthest, min(0.98, done / total))
        class_type = str(self._graph[self._running]["class_type"]) if self._running in self._graph else "run"
        share = self._done.get(self._running, 0.0)
        message = f"{class_type}: {share:.0%}" if self._running else ""
        return Progress(self._furthest, stage=class_type[:64], message=message)

    def _now(self, node: str) -> None:
        if node != self._running:
            if self._running:
                self._note(self._running, 1.0)
            self._running = node

    def _hear_states(self, states: Any) -> None:
        for state in states.values() if isinstance(states, dict) else ():
            node = str(state.get("display_node_id") or state.get("node_id"))
            if state.get("state") == "running":
                self._now(node)
            self._note(node, 1.0 if state.get("state") == "finished" else _share(state))

    def _note(self, node: str, share: float) -> None:
        self._done[node] = max(self._done.get(node, 0.0), share)


def _share(data: Mapping[str, Any]) -> float:
    value, most = data.get("value"), data.get("max")
    if not isinstance(value, int | float) or not isinstance(most, int | float) or most <= 0:
        return 0.0
    return max(0.0, min(1.0, value / most))


def _weight(class_type: str) -> float:
    if _HEAVY.search(class_type):
        return 20.0
    return 3.0 if _MIDDLING.search(class_type) else 1.0


def _needed(graph: Mapping[str, Any], outputs: list[str]) -> set[str]:
    """The nodes that these outputs need; all nodes where it is not known which ones are outputs."""
    needed: set[str] = set()
    left = list(outputs or graph)
    while left:
        node_id = left.pop()
        if node_id in graph and node_id not in needed:
            needed.add(node_id)
            left.extend(_sources(graph[node_id]))
    return needed


def _sources(node: Mapping[str, Any]) -> Iterator[str]:
    return (value[0] for value in node.get("inputs", {}).values() if is_link(value))
