"""Fonts for text in films: reads family and widths of TrueType and OpenType files, and chooses a font per character."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import re
import string
import struct
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from vidqueue.errors import VidqueueError

_PACKAGED = Path(__file__).parents[1] / "fonts" / "DejaVuSans.ttf"
_MOST_BYTES = 64 * 1024 * 1024
_MICROSOFT, _ENGLISH, _FAMILY = 3, 0x409, 1
# What fontTools raises, besides an error of its own, for what is no font.
_FAULTS = (AssertionError, AttributeError, LookupError, TypeError, ValueError, struct.error)
# What ASS would take for the end of a name.
_NAME = re.compile(r"[^,{}\\@\x00-\x1f][^,{}\\\x00-\x1f]{0,99}")
# Of how many missing characters a warning tells.
_MOST_TOLD = 20
# ASS writes a file in groups of six bits, as base64 does, with the characters from `!` on.
_BASE64 = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
_ASS = bytes.maketrans(_BASE64.encode(), bytes(range(33, 33 + 64)))

# It remarks on each table, name and glyph of a font that is odd.
logging.getLogger("fontTools").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Font:
    """A font.

    Attributes:
        family: its name.
        digest: sha256 of its file.
        widths: the width of each character that it has, as a share of the height of a line.
        encoded: its file in the writing of ASS.
    """

    family: str
    digest: str
    widths: Mapping[int, float] = field(repr=False, compare=False, hash=False)
    encoded: str = field(repr=False, compare=False)


def packaged() -> Font:
    """The font that comes with vidqueue."""
    return read_font(_PACKAGED)


def fonts_of(path: Path | None) -> tuple[Font, ...]:
    """The font of a file, and the packaged one for characters that it lacks.

    Raises:
        VidqueueError: `processor_unavailable`, the file is no font.
    """
    return (packaged(),) if path is None else (read_font(path), packaged())


def read_font(path: Path) -> Font:
    """Read a font, or the first of a collection.

    Raises:
        VidqueueError: `processor_unavailable`, the file cannot be read or is no font.
    """
    try:
        status = path.stat()
        return _read(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        why = error.strerror or str(error)
    except ValueError as error:
        why = f"it is not a TrueType or OpenType font: {error}"
    raise VidqueueError(
        "processor_unavailable", f"The font {path} cannot be used: {why}.", hint="Correct compose.font_file."
    )


def runs(text: str, fonts: Sequence[Font]) -> Iterator[tuple[Font, str]]:
    """The text in parts, each with the first font that has its characters."""
    begin, font = 0, fonts[0]
    for place, character in enumerate(text):
        if unicodedata.combining(character) or _is_nothing(character):
            continue
        if character.isspace() and ord(character) in font.widths:
            continue
        fitting = next((one for one in fonts if ord(character) in one.widths), font)
        if fitting is not font:
            if place > begin:
                yield font, text[begin:place]
            begin, font = place, fitting
    if begin < len(text):
        yield font, text[begin:]


def missing(text: str, fonts: Sequence[Font]) -> list[str]:
    """The characters that no font has, each once, in the order of the text."""
    wanted = dict.fromkeys(unicodedata.normalize("NFC", text))
    return [
        character
        for character in wanted
        if not character.isspace()
        and not _is_nothing(character)
        and not any(ord(character) in font.widths for font in fonts)
    ]


def about_missing(characters: Sequence[str]) -> str:
    """Return a warning about characters that cannot be drawn."""
    more = f" and {len(characters) - _MOST_TOLD} more" if len(characters) > _MOST_TOLD else ""
    told = " ".join(characters[:_MOST_TOLD])
    return f"The font lacks characters, which are drawn as boxes: {told}{more}."


def _is_nothing(character: str) -> bool:
    """True for characters that are not drawn and only say something about others."""
    return (
        unicodedata.category(character) in ("Cc", "Cf")
        or 0xFE00 <= ord(character) <= 0xFE0F
        or ord(character) >= 0xE0000
    )


@lru_cache(maxsize=4)
def _read(path: Path, _changed_ns: int, size: int) -> Font:
    # Not at the top: the daemon and every executor import this module, and few of them read a font.
    from fontTools.ttLib import TTFont, TTLibError

    if size > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES >> 20} MiB")
    data = path.read_bytes()
    try:
        with TTFont(io.BytesIO(data), fontNumber=0, lazy=True) as font:
            family, widths = _family(font), _widths(font)
    except (TTLibError, *_FAULTS) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    return Font(family, hashlib.sha256(data).hexdigest(), widths, _encoded(data))


def _widths(font: Any) -> dict[int, float]:
    glyphs = font.getBestCmap()
    if glyphs is None:
        raise ValueError("it has no characters of Unicode")
    height = max(1, font["hhea"].ascent - font["hhea"].descent)
    nothing, advances = font.getGlyphOrder()[0], font["hmtx"]
    return {character: advances[glyph][0] / height for character, glyph in glyphs.items() if glyph != nothing}


def _family(font: Any) -> str:
    """The name of the family, by which libass finds a font: Microsoft's if there is one.

    Raises:
        ValueError: it has none that ASS could say.
    """
    found = {
        (name.platformID == _MICROSOFT, name.langID == _ENGLISH): str(name.toUnicode(errors="replace"))
        for name in font["name"].names
        if name.nameID == _FAMILY
    }
    if not found or not _NAME.fullmatch(best := found[max(found)]):
        raise ValueError("its family has no usable name")
    return best


def _encoded(data: bytes) -> str:
    """The bytes as ASS writes them, in lines of eighty characters."""
    text = base64.b64encode(data).rstrip(b"=").translate(_ASS).decode("ascii")
    return "\n".join(text[place : place + 80] for place in range(0, len(text), 80))
