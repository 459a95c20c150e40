"""Graphs of ComfyUI in API format: what they are, where media stand in them, and what of them may change. No IO."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.processors.media import Kind, MediaField, is_reference, json_pointer

Graph = dict[str, dict[str, Any]]

MOST_NODES = 2000

# A text that begins like a reference is media only where media are loaded: a prompt may begin with a slash.
_LOADERS = re.compile(r"load_?(image|mask|video|audio)|(image|video|audio)_?load", re.IGNORECASE)
_INPUTS = {"image": "image", "mask": "image", "audio": "audio", "video": "video", "file": "any"}
_KINDS: dict[str, Kind] = {"image": "image", "mask": "image", "audio": "audio", "video": "video"}
_MODEL_FILE = re.compile(r"\.(safetensors|sft|ckpt|pth?|gguf|bin|onnx)\Z", re.IGNORECASE)
_DIGITS = re.compile(r"\d{1,9}\Z")


def check_graph(graph: Mapping[str, Any], at: str = "/input/graph") -> None:
    """Refuse what is no graph in API format.

    Raises:
        VidqueueError: `invalid_params`, with the places.
    """
    if isinstance(graph.get("nodes"), list):
        message = "This is a workflow as the editor saves it, not a graph in API format."
        raise _refused(message, [(at, "in editor format")], hint='In ComfyUI use "Export (API)" and send that file.')
    if not graph or len(graph) > MOST_NODES:
        message = "The graph has no nodes." if not graph else f"The graph has more than {MOST_NODES} nodes."
        raise _refused(message, [(at, message)])
    faults = [
        (at + json_pointer((name,)), "a node has `class_type`, a string, and `inputs`, an object")
        for name, node in graph.items()
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str) or not _has_inputs(node)
    ]
    faults += [
        (at + json_pointer((name, "inputs", key)), f"there is no node {value[0]!r}")
        for name, node in graph.items()
        if isinstance(node, dict) and _has_inputs(node)
        for key, value in node.get("inputs", {}).items()
        if is_link(value) and value[0] not in graph
    ]
    if faults:
        raise _refused(f"The graph cannot be read. {faults[0][0]}: {faults[0][1]}", faults)


def _has_inputs(node: Mapping[str, Any]) -> bool:
    return isinstance(node.get("inputs", {}), dict)


def _refused(message: str, faults: list[tuple[str, str]], hint: str | None = None) -> VidqueueError:
    errors = [{"pointer": pointer, "detail": detail} for pointer, detail in faults[:50]]
    return VidqueueError("invalid_params", message, hint=hint, errors=errors)


def is_link(value: Any) -> bool:
    """True if an input is the output of another node: its id and the number of the output."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


def media_kind(class_type: str, name: str, value: Any) -> Kind | None:
    """Which kind of media an input of a node takes, if its value is a reference to one."""
    if not isinstance(value, str) or not is_reference(value):
        return None
    loader = _LOADERS.search(class_type)
    if loader is None and name not in _INPUTS:
        return None
    what = (loader[1] or loader[2]).lower() if loader else name
    return _KINDS.get(what, "any")


def media_in_graph(graph: Mapping[str, Any]) -> Iterator[MediaField]:
    """Each reference in the nodes of a graph."""
    for node_id, node in graph.items():
        for name, value in node.get("inputs", {}).items():
            if kind := media_kind(node["class_type"], name, value):
                yield MediaField(("graph", node_id, "inputs", name), value, kind)


def place_of(graph: Mapping[str, Any], key: str) -> tuple[str, str] | None:
    """Return node and input of `<node id>.<input>`; None if the graph has no such node. An id may contain dots."""
    node_id, dot, name = key.rpartition(".")
    return (node_id, name) if dot and name and node_id in graph else None


def with_inputs(graph: Mapping[str, Any], values: Mapping[tuple[str, str], Any]) -> Graph:
    """A copy of the graph in which these inputs have other values."""
    changed: Graph = copy.deepcopy(dict(graph))
    for (node_id, name), value in values.items():
        changed[node_id].setdefault("inputs", {})[name] = value
    return changed


def with_prefix(graph: Mapping[str, Any], prefix: str, info: Mapping[str, Any]) -> Graph:
    """A copy in which every node that saves a file names it after this attempt.

    A result that ComfyUI has in its cache is not written again: it names the old file, which may be gone. Another
    prefix makes the saving node run.
    """
    changed: Graph = copy.deepcopy(dict(graph))
    for node_id, node in changed.items():
        inputs = node.setdefault("inputs", {})
        takes = "filename_prefix" in inputs or "filename_prefix" in _described(info, node["class_type"])
        if takes and not is_link(inputs.get("filename_prefix")):
            inputs["filename_prefix"] = f"vq/{prefix}_{re.sub(r'[^0-9A-Za-z-]', '-', node_id)[:40]}"
    return changed


def _described(info: Mapping[str, Any], class_type: str) -> set[str]:
    described = info.get(class_type, {}).get("input", {}) if isinstance(info.get(class_type), dict) else {}
    return {name for group in ("required", "optional") for name in described.get(group) or ()}


def models_of(graph: Mapping[str, Any]) -> frozenset[str]:
    """The model files that a graph names: a server that has just run one with the same files has them loaded."""
    return frozenset(
        value
        for node in graph.values()
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
        for value in node["inputs"].values()
        if isinstance(value, str) and _MODEL_FILE.search(value)
    )


def is_model_file(value: Any) -> bool:
    """True if a value is the name of a model file."""
    return isinstance(value, str) and _MODEL_FILE.search(value) is not None


def in_order(node_ids: Iterator[str] | list[str]) -> list[str]:
    """Node ids by number where they are numbers; those of subgraphs (`10:5`) by each of their parts."""
    return sorted(
        node_ids, key=lambda one: [(0, int(p), "") if _DIGITS.match(p) else (1, 0, p) for p in one.split(":")]
    )
