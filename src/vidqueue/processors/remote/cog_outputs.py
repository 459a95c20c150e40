"""The outputs of a Cog prediction: files become outputs of the job, and the rest is kept as JSON."""

from __future__ import annotations

import base64
import binascii
import json
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.ops.addresses import is_url
from vidqueue.ops.http_client import Stop
from vidqueue.processors.base import Context
from vidqueue.processors.media import FOREIGN_FORMATS, MediaField, media_in, suffix_of, with_reference
from vidqueue.processors.media import Path as Place
from vidqueue.processors.remote.cog_settings import schema_in
from vidqueue.processors.remote.peer import Peer, PeerError
from vidqueue.processors.remote.uploads import MOST_FILES, Uploads


class CogOutputs:
    """Takes the files of one prediction into the workspace."""

    def __init__(
        self, peer: Peer, file_limit_mb: int, document: Mapping[str, Any] | None, ctx: Context,
        uploads: Uploads | None = None,
    ) -> None:  # fmt: skip
        self._peer = peer
        self._limit = file_limit_mb << 20
        self._document = document
        self._ctx = ctx
        self._uploads = uploads

    def drafts(self, output: Any) -> list[OutputDraft]:
        """The files that a model returned, and `result`: what it returned, with each file replaced by its name.

        Raises:
            VidqueueError: `peer_lost`, a file cannot be had; `output_too_large`.
        """
        found = list(self._files(output))
        if len(found) > MOST_FILES:
            raise VidqueueError("bad_output", f"The model returned {len(found)} files; {MOST_FILES} are possible.")
        drafts, result = [], output
        for number, (place, reference) in enumerate(found, 1):
            name = "output" if place == () else f"output_{number}"
            drafts.append(self._draft(name, reference))
            result = with_reference(result, place, {"output": name})  # type: ignore[arg-type]
            self._ctx.check_canceled()
        return [*drafts, self._result(result)]

    def _files(self, output: Any) -> list[tuple[Place, str]]:
        """Where files stand: uploads and `data:` URLs anywhere, and URLs where the schema says so, or there is none."""
        schema = schema_in(self._document, "Output") if self._document is not None else None
        inline = {place: text for place, text in _strings(output, ()) if text.startswith("data:") or self._has(text)}
        if schema is None:
            return [(place, text) for place, text in _strings(output, ()) if place in inline or is_url(text)]
        named = {one.path: one.reference for one in media_in(schema, output, formats=FOREIGN_FORMATS) if _is_file(one)}
        return sorted((inline | named).items(), key=lambda one: [(isinstance(step, str), step) for step in one[0]])

    def _has(self, reference: str) -> bool:
        return self._uploads is not None and reference in self._uploads

    def _draft(self, name: str, reference: str) -> OutputDraft:
        path = self._ctx.output_path(name)
        uploaded = self._uploads.take(reference) if self._uploads is not None else None
        try:
            if uploaded is not None:
                uploaded.rename(path)
                media_type = mimetypes.guess_type(uploaded.name)[0] or ""
            elif reference.startswith("data:"):
                media_type = _decoded(reference, path, self._limit)
            else:
                media_type = self._peer.download(reference, path, largest=self._limit, stop=Stop())
        except PeerError as error:
            raise VidqueueError("peer_lost", f"A file of the result cannot be fetched: {error}.") from None
        suffix = suffix_of(reference.partition("?")[0] if is_url(reference) else "", media_type)
        named = path.rename(path.with_name(name + suffix)) if suffix else path
        known = media_type or mimetypes.guess_type(named.name)[0] or "application/octet-stream"
        return OutputDraft(name, named, known)

    def _result(self, result: Any) -> OutputDraft:
        path = self._ctx.output_path("result.json")
        path.write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")
        return OutputDraft("result", path, "application/json")


def _is_file(one: MediaField) -> bool:
    return is_url(one.reference) or one.reference.startswith("data:")


def _strings(value: Any, at: Place) -> list[tuple[Place, str]]:
    """Each string of a JSON value with its place; the JSON parser bounds the depth."""
    if isinstance(value, str):
        return [(at, value)]
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in _strings(inner, (*at, key))]
    if isinstance(value, list):
        return [found for index, inner in enumerate(value) for found in _strings(inner, (*at, index))]
    return []


def _decoded(reference: str, path: Path, largest: int) -> str:
    """Write the bytes of a `data:` URL; return its media type.

    Raises:
        VidqueueError: `bad_output`, `output_too_large`.
    """
    head, _, body = reference.partition(",")
    if len(body) * 3 // 4 > largest:
        raise VidqueueError("output_too_large", "The model returned a file that is larger than file_limit_mb.")
    if not head.endswith(";base64"):
        raise VidqueueError("bad_output", "The model returned a data: URL that is not base64.")
    try:
        path.write_bytes(base64.b64decode(body, validate=True))
    except binascii.Error:
        raise VidqueueError("bad_output", "The model returned a data: URL whose base64 is damaged.") from None
    return head.removeprefix("data:").removesuffix(";base64").partition(";")[0]
