"""Planning what a result takes over beside pictures and sound: subtitles, chapters, attached files, tags. No IO."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from vidqueue.formats import SUBTITLE_CODECS
from vidqueue.media.containers import Container, ContainerName, Extras
from vidqueue.media.facts import MediaFacts, SubtitleFacts
from vidqueue.media.tags import SAFE, Tags, descriptive, kept_arguments

SubtitleMode = Literal["keep", "drop", "burn"]
MetadataMode = Literal["safe", "none", "all"]

_COPIED: dict[ContainerName, frozenset[str]] = {
    "mp4": frozenset({"mov_text"}),
    "mov": frozenset({"mov_text"}),
    "mkv": frozenset({"subrip", "ass", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle"}),
    "webm": frozenset({"webvtt"}),
}
_ENCODERS: dict[ContainerName, str] = {"mp4": "mov_text", "mov": "mov_text", "mkv": "subrip", "webm": "webvtt"}
# Limits, because each track or attachment adds arguments to the command of ffmpeg.
MOST_SUBTITLES = 100
_MOST_ATTACHMENTS = 200
# What is shown at the beginning of a part began before it. Blu-ray and DVB say in another packet that it goes, so
# all that came before may be shown at once, and the last of it stays. DVD says with each how long it stays.
_FROM_THE_BEGINNING = "setts=pts='max(PTS,0)':dts='max(DTS,0)'"
_REPLACED_BY_THE_NEXT = frozenset({"hdmv_pgs_subtitle", "dvb_subtitle"})
_TIMECODE = re.compile(r"\d\d:\d\d:\d\d[:;.]\d\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class Keeping:
    """What the result shall keep.

    Attributes:
        trimmed: whether the beginning of the source is cut off.
        exact: whether the result begins exactly there, and not with the key picture before.
        drawn: index of the subtitle track that is drawn into the pictures.
        inputs: subtitle tracks by index that come, as ASS, from an input of their own, with the number of that.
    """

    subtitles: SubtitleMode = "keep"
    metadata: MetadataMode = "safe"
    trimmed: bool = False
    exact: bool = True
    drawn: int | None = None
    inputs: Mapping[int, int] = field(default_factory=dict)


def plan_extras(
    facts: MediaFacts, tags: Tags, container: Container, wanted: Keeping, *, input_number: int = 0
) -> Extras:
    """Map subtitles, chapters, attached files and tags of an input into the container.

    Args:
        facts: of the source; its `audios` are those that the result has, in this order.
        tags: of the source.
        container: what is written.
        wanted: what to keep.
        input_number: the place of the source among the inputs of the run.
    """
    kept, warnings = _subtitles(facts, container, wanted)
    arguments = [
        word
        for place, one in enumerate(kept)
        for word in (
            _cut_subtitle(place, one, container, wanted.inputs[one.index])
            if one.index in wanted.inputs
            else _subtitle(place, one, container, input_number, begins=wanted.trimmed and wanted.exact)
        )
    ]
    arguments += ["-map_chapters", str(input_number)]
    if container.name == "mkv" and 0 < facts.attachments <= _MOST_ATTACHMENTS and wanted.metadata != "none":
        arguments += _attachments(facts.attachments, input_number)
    elif facts.attachments:
        warnings.append(_counted(facts.attachments, "attached file", "left out"))
    warnings += never_kept(facts)
    arguments += _metadata(facts, tags, kept, wanted, input_number)
    if wanted.metadata == "safe" and (lost := descriptive(tags.file)):
        warnings.append(f"Metadata is left out: {', '.join(lost)}; `metadata: all` keeps it.")
    if wanted.trimmed and wanted.metadata == "safe" and _told_timecode(facts, tags):
        warnings.append("The timecode is left out, because the result begins elsewhere.")
    flags = "+use_metadata_tags" if wanted.metadata == "all" else ""
    return Extras(tuple(arguments), flags, tuple(warnings), len(kept))


def never_kept(facts: MediaFacts) -> list[str]:
    """A sentence for each kind of track that no result has."""
    kinds = (
        (facts.other_videos, "other video track"), (facts.covers, "cover picture"), (facts.data_tracks, "data track")
    )  # fmt: skip
    return [_counted(count, what, "left out") for count, what in kinds if count]


def lost_in_animations(facts: MediaFacts, tags: Tags, metadata: MetadataMode) -> list[str]:
    """A sentence for each thing beside pictures, sound and subtitles that GIF and animated WebP do not hold."""
    said = [_counted(facts.attachments, "attached file", "left out")] if facts.attachments else []
    said += never_kept(facts)
    names = [*(name for name in SAFE if tags.file.get(name)), *descriptive(tags.file)] if metadata != "none" else []
    if names:
        said.append(f"Metadata is left out: {', '.join(sorted(names))}.")
    if metadata != "none" and _told_timecode(facts, tags):
        said.append("The timecode is left out.")
    if facts.video and facts.video.projection:
        said.append(f"The 360 degree projection ({facts.video.projection}) is left out.")
    return said


def _subtitles(facts: MediaFacts, container: Container, wanted: Keeping) -> tuple[list[SubtitleFacts], list[str]]:
    if wanted.subtitles == "drop":
        return [], []
    kept: list[SubtitleFacts] = []
    warnings = []
    for place, one in enumerate(facts.subtitle_tracks, start=1):
        if len(kept) == MOST_SUBTITLES:
            warnings.append(f"Only the first {MOST_SUBTITLES} subtitle tracks are kept.")
            break
        if one.index == wanted.drawn:
            continue
        if one.codec in _COPIED[container.name] or one.codec in SUBTITLE_CODECS:
            kept.append(one)
        else:
            warnings.append(
                f"Subtitle track {place} ({one.codec or 'unknown'}) is left out: {container.name} cannot hold it."
            )
    return kept, warnings


def _subtitle(
    place: int, one: SubtitleFacts, container: Container, input_number: int, *, begins: bool
) -> list[str]:  # fmt: skip
    copied = one.codec in _COPIED[container.name]
    # ffmpeg marks the first of several tracks as the one to show, if the file marks none.
    marks = [] if one.default else [f"-disposition:s:{place}", "-default"]
    language = [f"-metadata:s:s:{place}", f"language={one.language}"] if one.language else []
    codec = "copy" if copied else _ENCODERS[container.name]
    part = []
    if begins and one.codec in _REPLACED_BY_THE_NEXT:
        part = [f"-bsf:s:{place}", _FROM_THE_BEGINNING]
    elif begins:
        part = [f"-copypriorss:s:{place}", "0"]
    return ["-map", f"{input_number}:{one.index}", f"-c:s:{place}", codec, *marks, *language, *part]


def _cut_subtitle(place: int, one: SubtitleFacts, container: Container, input_number: int) -> list[str]:
    marks = [name for name, marked in (("default", one.default), ("forced", one.forced)) if marked]
    language = [f"-metadata:s:s:{place}", f"language={one.language}"] if one.language else []
    codec = "copy" if one.codec == "ass" and "ass" in _COPIED[container.name] else _ENCODERS[container.name]
    if one.codec == "webvtt" and "webvtt" in _COPIED[container.name]:
        codec = "webvtt"
    return [
        "-map", f"{input_number}:0", f"-c:s:{place}", codec, f"-disposition:s:{place}", "+".join(marks) or "0",
        *language,
    ]  # fmt: skip


def _attachments(count: int, input_number: int) -> list[str]:
    # Names and types of the files are tags, without which they are of no use.
    tags = [(f"-map_metadata:s:t:{place}", f"{input_number}:s:t:{place}") for place in range(count)]
    return ["-map", f"{input_number}:t", "-c:t", "copy", *(word for pair in tags for word in pair)]


def _metadata(
    facts: MediaFacts, tags: Tags, subtitles: Iterable[SubtitleFacts], wanted: Keeping, input_number: int
) -> list[str]:
    if wanted.metadata == "all":
        return ["-map_metadata:g", f"{input_number}:g"]
    # Named apart, so that the titles of chapters stay.
    nothing = ["-map_metadata:g", "-1", "-map_metadata:s", "-1"]
    if wanted.metadata == "none":
        return nothing
    return [*nothing, *kept_arguments(tags.file), *_titles(facts, tags, subtitles), *_timecode(facts, tags, wanted)]


def _titles(facts: MediaFacts, tags: Tags, subtitles: Iterable[SubtitleFacts]) -> Iterable[str]:
    for kind, indices in (("a", [one.index for one in facts.audios]), ("s", [one.index for one in subtitles])):
        for place, index in enumerate(indices):
            if title := tags.title(index):
                yield from (f"-metadata:s:{kind}:{place}", f"title={title}")


def _timecode(facts: MediaFacts, tags: Tags, wanted: Keeping) -> list[str]:
    # The time of the first picture is another one after a trim.
    told = "" if wanted.trimmed else _told_timecode(facts, tags)
    return ["-metadata:s:v:0", f"timecode={told}"] if told else []


def _told_timecode(facts: MediaFacts, tags: Tags) -> str:
    """The timecode of the first picture; empty where the file does not say any. MXF and Matroska say it of the file."""
    told = (tags.of(facts.video.index).get("timecode") if facts.video else "") or tags.file.get("timecode", "")
    return told if _TIMECODE.fullmatch(told) else ""


def _counted(count: int, what: str, fate: str) -> str:
    return f"{count} {what}{'s are' if count > 1 else ' is'} {fate}."
