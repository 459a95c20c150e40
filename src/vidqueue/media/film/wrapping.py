"""Wraps lines of text without spaces: Chinese and Japanese, and very long words.

The filter that draws text breaks lines at spaces alone, and lets what is longer run out of the picture. No IO.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from vidqueue.media.film.fonts import Font

# Of a character that no font has: the box is about as wide.
_UNKNOWN = 0.6


def wrapped(text: str, room: float, fonts: Sequence[Font]) -> str:
    """The text with more line breaks where a part without spaces is too long.

    Args:
        text: with the line breaks that it has.
        room: how long a line may be, in heights of a line.
        fonts: each character is drawn with the first one that has it.
    """
    return "\n".join(_wrapped(line, room, fonts) for line in text.split("\n"))


def _wrapped(line: str, room: float, fonts: Sequence[Font]) -> str:
    if all(_width(word, fonts) <= room for word in line.split(" ")):
        return line
    lines, now, used = [], "", 0.0
    for part in _parts(line, room, fonts):
        width = _width(part.rstrip(" "), fonts)
        if now and used + width > room:
            lines.append(now.rstrip(" "))
            now, used = "", 0.0
        now += part
        used += _width(part, fonts)
    return "\n".join([*lines, now])


def _parts(line: str, room: float, fonts: Sequence[Font]) -> Iterator[str]:
    """The smallest parts of a line between which it may be broken."""
    part, width = "", 0.0
    for character in line:
        more = _width(character, fonts)
        joins = bool(unicodedata.combining(character)) or not more
        if part and not joins and (_may_break(part[-1], character) or width + more > room):
            yield part
            part, width = "", 0.0
        part += character
        width += more
    if part:
        yield part


def _may_break(before: str, after: str) -> bool:
    """True if a line may end between these characters."""
    if (
        after == " "
        or unicodedata.category(after) in ("Pe", "Pf", "Po")
        or unicodedata.category(before) in ("Ps", "Pi")
    ):
        return False
    return before == " " or _is_wide(before) or _is_wide(after)


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def columns(text: str) -> int:
    """How much room a text takes on the screen, in letters; those of Chinese and Japanese take two."""
    return sum(2 if _is_wide(character) else 1 for character in text)


def _width(text: str, fonts: Sequence[Font]) -> float:
    return sum(_one_width(character, fonts) for character in text)


def _one_width(character: str, fonts: Sequence[Font]) -> float:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cc", "Cf"):
        return 0.0
    return next((font.widths[ord(character)] for font in fonts if ord(character) in font.widths), _UNKNOWN)
