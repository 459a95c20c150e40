"""Reads the structure of fragmented MP4 files that vidqueue wrote: range and length of each fragment, and the codec.

An HLS playlist can name a range of bytes as a segment, so one file a rendition is enough, whatever its length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_LARGEST_HEAD = 1024 * 1024
_BEGINS = (b"styp", b"sidx", b"moof")


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part of the file that can be decoded by itself: its bytes, and its length in seconds."""

    offset: int
    size: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class Fragmented:
    """A fragmented file: size of the head that all fragments need, the fragments, and the codec by RFC 6381."""

    head: int
    fragments: tuple[Fragment, ...]
    codec: str

    @property
    def duration_s(self) -> float:
        """All fragments together."""
        return sum(one.duration_s for one in self.fragments)

    @property
    def peak_rate(self) -> int:
        """Bits a second of the largest fragment."""
        return max((round(one.size * 8 / one.duration_s) for one in self.fragments if one.duration_s > 0), default=0)

    @property
    def mean_rate(self) -> int:
        """Bits a second of the whole."""
        return round(sum(one.size for one in self.fragments) * 8 / max(self.duration_s, 0.001))


def read_fragments(path: Path) -> Fragmented:
    """Read the structure of a file that ffmpeg wrote with `-movflags dash`.

    Raises:
        ValueError: it has another structure.
    """
    try:
        return _read(path)
    except struct.error as error:
        raise ValueError(f"a box is too short: {error}") from None


def _read(path: Path) -> Fragmented:
    with path.open("rb") as file:
        head, codec = 0, ""
        fragments: list[Fragment] = []
        begun, duration_s = None, 0.0
        for kind, offset, size in _boxes(file, path.stat().st_size):
            if kind in _BEGINS and begun is None:
                begun, head = offset, head or offset
            if kind == b"moov":
                codec = _codec(_content(file, offset, size))
            elif kind == b"sidx":
                duration_s = _duration_s(_content(file, offset, size))
            elif kind == b"mdat" and begun is not None:
                fragments.append(Fragment(begun, offset + size - begun, duration_s))
                begun, duration_s = None, 0.0
    if not fragments or not codec:
        raise ValueError("the file has no fragments")
    return Fragmented(head, tuple(fragments), codec)


def _boxes(file: BinaryIO, length: int) -> Iterator[tuple[bytes, int, int]]:
    offset = 0
    while offset + 8 <= length:
        file.seek(offset)
        size, kind = struct.unpack(">I4s", file.read(8))
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
        if size < 8 or offset + size > length:
            raise ValueError("a box ends after the file")
        yield kind, offset, size
        offset += size


def _content(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset + 8)
    return file.read(min(size - 8, _LARGEST_HEAD))


def _duration_s(index: bytes) -> float:
    """The length that a `sidx` box tells of its first reference."""
    (timescale,) = struct.unpack_from(">I", index, 8)
    # Version 0 has two times of 32 bits before the count of references, version 1 of 64.
    base = 24 if index[0] == 0 else 32
    (count,) = struct.unpack_from(">H", index, base - 2)
    total = sum(struct.unpack_from(">I", index, base + number * 12 + 4)[0] for number in range(count))
    return float(total / timescale)


def _codec(moov: bytes) -> str:
    if (at := moov.find(b"avcC")) >= 0:
        return "avc1." + moov[at + 5 : at + 8].hex()
    return "mp4a.40.2" if b"mp4a" in moov else ""
