"""Reading the tags of a media file (title, artist, language) in the jail, and choosing those that are safe to keep.

ffmpeg writes them as `ffmetadata`, which escapes line ends and equal signs, so that a tag cannot pretend to be another.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

from vidqueue.media.arguments import QUIET, input_arguments
from vidqueue.media.faults import raise_if_failed
from vidqueue.media.jail import sandbox
from vidqueue.media.source import Source

# What says what a recording is. Places, devices, comments and the names of programs are left out.
SAFE = ("title", "artist", "album", "album_artist", "composer", "genre", "date", "track", "disc", "language")
_MOST_BYTES = 256 * 1024
_LONGEST = 500
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_LANGUAGE = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of a file, and those of each of its audio streams in the order of the file; keys in small letters."""

    file: dict[str, str]
    audios: tuple[dict[str, str], ...] = ()

    def language(self, audio: int) -> str:
        """The language of an audio stream, such as `eng`; empty where the file does not say."""
        told = self.audios[audio].get("language", "").lower() if audio < len(self.audios) else ""
        return told if _LANGUAGE.fullmatch(told) and told != "und" else ""


def read_tags(source: Source, bounds: sandbox.SandboxLimits) -> Tags:
    """Read the tags of a file and of its audio streams.

    Raises:
        VidqueueError: the file cannot be read.
        CanceledError: the event of `bounds` was set.
    """
    with source.opened() as file:
        arguments = [
            *QUIET, "-loglevel", "level+error", *input_arguments(file, bounds.limits),
            # `-t 0` ends after the first packet; chapters would be listed between the streams.
            "-map", "0:a?", "-map_chapters", "-1", "-c", "copy", "-t", "0", "-f", "ffmetadata", "pipe:1",
        ]  # fmt: skip
        with sandbox.start(arguments, bounds, keep_open=[file], stdout=subprocess.PIPE) as running:
            text = running.stdout.read(_MOST_BYTES).decode("utf-8", "replace")
            if len(text) >= _MOST_BYTES:
                running.kill()
            ended = running.wait()
    if ended.by != "caller" and not text:
        raise_if_failed(ended)
    return parse_tags(text)


def parse_tags(text: str) -> Tags:
    """The tags in a text of the kind `ffmetadata`."""
    sections: list[dict[str, str]] = [{}]
    for line in _lines(text):
        if line == "[STREAM]":
            sections.append({})
        elif "=" in line and not line.startswith(";"):
            key, _, value = line.partition("=")
            sections[-1][_plain(key).lower()] = _plain(value)[:_LONGEST]
    return Tags(sections[0], tuple(sections[1:]))


def kept_arguments(tags: dict[str, str], where: str = "") -> list[str]:
    """The ffmpeg arguments that write the safe ones of these tags; `where` is empty for the file, or `:s:a:0`."""
    kept = ((key, tags[key]) for key in SAFE if tags.get(key))
    return [word for key, value in kept for word in (f"-metadata{where}", f"{key}={value}")]


def _lines(text: str) -> list[str]:
    """The lines; an escaped end of line belongs to its line."""
    lines: list[str] = []
    continues = False
    for line in text.split("\n"):
        if continues:
            lines[-1] += "\n" + line
        else:
            lines.append(line)
        continues = (len(line) - len(line.rstrip("\\"))) % 2 == 1
    return lines


def _plain(text: str) -> str:
    return _ESCAPED.sub(r"\1", text).replace("\0", "")
