"""Assembling the lines of ffmpeg's standard error from the single writes that ffmpeg makes. No IO.

A file decides part of what ffmpeg prints: a language tag that contains a newline looks like a line of ffmpeg's own.
ffmpeg writes each part of a line by itself, though: first the context and the level, then every word with its
punctuation. So a line is only taken to begin where a write begins, and readers compare whole parts. The pipe keeps
writes apart (see `sandbox`).
"""

from __future__ import annotations

import re
import select
from dataclasses import dataclass, field

# A pipe in packet mode splits a longer write at this many bytes.
_PACKET = select.PIPE_BUF
_MOST_PARTS = 64
_MOST_CHARACTERS = 2000

_CONTEXT = re.compile(r"\[[^\[\]\n]{1,200} @ 0x[0-9a-f]{1,16}\] ")
_LEVEL = re.compile(r"\[(quiet|panic|fatal|error|warning|info|verbose|debug|trace)\] ")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

COMPLAINTS = frozenset({"panic", "fatal", "error", "warning"})


@dataclass(frozen=True, slots=True)
class Line:
    """One line of standard error.

    Attributes:
        contexts: which parts of ffmpeg speak, such as `in#0/mov @ 0x55d0`.
        level: `error`, `info` and so on; empty where ffmpeg was not asked to print levels, or did not write the line.
        parts: the rest of the line as it was written, one item for each write; the newline at the end is left out.
    """

    contexts: tuple[str, ...]
    level: str
    parts: tuple[str, ...]

    @property
    def body(self) -> str:
        """The message, on one line and without control characters."""
        return _CONTROL.sub(" ", "".join(self.parts)).rstrip()[:_MOST_CHARACTERS]

    @property
    def text(self) -> str:
        """The whole line as a person reads it."""
        level = f"[{self.level}] " if self.level else ""
        return "".join(f"[{context}] " for context in self.contexts) + level + self.body

    @classmethod
    def of(cls, *parts: str) -> Line:
        """Divide the parts of a line into contexts, level and message."""
        contexts, level, start = [], "", 0
        while start < len(parts) and _CONTEXT.fullmatch(parts[start]):
            contexts.append(parts[start][1:-2])
            start += 1
        if start < len(parts) and (found := _LEVEL.fullmatch(parts[start])):
            level, start = found[1], start + 1
        message = list(parts[start:])
        if message:
            message[-1] = message[-1].rstrip("\r\n")
        return cls(tuple(contexts), level, tuple(filter(None, message)))


@dataclass(slots=True)
class LineReader:
    """Takes writes one by one and gives lines. What it keeps of a line is bounded, whatever is written."""

    _parts: list[str] = field(default_factory=list)
    _continues: bool = False

    def feed(self, written: bytes) -> Line | None:
        """Take what one read of the pipe returned; the line, if it ends here."""
        text = written[:_PACKET].decode("utf-8", "replace")
        if self._continues and self._parts:
            self._parts[-1] = (self._parts[-1] + text)[:_MOST_CHARACTERS]
        elif len(self._parts) < _MOST_PARTS:
            self._parts.append(text[:_MOST_CHARACTERS])
        self._continues = len(written) >= _PACKET
        ended = written.endswith((b"\n", b"\r")) and not self._continues
        return self.rest() if ended else None

    def rest(self) -> Line | None:
        """What has come of a line so far, if anything; the next write begins another one."""
        parts, self._parts, self._continues = self._parts, [], False
        return Line.of(*parts) if parts else None
