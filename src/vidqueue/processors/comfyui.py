"""ComfyUI: runs a graph, or a workflow of the operator, on a server of the operator's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import Field, ValidationInfo, model_validator

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.processors.base import Context, MediaField, Parameters, settings_of
from vidqueue.processors.comfy import templates
from vidqueue.processors.comfy.graph import check_graph, media_in_graph, media_kind, place_of
from vidqueue.processors.comfy.processor import OnComfyui
from vidqueue.processors.comfy.service import (
    check_server,
    check_with_servers,
    clients_on_lane,
    run_on_server,
)
from vidqueue.processors.comfy.settings import ComfyuiSettings
from vidqueue.processors.comfy.templates import Filled
from vidqueue.processors.media import json_pointer, media_in
from vidqueue.processors.parts.seeds import drawn_seed


class ComfyuiParams(Parameters):
    """Parameters of `comfyui`."""

    workflow: str | None = Field(None, max_length=64, description="Name of a workflow; or give a graph.")
    graph: dict[str, Any] | None = Field(None, description="A graph in API format; or name a workflow.")
    inputs: dict[str, Any] = Field(
        {},
        description="Of a workflow: its parameters. Of a graph: `<node id>.<input>` with a value, or with a reference "
        "to media where the node loads some.",
    )
    server: str | None = Field(None, max_length=32, description="Only this server; any free one if not given.")

    @model_validator(mode="after")
    def _fit(self, info: ValidationInfo) -> ComfyuiParams:
        if (self.workflow is None) == (self.graph is None):
            raise ValueError("give either a workflow or a graph")
        config = settings_of(info, ComfyuiSettings)
        if config is None:
            return self
        check_server(self.server, config)
        if self.graph is not None:
            if not config.allow_graphs:
                raise ValueError("jobs may not bring a graph here; name a workflow")
            check_graph(self.graph)
        if faults := list(_faults(self, config)):
            errors = [
                {"pointer": f"/input/inputs{json_pointer((name,))}", "detail": text} for name, text in faults[:50]
            ]
            first = f"{errors[0]['pointer']}: {errors[0]['detail']}"
            raise VidqueueError("invalid_params", f"comfyui does not accept these inputs. {first}", errors=errors)
        return self


class Comfyui(OnComfyui):
    """Run a graph or a workflow on a ComfyUI server: pictures, video or sound, whatever its nodes save."""

    name = "comfyui"
    Params = ComfyuiParams

    def media(self, params: Any) -> Iterable[MediaField]:
        """Those of the workflow's parameters, or those that nodes of the graph load."""
        if params.workflow is not None:
            schema = templates.find(params.workflow, self.config).schema_of()
            yield from media_in(schema, params.inputs, at=("inputs",))
            return
        graph = params.graph or {}
        replaced = {place for place, _ in _given(params)}
        yield from (one for one in media_in_graph(graph) if (one.path[1], one.path[3]) not in replaced)
        for (node_id, name), key in _given(params):
            if kind := media_kind(graph[node_id]["class_type"], name, params.inputs[key]):
                yield MediaField(("inputs", key), params.inputs[key], kind)

    def check(self, params: Any) -> None:
        """Ask the servers whether they have the nodes and models."""
        check_with_servers(self._filled(params), params.server, self.config)

    def run(self, params: Any, ctx: Context) -> list[OutputDraft]:
        """Run the graph, and publish what it saves."""
        filled = self._filled(params, seed=drawn_seed(ctx))

        def publish(draft: OutputDraft) -> None:
            if filled.seeds:
                draft.facts["seed"] = next(iter(filled.seeds.values()))
            ctx.publish(draft)

        run_on_server(filled, ctx, clients_on_lane(params.server, self.config, ctx), publish)
        return []

    def _filled(self, params: Any, *, seed: int = 0) -> Filled:
        """The graph with all values; media by the place of their reference."""
        if params.workflow is not None:
            workflow = templates.find(params.workflow, self.config)
            filled = workflow.filled(params.inputs, seed=seed)
            filled.media.update({place: f"inputs.{name}" for place, name in filled.media.items()})
            return filled
        filled = Filled(params.graph)
        for place, key in _given(params):
            filled.values[place] = params.inputs[key]
            filled.pointers[place] = f"/input/inputs{json_pointer((key,))}"
        for one in self.media(params):
            filled.media[_place_of_media(params.graph, one)] = one.name
        return filled


def _place_of_media(graph: Mapping[str, Any], one: MediaField) -> tuple[str, str]:
    """Node and input of a reference, which stands in the graph itself or among the inputs."""
    found = place_of(graph, str(one.path[1])) if one.path[0] == "inputs" else (str(one.path[1]), str(one.path[3]))
    assert found is not None
    return found


def _given(params: ComfyuiParams) -> Iterator[tuple[tuple[str, str], str]]:
    """Each input of a graph's node that the job gives, with its key."""
    for key in params.inputs:
        if (place := place_of(params.graph or {}, key)) is not None:
            yield place, key


def _faults(params: ComfyuiParams, config: ComfyuiSettings) -> Iterator[tuple[str, str]]:
    if params.workflow is not None:
        yield from templates.find(params.workflow, config).faults(params.inputs)
        return
    for key in params.inputs:
        if place_of(params.graph or {}, key) is None:
            yield key, "names no node of the graph; write <node id>.<input>"
