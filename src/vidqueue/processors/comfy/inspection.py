"""Checks a graph against the descriptions of a server's nodes (`/object_info`). No IO."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.processors.comfy.graph import is_link, is_model_file
from vidqueue.processors.media import is_reference, json_pointer

_NUMBERS: dict[str, tuple[type, ...]] = {"INT": (int,), "FLOAT": (int, float)}
# Files that users upload: what stands there is replaced by the name of the upload.
_UPLOADS = ("image_upload", "audio_upload", "video_upload", "animated_image_upload")


@dataclass(frozen=True, slots=True)
class Fault:
    """What a server would refuse of a graph; `missing` says that it lacks a node or a model for it."""

    node: str
    name: str
    detail: str
    missing: bool = False


def inspect(graph: Mapping[str, Any], info: Mapping[str, Any]) -> list[Fault]:
    """Return what the server with these nodes would refuse."""
    faults = [fault for node_id, node in graph.items() for fault in _of_node(node_id, node, info)]
    known = [info[node["class_type"]] for node in graph.values() if node["class_type"] in info]
    if not faults and not any(one.get("output_node") for one in known):
        faults.append(Fault("", "", "the graph has no node that saves a result"))
    return faults


def refusal(faults: list[Fault], pointers: Mapping[tuple[str, str], str], where: str) -> VidqueueError:
    """The error that these faults mean; `pointers` says which parameter an input of a node came from."""
    missing = [fault for fault in faults if fault.missing]
    told = missing or faults
    errors = [{"pointer": _pointer(fault, pointers), "detail": fault.detail} for fault in told[:50]]
    first = f"{errors[0]['pointer']}: {errors[0]['detail']}"
    if missing:
        return VidqueueError("missing_model", f"{where} lacks what the graph needs. {first}", errors=errors)
    return VidqueueError("invalid_params", f"{where} would refuse this graph. {first}", errors=errors)


def _pointer(fault: Fault, pointers: Mapping[tuple[str, str], str]) -> str:
    if (fault.node, fault.name) in pointers:
        return pointers[fault.node, fault.name]
    words = (fault.node, *(("inputs", fault.name) if fault.name else ("class_type",))) if fault.node else ()
    return "/input/graph" + json_pointer(words)


def refused_by_server(body: Any) -> list[Fault]:
    """The faults that the server named when it refused a graph."""
    told, nodes = (_object(_object(body).get(name)) for name in ("error", "node_errors"))
    faults = list(_named(nodes))
    if not faults:
        text = str(told.get("message") or "the server gave no reason")
        lacks_node = "does not exist" in text or told.get("type") == "missing_node_type"
        node = str(told.get("details") or "").rpartition("#")[2].strip("'") if lacks_node else ""
        faults.append(Fault(node, "", text[:1000], missing=lacks_node))
    return faults


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _named(nodes: Mapping[str, Any]) -> Iterator[Fault]:
    for node_id, node in nodes.items():
        for error in node.get("errors") or () if isinstance(node, dict) else ():
            extra = error.get("extra_info") or {}
            name = str(extra.get("input_name") or str(error.get("details") or "").partition(":")[0].partition(" ")[0])
            text = f"{error.get('message')}: {error.get('details')}"[:1000]
            lacks = error.get("type") == "value_not_in_list" and is_model_file(extra.get("received_value"))
            yield Fault(str(node_id), name, text, missing=lacks)


def _of_node(node_id: str, node: Mapping[str, Any], info: Mapping[str, Any]) -> Iterator[Fault]:
    class_type = node["class_type"]
    described = info.get(class_type)
    if not isinstance(described, dict):
        yield Fault(node_id, "", f"there is no node {class_type!r} on the server", missing=True)
        return
    takes = described.get("input") or {}
    inputs = node.get("inputs", {})
    for name, spec in (takes.get("required") or {}).items():
        if name not in inputs:
            # Inputs of newer nodes that depend on others have a kind of their own (COMFY_…), and other names.
            if not (isinstance(spec, list) and spec and str(spec[0]).startswith("COMFY_")):
                yield Fault(node_id, name, f"{class_type} needs `{name}`")
            continue
        yield from _of_input(node_id, name, inputs[name], spec)
    for name, spec in (takes.get("optional") or {}).items():
        if name in inputs:
            yield from _of_input(node_id, name, inputs[name], spec)


def _of_input(node_id: str, name: str, value: Any, spec: Any) -> Iterator[Fault]:
    if is_link(value) or not isinstance(spec, list) or not spec:
        return
    kind, options = spec[0], _options(spec)
    choices = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
    if isinstance(choices, list):
        if any(options.get(word) for word in _UPLOADS) or (isinstance(value, str) and is_reference(value)):
            return
        if choices and value not in choices and not options.get("multiselect"):
            some = ", ".join(map(str, choices[:10])) + (", …" if len(choices) > 10 else "")
            lacks = is_model_file(value)
            yield Fault(node_id, name, f"{value!r} is not among: {some}", missing=lacks)
        elif not choices and is_model_file(value):
            yield Fault(node_id, name, f"the server has no {value!r}, nor any other", missing=True)
    elif kind in _NUMBERS:
        yield from _of_number(node_id, name, value, kind, options)


def _of_number(node_id: str, name: str, value: Any, kind: str, options: Mapping[str, Any]) -> Iterator[Fault]:
    if isinstance(value, bool) or not isinstance(value, _NUMBERS[kind]):
        # ComfyUI converts texts and fractions by itself; what it cannot convert it refuses.
        try:
            value = float(value)
        except (TypeError, ValueError):
            yield Fault(node_id, name, f"{value!r} is not a number")
            return
    least, most = options.get("min"), options.get("max")
    if isinstance(least, int | float) and value < least:
        yield Fault(node_id, name, f"{value} is less than {least}")
    if isinstance(most, int | float) and value > most:
        yield Fault(node_id, name, f"{value} is more than {most}")


def _options(spec: Any) -> Mapping[str, Any]:
    found = spec[1] if isinstance(spec, list) and len(spec) > 1 else None
    return found if isinstance(found, dict) else {}
