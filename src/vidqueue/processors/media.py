"""Media references in the parameters of a processor: how they are declared, and where they stand in a value.

A reference may stand anywhere: in a list, in a nested model, in an object whose values are media. The JSON schema says
where, so that the command line, which has only the schema that the daemon answers, finds the same places.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

# `visual` is a video or a picture. No schema says so: a processor that takes both does, in `media`.
Kind = Literal["video", "audio", "image", "visual", "any"]
Path = tuple[str | int, ...]

# How a JSON schema says that a string is media.
FORMATS: dict[str, Kind] = {
    "media-video": "video",
    "media-audio": "audio",
    "media-image": "image",
    "media-any": "any",
}
# Schemas of other programs say only that a string is a URI. Such a string is media if it looks like a reference.
FOREIGN_FORMATS: dict[str, Kind] = {**FORMATS, "uri": "any"}

_REFERENCE = re.compile(r"/|vq:(?:files|jobs|batch)/|https?://|data:[\w.+-]+/[\w.+-]+;base64,|s3://")
_FILE = re.compile(r"vq:files/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_OUTPUT = re.compile(r"vq:jobs/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/([a-z][a-z0-9_.-]{0,63})")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}")
# Through how many references of a schema one place may lead; more is a circle.
_DEEPEST = 64
_LONGEST = 4096
WHERE = "`vq:files/<id>`, `vq:jobs/<id>/<output>`, a URL, or an absolute path under inputs.roots."


@dataclass(frozen=True, slots=True)
class MediaRef:
    """Marks a parameter as a reference to media; submit checks it, the lane stages it as a local file."""

    kind: Kind

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), "format": f"media-{self.kind}"}


def _said(what: str) -> Any:
    return Field(min_length=1, max_length=_LONGEST, description=f"{what}: {WHERE}")


VideoInput = Annotated[str, MediaRef("video"), _said("A video")]
AudioInput = Annotated[str, MediaRef("audio"), _said("Sound, or a video whose sound is used")]
ImageInput = Annotated[str, MediaRef("image"), _said("A picture")]
MediaInput = Annotated[str, MediaRef("any"), _said("A video, a picture or sound")]


def file_of(reference: str) -> UUID | None:
    """Return the id of the stored file that a reference names (`vq:files/<id>`); None if it names none."""
    match = _FILE.fullmatch(reference)
    return UUID(match[1]) if match else None


def output_of(reference: str) -> tuple[UUID, str] | None:
    """Return the job and the output that a reference names (`vq:jobs/<id>/<output>`); None if it names none."""
    match = _OUTPUT.fullmatch(reference)
    return (UUID(match[1]), match[2]) if match else None


@dataclass(frozen=True, slots=True)
class MediaField:
    """One reference in a value: where it stands, what it says, and which kind of media it must be."""

    path: Path
    reference: str
    kind: Kind

    @property
    def name(self) -> str:
        """The place with dots, as in `clips.0.media`: the key of `ctx.inputs`."""
        return dotted(self.path)

    @property
    def pointer(self) -> str:
        """The place as a JSON pointer, as in `/clips/0/media`."""
        return json_pointer(self.path)


def dotted(path: Path) -> str:
    """The path with dots."""
    return ".".join(map(str, path))


def json_pointer(path: Path) -> str:
    """The path as a JSON pointer (RFC 6901)."""
    return "".join("/" + str(word).replace("~", "~0").replace("/", "~1") for word in path)


@lru_cache(maxsize=256)
def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a model; do not change it."""
    return model.model_json_schema()


def media_of(params: BaseModel) -> Iterator[MediaField]:
    """Each reference in validated parameters."""
    return media_in(schema_of(type(params)), params.model_dump(by_alias=True))


def visual_at(found: Iterable[MediaField], name: str) -> list[MediaField]:
    """Return the references with those of one parameter as `visual`."""
    return [replace(one, kind="visual") if one.path[0] == name else one for one in found]


def media_in(
    schema: Mapping[str, Any], value: Any, *, at: Path = (), formats: Mapping[str, Kind] = FORMATS
) -> Iterator[MediaField]:
    """Each reference in a JSON value, found along its JSON schema; each place once.

    Args:
        schema: of the value, with its `$defs` or other places that a `$ref` leads to.
        value: what is searched.
        at: where the value itself stands.
        formats: which formats of strings are media. Those beyond `FORMATS` count only where a string looks like a
            reference.
    """
    seen = set[Path]()
    for found in _Walk(schema, formats).below(schema, value, at, 0):
        if found.path not in seen:
            seen.add(found.path)
            yield found


def with_reference(value: Any, path: Path, reference: str) -> Any:
    """A copy of a JSON value with another reference at this path."""
    if not path:
        return reference
    step, rest = path[0], path[1:]
    if isinstance(value, list | tuple):
        return [with_reference(inner, rest, reference) if index == step else inner for index, inner in enumerate(value)]
    return {key: with_reference(inner, rest, reference) if key == step else inner for key, inner in value.items()}


