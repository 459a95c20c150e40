"""Reading the tags of a media file (title, artist, language) in the jail, and choosing those that are safe to keep.

ffmpeg writes them as `ffmetadata`, which escapes line ends and equal signs, so that a tag cannot pretend to be another.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field

from vidqueue.media.arguments import QUIET, input_arguments
from vidqueue.media.faults import raise_if_failed
from vidqueue.media.jail import sandbox
from vidqueue.media.source import Source

# What says what a recording is. Places, devices, comments and the names of programs are left out.
SAFE = (
    "title",
    "artist",
    "album",
    "album_artist",
    "composer",
    "genre",
    "date",
    "track",
    "disc",
    "language",
    "creation_time",
)
_TECHNICAL = re.compile(
    r"^(?:major_brand|minor_version|compatible_brands|encod|handler_name|vendor_id|duration|bps|number_of_|_statistics"
    r"|timecode|writing|service_|iso6709$|software$"
    # Of MXF: the program and the build that wrote it, and identifiers without a meaning outside the file.
    r"|application_platform$|company_name$|product_|toolkit_|generation_uid$|uid$|operational_pattern_ul$|\w*package_umid$)"
)
_WORD = re.compile(r"[^\w.-]", re.ASCII)
_LANGUAGE_SUFFIX = re.compile(r"-[a-z]{3}$")
_MOST_NAMES = 10
_MOST_BYTES = 256 * 1024
_LONGEST = 500
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_LANGUAGE = re.compile(r"[a-z]{2,3}")


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of a file, and those of its streams by the index of the stream; keys in small letters."""

    file: dict[str, str]
    streams: dict[int, dict[str, str]] = field(default_factory=dict)

    def of(self, stream: int) -> dict[str, str]:
        """The tags of a stream."""
        return self.streams.get(stream, {})

    def title(self, stream: int) -> str:
        """The name of a stream, such as `Commentary`; MP4 and MOV have another word for it."""
        own = self.of(stream)
        return own.get("title") or own.get("name") or ""

    def language(self, stream: int) -> str:
        """The language of a stream, such as `eng`; empty where the file does not say."""
        told = self.of(stream).get("language", "").lower()
        return told if _LANGUAGE.fullmatch(told) and told != "und" else ""


def read_tags(source: Source, streams: Sequence[int], bounds: sandbox.SandboxLimits) -> Tags:
    """Read the tags of a file and of some of its streams, at least one.

    Raises:
        VidqueueError: the file cannot be read.
        CanceledError: the event of `bounds` was set.
    """
    maps = [word for index in streams for word in ("-map", f"0:{index}")]
    with source.opened() as file:
        arguments = [
            *QUIET, "-loglevel", "level+error", *input_arguments(file, bounds.limits),
            # `-t 0` ends after the first packet; chapters would be listed between the streams. Unless it is told to map
            # the metadata, ffmpeg leaves the time of recording out.
            *maps, "-map_metadata:g", "0:g", "-map_chapters", "-1", "-c", "copy", "-t", "0",
            "-f", "ffmetadata", "pipe:1",
        ]  # fmt: skip
        with sandbox.start(arguments, bounds, keep_open=[file], stdout=subprocess.PIPE) as running:
            text = running.stdout.read(_MOST_BYTES).decode("utf-8", "replace")
            if len(text) >= _MOST_BYTES:
                running.kill()
            ended = running.wait()
    if ended.by != "caller" and not text:
        raise_if_failed(ended)
    return parse_tags(text, streams)


def parse_tags(text: str, streams: Sequence[int]) -> Tags:
    """The tags in a text of the kind `ffmetadata`, whose streams have these indices in the file."""
    sections: list[dict[str, str]] = [{}]
    for line in _lines(text):
        if line == "[STREAM]":
            sections.append({})
        elif "=" in line and not line.startswith(";"):
            key, _, value = line.partition("=")
            sections[-1][_plain(key).lower()] = _plain(value)[:_LONGEST]
    for section in sections:
        # MP4 may tell it twice, and ffmpeg joins what it is told twice.
        if "creation_time" in section:
            section["creation_time"] = section["creation_time"].split(";")[0]
    return Tags(sections[0], dict(zip(streams, sections[1:], strict=False)))


def descriptive(tags: dict[str, str]) -> list[str]:
    """The names of tags that `kept_arguments` leaves out, except those by which programs describe the file itself."""
    names = (name for name, value in tags.items() if value and name not in SAFE and not _TECHNICAL.search(name))
    # MP4 has some of them in several languages.
    return sorted({_WORD.sub("?", _LANGUAGE_SUFFIX.sub("", name))[:60] for name in names})[:_MOST_NAMES]


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
