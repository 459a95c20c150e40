"""Streaming reader for multipart forms with fields and files; it keeps nothing of a file in memory or on disk."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from vidqueue.errors import VidqueueError

PARTS_LIMIT = 500
# What a form with one file calls it. Clients of Replicate say `content`, and beside it what its own headers say too;
# those of OpenAI say what the file is for.
FIELD = "file"
FIELDS, IGNORED = (FIELD, "content"), ("filename", "type", "metadata", "purpose")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form: a field, or a file if it has a file name (which may be empty: nothing was chosen).

    `data` must be read before the next part is asked for; what is not read is passed over.
    """

    name: str
    filename: str | None
    media_type: str
    data: AsyncIterator[bytes]


class _End:
    """The end of a part."""


class FormParts:
    """The parts of a form, in the order in which they arrive."""

    def __init__(self, content_type: str, chunks: AsyncIterator[bytes]) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise _malformed("The Content-Type has no boundary")
        self._chunks = chunks
        self._events: deque[Part | bytes | _End] = deque()
        self._whole = False
        self._count = 0
        self._header: list[bytes] = []
        self._value: list[bytes] = []
        self._headers: dict[str, bytes] = {}
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._headers.clear,
                    "on_header_field": lambda data, start, end: self._header.append(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.append(data[start:end]),
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": lambda data, start, end: self._events.append(data[start:end]),
                    "on_part_end": lambda: self._events.append(_End()),
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise _malformed(str(error)) from None

    async def __aiter__(self) -> AsyncIterator[Part]:
        """Yield the parts.

        Raises:
            VidqueueError: `invalid_request` when the form is broken off or malformed.
        """
        while (event := await self._next()) is not None:
            if isinstance(event, Part):
                yield event
                async for _ in event.data:
                    pass
        if not self._whole:
            raise _malformed("The form ends before its last boundary")

    async def _data(self) -> AsyncIterator[bytes]:
        while isinstance(event := await self._next(), bytes):
            yield event
        if event is None:
            raise _malformed("The form ends before its last boundary")

    async def _next(self) -> Part | bytes | _End | None:
        while not self._events:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                return None
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise _malformed(str(error)) from None
        return self._events.popleft()

    def _on_header_end(self) -> None:
        self._headers[b"".join(self._header).decode("latin-1").lower()] = b"".join(self._value)
        self._header.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        self._count += 1
        if self._count > PARTS_LIMIT:
            raise VidqueueError("invalid_request", f"The form has more than {PARTS_LIMIT} parts.")
        _, options = parse_options_header(self._headers.get("content-disposition", b"").decode("latin-1"))
        filename = options.get(b"filename")
        media_type = self._headers.get("content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        self._events.append(
            Part(
                name=options.get(b"name", b"").decode("utf-8", "replace"),
                filename=None if filename is None else filename.decode("utf-8", "replace"),
                media_type=media_type,
                data=self._data(),
            )
        )

    def _on_end(self) -> None:
        self._whole = True


class FilePart:
    """Reads a form that has exactly one file.

    Attributes:
        name: what the sender calls the file; known once `data` has begun to yield.
        media_type: what the sender says it is.
    """

    def __init__(self, content_type: str, chunks: AsyncIterator[bytes]) -> None:
        self._parts = FormParts(content_type, chunks)
        self.name = ""
        self.media_type = ""

    async def data(self) -> AsyncIterator[bytes]:
        """Yield the bytes of the file.

        Raises:
            VidqueueError: `invalid_request` when the form is broken off, malformed, or not one file.
        """
        found = False
        async for part in self._parts:
            if part.name.partition("[")[0] in IGNORED:
                continue
            if found or part.name not in FIELDS:
                raise _malformed(f"The form must have one part, named {FIELD!r}")
            found = True
            self.name, self.media_type = part.filename or "", part.media_type
            async for piece in part.data:
                yield piece
        if not found:
            raise _malformed(f"The form has no part named {FIELD!r}")


def _malformed(what: str) -> VidqueueError:
    return VidqueueError("invalid_request", f"The form cannot be read. {what}.")