def media_places(schema: Mapping[str, Any], formats: Mapping[str, Kind] = FORMATS) -> dict[str, Kind]:
    """The places of a schema that take media, such as `video` or `clips.*.media`, each with its kind."""
    return dict(_Walk(schema, formats).places(schema, (), frozenset()))


def is_reference(text: str) -> bool:
    """True if the text begins like a media reference."""
    return _REFERENCE.match(text) is not None


def suffix_of(name: str, media_type: str = "") -> str:
    """The extension that a local copy should have, from the name of the file, else from its type; may be empty."""
    base = name.rpartition("/")[2]
    stem, dot, extension = base.rpartition(".")
    if stem and _SUFFIX.fullmatch(dot + extension):
        return dot + extension
    return mimetypes.guess_extension(media_type.partition(";")[0].strip()) or ""


class _Walk:
    """Walks along a JSON schema, with or without a value."""

    def __init__(self, root: Mapping[str, Any], formats: Mapping[str, Kind]) -> None:
        self._root = root
        self._formats = formats

    def below(self, node: Any, value: Any, path: Path, depth: int) -> Iterator[MediaField]:
        """The references in a value that this node of the schema describes."""
        # Numbers and truth values are no references, and hold none.
        if value is None or isinstance(value, int | float) or not isinstance(node, Mapping) or depth > _DEEPEST:
            return
        branches = self._branches(node)
        if isinstance(value, str):
            # A word that the schema lists beside the media, as in `VideoInput | Literal["none"]`, is no reference.
            if any(_lists(branch, value) for branch in branches):
                return
            if kind := self._kind(node, value):
                yield MediaField(path, value, kind)
        for step, node_below, inner in _children(node, value):
            yield from self.below(node_below, inner, (*path, step), 0)
        for branch in branches:
            if _may_be(branch, value):
                yield from self.below(branch, value, path, depth + 1)

    def places(self, node: Any, path: tuple[str, ...], seen: frozenset[int]) -> Iterator[tuple[str, Kind]]:
        """The places below this node that take media. A model that contains itself is entered once."""
        if not isinstance(node, Mapping) or id(node) in seen:
            return
        seen |= {id(node)}
        if kind := self._formats.get(str(node.get("format"))):
            yield ".".join(path), kind
        for name, inner in node.get("properties", {}).items():
            yield from self.places(inner, (*path, name), seen)
        for index, inner in enumerate(node.get("prefixItems", ())):
            yield from self.places(inner, (*path, str(index)), seen)
        for inner in (node.get("items"), node.get("additionalProperties")):
            yield from self.places(inner, (*path, "*"), seen)
        for branch in self._branches(node):
            yield from self.places(branch, path, seen)

    def _kind(self, node: Mapping[str, Any], text: str) -> Kind | None:
        name = str(node.get("format"))
        return FORMATS.get(name) or (self._formats.get(name) if is_reference(text) else None)

    def _branches(self, node: Mapping[str, Any]) -> list[Any]:
        branches = [branch for word in ("anyOf", "oneOf", "allOf") for branch in node.get(word, ())]
        return [self._resolved(branch) for branch in (*branches, *([node] if "$ref" in node else []))]

    def _resolved(self, node: Any) -> Any:
        """The node, or what its reference inside the document leads to; None where that leads nowhere."""
        for _ in range(_DEEPEST):
            if not isinstance(node, Mapping) or not isinstance(reference := node.get("$ref"), str):
                return node
            node = self._root if reference.startswith("#") else None
            for word in reference.split("/")[1:]:
                node = node.get(word.replace("~1", "/").replace("~0", "~")) if isinstance(node, Mapping) else None
        return None


def _children(node: Mapping[str, Any], value: Any) -> Iterator[tuple[str | int, Any, Any]]:
    """Each value inside this one: its name or number, the node of the schema that describes it, and itself."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key, _property(node, key), inner
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield index, _item(node, index), inner


def _property(node: Mapping[str, Any], key: Any) -> Any:
    return node.get("properties", {}).get(key, node.get("additionalProperties"))


def _item(node: Mapping[str, Any], index: int) -> Any:
    first = node.get("prefixItems", ())
    return first[index] if index < len(first) else node.get("items")


def _may_be(branch: Any, value: Any) -> bool:
    """False if the branch is for other values: another constant stands where this one has its discriminator."""
    if not isinstance(branch, Mapping) or not isinstance(value, Mapping):
        return True
    described = branch.get("properties", {}).items()
    constants = [(name, one["const"]) for name, one in described if isinstance(one, Mapping) and "const" in one]
    return all(name not in value or value[name] == constant for name, constant in constants)


def _lists(branch: Any, text: str) -> bool:
    return isinstance(branch, Mapping) and (branch.get("const") == text or text in branch.get("enum", ()))
