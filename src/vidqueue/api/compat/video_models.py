"""The models of `/v1/videos`, and how the fields of a request become the input of a processor, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from vidqueue.api.compat import models
from vidqueue.api.compat.models import OURS, Model, model_of
from vidqueue.errors import VidqueueError
from vidqueue.processors.media import media_places
from vidqueue.settings.compat import ModelAlias, VideosSettings

# Names of the parameters that may take a field of a request; the first one that the model has gets the value.
NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "text"),
    "negative_prompt": ("negative_prompt",),
    "seconds": ("seconds", "duration_s"),
    "size": ("size",),
    "width": ("width",),
    "height": ("height",),
    "fps": ("fps",),
    "num_frames": ("num_frames", "frames"),
    "num_inference_steps": ("num_inference_steps", "steps", "inference_steps"),
    "guidance_scale": ("guidance_scale", "guidance"),
    "seed": ("seed",),
    "lora": ("lora",),
    "input_reference": ("input_reference", "image", "video", "media"),
}
# Clients send these for every model; they are ignored if the model has no such parameter.
ALWAYS_POSSIBLE = ("prompt", "seconds", "size")
USUAL_FPS = 16.0
LONGEST_LIST = 1000

# The steps to a value in a JSON value; those into a list are numbers.
Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VideoModel:
    """A model that makes videos.

    Attributes:
        name: the name that clients use.
        processor: the processor of its jobs.
        fixed: what the input has in any case.
        within: where the parameters stand in the input.
        properties: the JSON schemas of the parameters.
        places: where fields of a request go; else to the parameter of their name.
    """

    name: str
    processor: str
    fixed: Mapping[str, Any]
    within: Place
    properties: Mapping[str, Any]
    places: Mapping[str, str]

    def input_of(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The input of a job for the fields of a request.

        Raises:
            VidqueueError: `invalid_params`, the model has no parameter for a field.
        """
        made: dict[str, Any] = json.loads(json.dumps(self.fixed))
        faults = []
        for name, value in self._settled(fields).items():
            if (place := self.place(name)) is not None:
                self._put(made, place, value)
            elif name not in ALWAYS_POSSIBLE:
                faults.append({"pointer": f"/{name}", "detail": f"The model {self.name} has no such parameter."})
        if faults:
            raise VidqueueError("invalid_params", f"{faults[0]['pointer']}: {faults[0]['detail']}", errors=faults)
        return made

    def place(self, field: str) -> Place | None:
        """Where a field goes in the input; None if the model has no parameter for it."""
        if field in self.places:
            return tuple(self.places[field].split("."))
        for name in NAMES.get(field, (field,)):
            if name in self.properties:
                return (*self.within, name)
        if field == "input_reference":
            return self._only_media()
        return None

    def value(self, given: Mapping[str, Any], field: str) -> Any:
        """The value of a field in the input of a job; None if it has none."""
        found: Any = given
        for step in self.place(field) or ("",):
            if isinstance(found, list):
                found = found[int(step)] if step.isdigit() and int(step) < len(found) else None
            else:
                found = found.get(step) if isinstance(found, Mapping) else None
        return found

    def _put(self, made: dict[str, Any], place: Place, value: Any) -> None:
        try:
            _put(made, place, self._typed(place, value))
        except (TypeError, ValueError) as error:
            message = f"The model {self.name} is configured with a place that does not exist in its input: {error}."
            raise VidqueueError("unknown_model", message) from None

    def _only_media(self) -> Place | None:
        found = [name for name in media_places({"properties": self.properties}) if "." not in name]
        return (*self.within, found[0]) if len(found) == 1 else None

    def _settled(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Convert the size to width and height, and the length to a number of frames, if the model takes those."""
        settled = dict(fields)
        size = settled.get("size")
        if size is not None and self.place("size") is None and self.place("width") is not None:
            width, height = map(int, settled.pop("size").split("x"))
            settled = {"width": width, "height": height} | settled
        seconds = settled.get("seconds")
        counts = self.place("num_frames") is not None and "num_frames" not in settled
        if seconds is not None and self.place("seconds") is None and counts:
            fps = settled.get("fps") or self.properties.get("fps", {}).get("default") or USUAL_FPS
            # Video models take 4k + 1 frames, or any number.
            settled["num_frames"] = int(settled.pop("seconds") * fps) // 4 * 4 + 1
        return settled

    def _typed(self, place: Place, value: Any) -> Any:
        """Convert a value that came as text to the type of its parameter."""
        if not isinstance(value, str):
            return value
        schema = self.properties.get(str(place[-1]), {}) if place[:-1] == self.within else {}
        types = {schema.get("type"), *(one.get("type") for one in schema.get("anyOf", ()) if isinstance(one, dict))}
        if "string" in types or types <= {None}:
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value


def find(name: str, settings: VideosSettings) -> VideoModel:
    """The model of this name: an alias, `owner/name` as the catalogue has it, or a processor. It may block.

    Raises:
        VidqueueError: `unknown_model`.
    """
    if alias := settings.models.get(name):
        return _of_alias(name, alias)
    owner, slash, rest = name.partition("/")
    try:
        model = models.find(owner, rest) if slash else models.find(OURS, name)
    except VidqueueError:
        known = ", ".join([*settings.models, *(one.full_name for one in models.models())])
        raise VidqueueError("unknown_model", f"There is no model {name[:200]!r}. Known: {known}.") from None
    return _of_catalogue(name, model, {})


def of_job(processor: str, given: Mapping[str, Any], settings: VideosSettings, alias: str | None) -> VideoModel | None:
    """Return the model that a job runs; None if it no longer exists. It may block."""
    try:
        if alias in settings.models and settings.models[alias].processor == processor:
            return find(alias, settings)
        return find(model_of(processor, given)[0], settings)
    except VidqueueError:
        return None


def _of_alias(name: str, alias: ModelAlias) -> VideoModel:
    full_name, _ = model_of(alias.processor, alias.input)
    try:
        model = models.find(*full_name.split("/", 1))
    except VidqueueError:
        message = f"The model {name} is configured for {full_name}, which does not exist."
        raise VidqueueError("unknown_model", message) from None
    made = _of_catalogue(name, model, alias.parameters)
    return replace(made, fixed={**made.fixed, **alias.input})


def _of_catalogue(name: str, model: Model, places: Mapping[str, str]) -> VideoModel:
    family, found = model.family, model.input_schema().get("properties")
    properties = {key: one for key, one in _pairs(found) if isinstance(one, Mapping)}
    within: Place = (family.within,) if family is not None and family.within else ()
    return VideoModel(name, model.processor, model.params({}), within, properties, places)


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    yield from value.items() if isinstance(value, Mapping) else ()


def _put(target: Any, path: Place, value: Any) -> None:
    """Set the value at a path; objects and lists on the way are made, and a list is made as long as is needed.

    Raises:
        TypeError, ValueError: there is something else on the way.
    """
    for step, following in pairwise(path):
        target = _entered(target, step, [] if following.isdigit() else {})
    if isinstance(target, list):
        target[_index(target, path[-1])] = value
    else:
        target[path[-1]] = value


def _entered(target: Any, step: str, empty: Any) -> Any:
    if isinstance(target, list):
        number = _index(target, step)
        target[number] = empty if target[number] is None else target[number]
        return target[number]
    if not isinstance(target, dict):
        raise TypeError(f"there is no object or list for {step}")
    return target.setdefault(step, empty)


def _index(target: list[Any], step: str) -> int:
    """The index that a step means; the list is made long enough."""
    number = int(step)
    if not 0 <= number < LONGEST_LIST:
        raise ValueError(f"{number} is no index")
    target.extend([None] * (number + 1 - len(target)))
    return number
