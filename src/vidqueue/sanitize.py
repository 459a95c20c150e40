"""Makes reported values storable. PostgreSQL's text and jsonb hold no NUL, no lone surrogate, no NaN. No IO.

A processor may report anything. What it reports must not decide whether the outcome of its work can be written.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from operator import methodcaller
from typing import Any

# Of one report. Facts are read with every list of jobs, so they are no place for bulk data.
MOST_VALUES = 20_000
MOST_CHARACTERS = 256 * 1024
DEEPEST = 20
# jsonb has exact numbers of any size; readers in other languages do not.
LARGEST_NUMBER = 1e30
CUT = "…"

# Characters that reorder the text around them (Unicode UAX 9), and those that end a line without being control codes.
_REORDERING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_LINE_ENDS = "\u2028\u2029"
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def sanitize_text(text: str) -> str:
    """Return the text with each NUL and each lone surrogate replaced by U+FFFD."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def is_storable(text: str) -> bool:
    """True if `sanitize_text` leaves a text as it is; names of files that are not UTF-8 are no such text."""
    return _UNSTORABLE.search(text) is None


def visible(text: str) -> str:
    """The text with every character that controls a terminal written as an escape, on one line.

    That is: control codes (C0, DEL, C1; line ends too), bidirectional controls, and halves of surrogate pairs, which
    cannot be encoded. A tab becomes a space.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible, text))


def visible_json(document: str) -> str:
    """A JSON document without line ends whose characters that control a terminal are written as JSON's escapes.

    It says the same. JSON itself escapes C0 only; C1, DEL, bidirectional controls and Unicode's line ends remain.
    """
    if document.isascii() and document.isprintable():
        return document
    return "".join(f"\\u{ord(one):04x}" if _is_harmful(one) else one for one in document)


def _visible(character: str) -> str:
    if character == "\t":
        return " "
    return character.encode("unicode_escape").decode("ascii") if _is_harmful(character) else character


def _is_harmful(character: str) -> bool:
    return character in _REORDERING or character in _LINE_ENDS or unicodedata.category(character) in ("Cc", "Cs")


def sanitize_number(value: Any) -> float | None:
    """Return a finite number of a storable size, also from text such as numpy's scalars become in JSON; else None."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < LARGEST_NUMBER else None  # false for NaN


# A shorter word stands in too many texts by chance.
SHORTEST_SECRET = 4
REDACTED = "**********"


class Redactor:
    """Replaces secrets in texts and nested values. Any thread may use it."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: tuple[str, ...] = ()
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> None:
        """Hide this text, and each line of it, from now on."""
        plain = {one for one in (secret, secret.strip(), *secret.splitlines()) if len(one) >= SHORTEST_SECRET}
        words = {form for one in plain for form in _written_forms(one)}
        # The longest first: one secret may contain another.
        self._secrets = tuple(sorted({*self._secrets, *words}, key=lambda one: (-len(one), one)))

    def text(self, text: str) -> str:
        """The text with every secret in it replaced."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        return text

    def value(self, value: Any, depth: int = DEEPEST) -> Any:
        """The value with every secret in its texts replaced; what is nested deeper than facts may be is dropped."""
        if not self._secrets or depth < 0:
            return value if depth >= 0 else None
        match value:
            case str():
                return self.text(value)
            case Mapping():
                items = _by_others(lambda: list(value.items()), [])
                return {self.value(key, depth): self.value(inner, depth - 1) for key, inner in items}
            case list() | tuple():
                return [self.value(inner, depth - 1) for inner in _by_others(lambda: list(value), [])]
        return value


def _written_forms(text: str) -> set[str]:
    """A text as it stands in messages: as it is, in JSON, and in Python's repr of it or of a longer text."""
    return {text, json.dumps(text)[1:-1], repr(text)[1:-1], text.replace("\\", "\\\\").replace("'", "\\'")}


def _without_library(value: Any) -> Any:
    """A number, an array or a tensor of a library such as numpy or torch as Python's own; anything else as it is."""
    plain = value
    if _by_others(lambda: value.nbytes < MOST_CHARACTERS, False):  # it would be cut anyway
        plain = _by_others(partial(methodcaller("tolist"), value), value)
    return value if type(plain) is type(value) else plain


def _by_others(call: Callable[[], Any], otherwise: Any) -> Any:
    """What a call into the code of a value's type returns, which may be anybody's; `otherwise` if it raises."""
    try:
        return call()
    except Exception:
        return otherwise


@dataclass(slots=True)
class Sanitizer:
    """Rebuilds nested values as storable JSON within one budget of values, characters and depth.

    `lossy` says that text was replaced, or something was cut or left out. A number that is not finite becomes null, as
    JSON has no word for it, and does not count as a loss.
    """

    values_left: int = MOST_VALUES
    characters_left: int = MOST_CHARACTERS
    lossy: bool = False

    def value(self, value: Any, *, depth: int = 0) -> Any:
        """Return the value as JSON; what has no counterpart among JSON's types becomes its text."""
        self.values_left -= 1
        match value:
            case None | bool():
                return value
            case int() | float():
                return self._number(value)
            case Mapping() | list() | tuple() | set() | frozenset():
                return self._nested(value, depth + 1)
        plain = _without_library(value)
        return self._text_of(value) if plain is value else self.value(plain, depth=depth)

    def _nested(self, values: Any, depth: int) -> Any:
        if depth > DEEPEST:
            self.lossy = True
            return CUT
        most, is_mapping = max(0, self.values_left) + 1, isinstance(values, Mapping)
        entries = _by_others(lambda: list(islice(values.items() if is_mapping else values, most)), None)
        if entries is None:
            self.lossy = True
            return CUT
        if is_mapping:
            return {self._text_of(key): self.value(one, depth=depth) for key, one in self._some(entries)}
        return [self.value(one, depth=depth) for one in self._some(entries)]

    def _text_of(self, value: Any) -> str:
        text = _by_others(lambda: str(value), None)
        if text is None:
            self.lossy = True
            return CUT
        return self.text(text)

    def text(self, text: str) -> str:
        """Return the text, cut where the budget of characters ends."""
        if len(text) > self.characters_left:
            self.lossy = True
            text = text[: max(0, self.characters_left)] + CUT
        self.characters_left -= len(text)
        clean = sanitize_text(text)
        self.lossy = self.lossy or clean != text
        return clean

    def _number(self, number: float) -> float | None:
        # The subclasses of others (an enum, numpy's float64) become plain numbers.
        plain = _by_others(lambda: int(number) if isinstance(number, int) else float(number), math.nan)
        return plain if abs(plain) < LARGEST_NUMBER else None

    def _some(self, values: Iterable[Any]) -> Iterable[Any]:
        """Yield the values while the budget lasts."""
        for value in values:
            if self.values_left <= 0 or self.characters_left <= 0:
                self.lossy = True
                return
            yield value
