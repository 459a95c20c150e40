"""Streaming multipart reader for a form with one file; it collects nothing in memory or on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from vidqueue.errors import VidqueueError

FIELD = "file"
# What clients of Replicate call the file, and what they say beside it, which the file's own headers say as well.
FIELDS, IGNORED = ("file", "content"), ("filename", "type", "metadata")


class FilePart:
    """Reads a form that has exactly one part, the file.

    Attributes:
        name: what the sender calls the file; known once `data` has begun to yield.
        media_type: what the sender says it is.
    """

    def __init__(self, content_type: str) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise _malformed("The Content-Type has no boundary")
        self.name = ""
        self.media_type = ""
        self._found = self._ignoring = False
        self._whole = False
        self._header: list[bytes] = []
        self._value: list[bytes] = []
        self._headers: dict[str, bytes] = {}
        self._pieces: list[bytes] = []
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise _malformed(str(error)) from None

    async def data(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the bytes of the file.

        Raises:
            VidqueueError: `invalid_request` when the form is broken off, malformed, or not one file.
        """
        async for chunk in chunks:
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise _malformed(str(error)) from None
            for piece in self._pieces:
                yield piece
            self._pieces.clear()
        if not self._whole:
            raise _malformed("The form ends before its last boundary")
        if not self._found:
            raise _malformed(f"The form has no part named {FIELD!r}")

    def _on_part_begin(self) -> None:
        self._ignoring = False
        self._headers.clear()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header.append(data[start:end])

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value.append(data[start:end])

    def _on_header_end(self) -> None:
        self._headers[b"".join(self._header).decode("latin-1").lower()] = b"".join(self._value)
        self._header.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b"").decode("latin-1"))
        field = options.get(b"name", b"").decode("utf-8", "replace")
        self._ignoring = field in IGNORED
        if self._ignoring:
            return
        if self._found or field not in FIELDS:
            raise _malformed(f"The form must have one part, named {FIELD!r}")
        self._found = True
        self.name = options.get(b"filename", b"").decode("utf-8", "replace")
        self.media_type = self._headers.get("content-type", b"").decode("latin-1")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if not self._ignoring:
            self._pieces.append(data[start:end])

    def _on_end(self) -> None:
        self._whole = True


def _malformed(what: str) -> VidqueueError:
    return VidqueueError("invalid_request", f"The form cannot be read. {what}.")
