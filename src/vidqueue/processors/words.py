"""The words of a command that a processor gives: checked, and made texts. No IO."""

from __future__ import annotations

import os
from collections.abc import Sequence

# A list of texts and paths is a list of `object` to a type checker, so the elements are checked when they are used.
Words = Sequence[object]


def texts_of(words: Words) -> list[str]:
    """The words of a command as texts.

    Raises:
        TypeError: it is no list, or one of its elements is not a text, a path or a number.
    """
    if isinstance(words, str | bytes | os.PathLike):
        raise TypeError(f'a command is a list of words, such as ["-i", path], and not the text {str(words)[:80]!r}')
    return [_text_of(number, word) for number, word in enumerate(words)]


def _text_of(number: int, word: object) -> str:
    if isinstance(word, str | bytes | os.PathLike):
        return os.fsdecode(word)
    if isinstance(word, int | float) and not isinstance(word, bool):
        return str(word)
    said = f"{str(word)[:80]} ({type(word).__name__})"
    raise TypeError(f"element {number} of a command is {said}, which is not a text, a path or a number")
