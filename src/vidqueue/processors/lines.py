"""Splits what a program or a processor prints into lines, and reads the progress bars among them. No IO."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

from vidqueue.progress import Progress

# A line that never ends is cut.
LONGEST = 4000

_END = re.compile(r"\r\n|\r|\n")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]{0,20}[A-Za-z]")
# A bar of tqdm or pip: `frames:  40%|####      | 4/10 [00:01<...]`; else a line that is little more than a percentage.
_BAR = re.compile(r"(?:([^|%\r\n]{1,64}?): {0,4})? {0,4}(\d{1,3}(?:\.\d{1,6})?) ?%\|")
_PERCENT = re.compile(r"\W{0,4}(?:([A-Za-z][\w -]{0,40}?)[: ]{0,3})?[\[( ]{0,4}(\d{1,3}(?:\.\d{1,6})?) ?%[\]) .]{0,6}")


@dataclass(frozen=True, slots=True)
class PrintedLine:
    """One line. `redrawn` says that it ended with a carriage return, as a progress bar does that is drawn again."""

    text: str
    redrawn: bool = False


class LineSplitter:
    """Collects blocks of bytes or text and gives whole lines."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def feed(self, block: bytes | str) -> Iterator[PrintedLine]:
        """Yield the lines that this block completes."""
        text = self._held + (block if isinstance(block, str) else self._decoder.decode(block))
        start = 0
        for end in _END.finditer(text):
            yield _printed(text[start : end.start()], redrawn=end[0] == "\r")
            start = end.end()
        self._held = text[start:]
        if len(self._held) > LONGEST:
            yield from self.rest()

    def rest(self) -> Iterator[PrintedLine]:
        """Yield what is left without an end of line."""
        held, self._held = self._held, ""
        if held:
            yield _printed(held, redrawn=False)


def bar_of(text: str) -> Progress | None:
    """The progress that a line shows, if it is a progress bar or no more than a percentage.

    What stands before the percentage is the stage.
    """
    text = text[:200]
    found = _BAR.match(text) or _PERCENT.fullmatch(text)
    if found is None or float(found[2]) > 100:
        return None
    return Progress(float(found[2]) / 100, (found[1] or "").strip())


def _printed(line: str, *, redrawn: bool) -> PrintedLine:
    return PrintedLine(_ESCAPES.sub("", line[: 2 * LONGEST])[:LONGEST].rstrip(), redrawn)
