"""A request of `/v1/videos`: a form, whose file is stored like an upload, or JSON."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.requests import Request

from vidqueue.api.compat.own_files import with_references
from vidqueue.api.http import requests
from vidqueue.api.http.context import services_of
from vidqueue.api.http.multipart import FormParts, Part
from vidqueue.api.v1.files import receive_part
from vidqueue.errors import VidqueueError

# A picture may come inside a field, as a data: URL.
LARGEST_FIELD = 16 << 20
REFERENCE = "input_reference"
# Fields that clients send and that have no meaning here.
IGNORED = ("user", "n", "response_format")

# The notation in forms for a field of an object: `input_reference[image_url]`.
_INNER = re.compile(r"([a-z_]{1,64})\[([A-Za-z0-9_]{1,64})\]")


def _object(value: Any) -> Any:
    """An object, which a form has as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("a JSON object is needed") from None


class ReferenceObject(BaseModel):
    """A reference to a picture by URL or by the id of a file."""

    model_config = ConfigDict(extra="forbid")

    image_url: str | None = Field(None, min_length=1, description="Its address: https, or a data: URL.")
    file_id: str | None = Field(None, min_length=1, max_length=64, description="Id of a file of /v1/files.")


def _reference(value: Any) -> Any:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        return _object(value)
    return {"image_url": value} if isinstance(value, str) else value


class VideoRequest(BaseModel):
    """The request that creates a video. Other fields are passed to the parameter of the same name."""

    model_config = ConfigDict(extra="allow")

    prompt: str = Field(min_length=1, max_length=32_000, description="Description of the video.")
    model: str | None = Field(None, max_length=200, description="An alias, `owner/name`, or a processor.")
    seconds: float | None = Field(None, gt=0, le=86_400, allow_inf_nan=False, description="Length of the video.")
    size: str | None = Field(None, pattern=r"^[1-9]\d{0,4}x[1-9]\d{0,4}$", description="Width and height: `1280x720`.")
    input_reference: Annotated[ReferenceObject | None, BeforeValidator(_reference)] = Field(
        None, description="A picture or video to begin with; in a form it may be a file."
    )
    width: int | None = Field(None, gt=0)
    height: int | None = Field(None, gt=0)
    num_frames: int | None = Field(None, gt=0)
    fps: float | None = Field(None, gt=0, allow_inf_nan=False)
    num_inference_steps: int | None = Field(None, gt=0)
    guidance_scale: float | None = Field(None, allow_inf_nan=False)
    seed: int | None = None
    negative_prompt: str | None = Field(None, max_length=32_000)
    extra_params: Annotated[dict[str, Any] | None, BeforeValidator(_object)] = Field(
        None, description="Further parameters of the processor, by name."
    )

    @property
    def reference(self) -> str | None:
        """The reference to the picture, as a processor takes it.

        Raises:
            VidqueueError: `invalid_request`.
        """
        given = self.input_reference
        if given is None:
            return None
        if (given.image_url is None) == (given.file_id is None):
            raise _fault("one of image_url and file_id is needed")
        if given.file_id is None:
            return given.image_url
        try:
            return f"vq:files/{UUID(given.file_id.removeprefix('file-'))}"
        except ValueError:
            raise _fault(f"{given.file_id[:64]!r} is not the id of a file") from None

    def fields(self, own: str) -> dict[str, Any]:
        """Return the fields that were given, except the model; `own` is the daemon's own host and port."""
        given = self.model_dump(exclude_none=True, exclude={"model", "extra_params", *IGNORED})
        if reference := self.reference:
            given[REFERENCE] = with_references(reference, own)
        return given | (self.extra_params or {})


@dataclass(frozen=True, slots=True)
class Received:
    """A request, and the file that came with it."""

    request: VideoRequest
    file_id: UUID | None


async def received(request: Request) -> Received:
    """Read the request and store its file, which the caller should delete if it refuses the request.

    Raises:
        VidqueueError: the body cannot be read.
    """
    if requests.media_type_of(request) == "multipart/form-data":
        fields, file_id = await _form(request)
        requests.refuse_what_no_database_keeps(fields)
        body = requests.validate(VideoRequest, fields, place="body")
        requests.refuse_what_no_database_keeps(body.extra_params)
    else:
        body, file_id = await requests.read_body(request, VideoRequest), None
    given = body.input_reference
    if file_id is None and given is not None and given.image_url and given.image_url.startswith("data:"):
        # It is as long as the picture, which no parameter of a job may be.
        stored = await _store_data(request, given.image_url)
        body = body.model_copy(update={REFERENCE: ReferenceObject(file_id=str(stored))})
        file_id = stored
    return Received(body, file_id)


async def _form(request: Request) -> tuple[dict[str, Any], UUID | None]:
    fields: dict[str, Any] = {}
    file_id: UUID | None = None
    largest_file = services_of(request).settings.inputs.max_upload_mib * 1024 * 1024
    requests.refuse_too_long(request, largest_file + LARGEST_FIELD)
    async for part in FormParts(request.headers["content-type"], requests.chunks(request)):
        if part.filename is None:
            _set(fields, part.name, await _text(part))
        elif part.name != REFERENCE or file_id is not None:
            raise VidqueueError("invalid_request", f"The form may have one file, named {REFERENCE}.")
        else:
            file_id = (await receive_part(request, part)).id
            fields[REFERENCE] = {"file_id": str(file_id)}
    return fields, file_id


async def _store_data(request: Request, url: str) -> UUID:
    """Store the bytes of a `data:` URL like an upload."""
    head, _, text = url.partition(",")
    try:
        data = await asyncio.to_thread(base64.b64decode, text, validate=True)
    except (binascii.Error, ValueError):
        raise _fault("the data: URL is not base64") from None
    if not head.endswith(";base64"):
        raise _fault("the data: URL is not base64")
    media_type = head.removeprefix("data:").partition(";")[0]

    async def bytes_of() -> AsyncIterator[bytes]:
        yield data

    return (await receive_part(request, Part(REFERENCE, "", media_type, bytes_of()))).id


def _set(fields: dict[str, Any], name: str, value: str) -> None:
    if inner := _INNER.fullmatch(name):
        outer = fields.setdefault(inner[1], {})
        if isinstance(outer, dict):
            outer[inner[2]] = value
            return
    fields[name] = value


async def _text(part: Part) -> str:
    data = bytearray()
    async for piece in part.data:
        data += piece
        if len(data) > LARGEST_FIELD:
            raise VidqueueError("payload_too_large", f"{part.name[:64]} is longer than {LARGEST_FIELD} bytes.")
    text = data.decode("utf-8", "replace")
    if "\0" in text:
        raise VidqueueError("invalid_request", f"The field {part.name[:64]} has a NUL character.")
    return text


def _fault(detail: str) -> VidqueueError:
    fault = {"pointer": f"/{REFERENCE}", "detail": detail}
    return VidqueueError("invalid_request", f"The body cannot be accepted. /{REFERENCE}: {detail}", errors=[fault])
