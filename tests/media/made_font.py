"""Fonts of our own: the glyphs of DejaVu Sans under other names and for other characters."""

from __future__ import annotations

import struct
from pathlib import Path

import vidqueue.media

DEJAVU = Path(vidqueue.media.__file__).parent / "fonts" / "DejaVuSans.ttf"
# The glyphs of a sans-serif A and B in that file.
GLYPHS = {"A": 36, "B": 37}


def write_font(path: Path, family: str, characters: dict[str, str], *, in_collection: bool = False) -> Path:
    """Write a font of this family which draws each of `characters` like the letter that it is mapped to."""
    data = DEJAVU.read_bytes()
    count = struct.unpack_from(">H", data, 4)[0]
    tables = {}
    for number in range(count):
        tag, _, begin, length = struct.unpack_from(">4sIII", data, 12 + 16 * number)
        tables[tag] = data[begin : begin + length]
    tables[b"cmap"], tables[b"name"] = _cmap(characters), _name(family)
    head = struct.pack(">4sHHII", b"ttcf", 1, 0, 1, 16) if in_collection else b""
    begin = len(head) + 12 + 16 * count
    directory, body = data[:12], b""
    for tag, table in sorted(tables.items()):
        directory += struct.pack(">4sIII", tag, 0, begin + len(body), len(table))
        body += table + b"\0" * (-len(table) % 4)
    path.write_bytes(head + directory + body)
    return path


def _cmap(characters: dict[str, str]) -> bytes:
    groups = [struct.pack(">III", ord(one), ord(one), GLYPHS[like]) for one, like in sorted(characters.items())]
    part = struct.pack(">HHIII", 12, 0, 16 + 12 * len(groups), 0, len(groups)) + b"".join(groups)
    return struct.pack(">HHHHI", 0, 1, 3, 10, 12) + part


def _name(family: str) -> bytes:
    text = family.encode("utf-16-be")
    records = b"".join(struct.pack(">6H", 3, 1, 0x409, kind, len(text), 0) for kind in (1, 4, 6))
    return struct.pack(">HHH", 0, 3, 6 + len(records)) + records + text
