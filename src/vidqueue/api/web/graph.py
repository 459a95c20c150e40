"""The graph of a job's dependencies, parents and children, laid out for SVG: layers from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from vidqueue.db.tables.dashboard import Edge, Related

NODE_WIDTH, NODE_HEIGHT = 168, 44
GAP_X, GAP_Y = 56, 14


@dataclass(frozen=True, slots=True)
class Node:
    """A job of the graph at its place; `is_shown` marks the job of the page."""

    job: Related
    x: int
    y: int
    is_shown: bool


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes, the paths of the edges between them (dashed for parents), and the size of the picture."""

    nodes: list[Node]
    paths: list[tuple[str, bool]]
    width: int
    height: int
    is_moving: bool


def of(shown: UUID, jobs: Sequence[Related], edges: Sequence[Edge]) -> Graph | None:
    """Return the graph of related jobs, each right of all that it comes after; None if there are no edges."""
    known = {job.id: job for job in jobs}
    inside = [edge for edge in edges if edge.before in known and edge.after in known]
    if not inside:
        return None
    layers = _layers(known, inside)
    places: dict[UUID, tuple[int, int]] = {}
    tallest = max(len(ids) for ids in layers)
    for column, ids in enumerate(layers):
        # Layers are centred against each other.
        top = (tallest - len(ids)) * (NODE_HEIGHT + GAP_Y) // 2
        for line, job_id in enumerate(ids):
            places[job_id] = (column * (NODE_WIDTH + GAP_X), top + line * (NODE_HEIGHT + GAP_Y))
    return Graph(
        nodes=[Node(known[job_id], *place, job_id == shown) for job_id, place in places.items()],
        paths=[(_path(places[edge.before], places[edge.after]), edge.is_parent) for edge in inside],
        width=len(layers) * (NODE_WIDTH + GAP_X) - GAP_X,
        height=tallest * (NODE_HEIGHT + GAP_Y) - GAP_Y,
        is_moving=any(job.state in ("queued", "running") for job in jobs),
    )


def _layers(known: dict[UUID, Related], edges: Sequence[Edge]) -> list[list[UUID]]:
    """Return the ids of each layer; the longest way to a job decides. Dependencies are never circles."""
    depth = dict.fromkeys(known, 0)
    for _ in range(len(known)):
        moved = False
        for edge in edges:
            if depth[edge.after] <= depth[edge.before]:
                depth[edge.after] = depth[edge.before] + 1
                moved = True
        if not moved:
            break
    found: dict[int, list[UUID]] = {}
    for job_id in sorted(known):
        found.setdefault(depth[job_id], []).append(job_id)
    return [found[layer] for layer in sorted(found)]


def _path(before: tuple[int, int], after: tuple[int, int]) -> str:
    x1, y1 = before[0] + NODE_WIDTH, before[1] + NODE_HEIGHT // 2
    x2, y2 = after[0], after[1] + NODE_HEIGHT // 2
    middle = (x1 + x2) // 2
    return f"M{x1},{y1} C{middle},{y1} {middle},{y2} {x2},{y2}"
