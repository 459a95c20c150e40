"""Joining the pieces of a film and its sound into one file; the pictures are copied, the sound is encoded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vidqueue.media import ffmpeg
from vidqueue.media.arguments import QUIET, output_arguments
from vidqueue.media.containers import Container, ContainerName, Extras
from vidqueue.media.film.sound_reader import CHANNELS, Sound
from vidqueue.media.film.timeline import SAMPLE_RATE, clock_of
from vidqueue.media.jail.sandbox import SandboxLimits, enlarge
from vidqueue.media.sink import created

# A jailed ffmpeg may open 256 files.
MOST_AT_ONCE = 150
SOUND_KBIT = 192
# x264 with its usual settings writes a picture at most two places before it is shown. A piece of few pictures would
# get less from ffmpeg, and its times would overlap those of the piece before it.
_REORDERED = {"h264": 2}
# Of the subtitles only what is mapped here; a piece has nothing else.
_NOTHING_ELSE = Extras(("-map_metadata", "-1", "-map_chapters", "-1", "-dn"))
_SUBTITLE_CODECS: dict[ContainerName, str] = {"mp4": "mov_text", "mov": "mov_text", "mkv": "srt", "webm": "webvtt"}


@dataclass(frozen=True, slots=True)
class Rendered:
    """A file of pictures, which begins with a key picture, and how many there are."""

    path: Path
    frames: int


@dataclass(frozen=True, slots=True)
class Target:
    """The file to write: container, codec of the pieces, rate, and subtitles as SRT for a track of their own."""

    path: Path
    container: Container
    codec: str
    rate: Fraction
    subtitles: str = ""


def join_pictures(pieces: Sequence[Rendered], target: Target, bounds: SandboxLimits) -> Rendered:
    """Join pieces into a larger piece, because a run cannot open as many files as a long film has.

    Raises:
        VidqueueError: ffmpeg failed.
        CanceledError: the event of `bounds` was set.
    """
    with ExitStack() as opened:
        arguments, keep = _pictures(pieces, target, opened)
        sink = opened.enter_context(created(target.path))
        arguments += [*_copied(target), *output_arguments(sink.writing, target.container, bounds.limits)]
        ffmpeg.run(arguments, bounds, keep_open=[*keep, sink.writing], stdin=sink.reading)
    return Rendered(target.path, sum(piece.frames for piece in pieces))


def join_film(
    pieces: Sequence[Rendered],
    sound: Iterable[Sound],
    target: Target,
    bounds: SandboxLimits,
    *,
    on_progress: ffmpeg.ProgressCallback,
) -> None:
    """Join pieces and sound into the finished film.

    Raises:
        VidqueueError: ffmpeg failed, or the sound cannot be decoded.
        CanceledError: the event of `bounds` was set.
    """
    with ExitStack() as opened:
        arguments, keep = _pictures(pieces, target, opened)
        sink = opened.enter_context(created(target.path))
        reading, writing = os.pipe2(os.O_CLOEXEC)
        feeder = opened.enter_context(ThreadPoolExecutor(1, "sound"))
        arguments += [
            "-protocol_whitelist", "pipe", "-f", "f32le", "-ar", str(SAMPLE_RATE), "-ac", str(CHANNELS),
            "-i", f"pipe:{reading}",
            *_subtitles(target, opened, keep), *_copied(target),
            "-map", "1:a", "-c:a", target.container.audio_encoder, "-b:a", f"{SOUND_KBIT}k",
            *(("-map", "2:s", "-c:s", _SUBTITLE_CODECS[target.container.name]) if target.subtitles else ()),
            *output_arguments(sink.writing, target.container, bounds.limits, extras=_NOTHING_ELSE),
        ]  # fmt: skip
        feeding = feeder.submit(_feed, sound, writing)
        try:
            ffmpeg.run(
                arguments, bounds, keep_open=[*keep, sink.writing, reading], stdin=sink.reading,
                on_progress=on_progress,
            )  # fmt: skip
        finally:
            os.close(reading)  # whatever ended the run: nobody may wait to write
            # What ends the sound early is the cause; the words of an encoder that was given too little say nothing.
            feeding.result()


def _pictures(pieces: Sequence[Rendered], target: Target, opened: ExitStack) -> tuple[list[str], list[int]]:
    """The arguments that open all pieces as one input, and the descriptors that they speak of."""
    files = [_opened(piece.path, opened) for piece in pieces]
    script = os.memfd_create("pieces")
    opened.callback(os.close, script)
    os.write(script, _script(pieces, files, target.rate).encode())
    os.lseek(script, 0, os.SEEK_SET)
    arguments = [
        *QUIET, "-protocol_whitelist", "fd", "-format_whitelist", "concat,mov", "-f", "concat", "-safe", "0",
        "-fd", str(script), "-i", "fd:",
    ]  # fmt: skip
    return arguments, [script, *files]


def _subtitles(target: Target, opened: ExitStack, keep: list[int]) -> list[str]:
    """The arguments that open the subtitles as one more input."""
    if not target.subtitles:
        return []
    text = os.memfd_create("subtitles")
    opened.callback(os.close, text)
    with os.fdopen(os.dup(text), "w", encoding="utf-8") as writing:
        writing.write(target.subtitles)
    os.lseek(text, 0, os.SEEK_SET)
    keep.append(text)
    return ["-protocol_whitelist", "fd", "-f", "srt", "-fd", str(text), "-i", "fd:"]


def _script(pieces: Sequence[Rendered], files: Sequence[int], rate: Fraction) -> str:
    lines, at = ["ffconcat version 1.0"], 0
    for piece, file in zip(pieces, files, strict=True):
        # From one sum to the next, so that the roundings do not add up.
        microseconds = round((at + piece.frames) * 1_000_000 / rate) - round(at * 1_000_000 / rate)
        lines += ["file fd:", f"option fd {file}", f"duration {microseconds / 1e6:.6f}"]
        at += piece.frames
    return "\n".join(lines) + "\n"


def _opened(path: Path, opened: ExitStack) -> int:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    opened.callback(os.close, file)
    return file


def _copied(target: Target) -> list[str]:
    """The arguments that copy the pictures, each at its exact time."""
    ticks, picture = clock_of(target.rate)
    late = _REORDERED.get(target.codec, 0)
    times = f"setts=pts=round(PTS/{picture})*{picture}:dts=(N-{late})*{picture}:duration={picture}"
    timescale = ["-video_track_timescale", str(ticks)] if target.container.has_faststart else []
    return ["-map", "0:v", "-c:v", "copy", "-bsf:v", times, *timescale]


def _feed(sound: Iterable[Sound], pipe: int) -> None:
    """Write sound into a pipe, until it ends or nobody reads any more."""
    try:
        enlarge(pipe)
        with suppress(BrokenPipeError):
            for block in sound:
                rest = memoryview(block.tobytes())
                while rest:
                    rest = rest[os.write(pipe, rest) :]
    finally:
        os.close(pipe)
