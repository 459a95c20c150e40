"""Runs a processor's own ffmpeg command in the jail: paths in the arguments become open descriptors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vidqueue.errors import VidqueueError
from vidqueue.limits import Limits
from vidqueue.media import ffmpeg
from vidqueue.media.arguments import QUIET, input_arguments
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.sink import Sink, created
from vidqueue.media.source import check_source
from vidqueue.processors.words import Words, texts_of

# ffmpeg chooses the format by the name of the file, and a descriptor has none.
MUXERS = {
    ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi", ".ts": "mpegts",
    ".gif": "gif", ".png": "image2pipe", ".jpg": "image2pipe", ".jpeg": "image2pipe", ".webp": "webp",
    ".mp3": "mp3", ".wav": "wav", ".flac": "flac", ".ogg": "ogg", ".opus": "opus", ".m4a": "ipod", ".aac": "adts",
    ".srt": "srt", ".vtt": "webvtt",
}  # fmt: skip
# The muxer image2pipe writes whatever the encoder makes, and its default is JPEG.
ENCODERS = {".png": "png", ".jpg": "mjpeg", ".jpeg": "mjpeg"}
# Formats of raw pictures and samples that processors compute. Their demuxers parse nothing, so they are safe.
RAW = {
    "rawvideo": "rawvideo", "u8": "pcm_u8", "s16le": "pcm_s16le", "s24le": "pcm_s24le", "s32le": "pcm_s32le",
    "f32le": "pcm_f32le", "f64le": "pcm_f64le",
}  # fmt: skip
WITH_INDEX = frozenset({".mp4", ".m4v", ".mov", ".m4a"})

_WHERE = 'Write to the path of ctx.output("video", "out.mp4"), or into the folder of ctx.temporary().'


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a command with the options before it. A `generated` input is one of ffmpeg's own sources."""

    kind: Literal["input", "generated", "output"]
    word: str
    options: list[str]


def media_of(words: Words, folder: Path) -> list[Path]:
    """The media files that a command reads; raw pictures and samples, which say nothing of themselves, are none.

    Raises:
        VidqueueError: the command ends with options that no file follows.
    """
    return [
        Path(file.word) for file in _files(words, folder) if file.kind == "input" and _raw_format(file.options) is None
    ]


def run(
    words: Words,
    bounds: SandboxLimits,
    folder: Path,
    *,
    on_progress: Callable[[ffmpeg.Seen], None],
    on_remark: Callable[[str, str], None],
) -> ffmpeg.Tally:
    """Run the command to its end; its outputs are the paths inside `folder`, and a failed run leaves none.

    A file that an earlier run has left in the place of an output is replaced.

    Raises:
        VidqueueError: with the code of the cause.
        CanceledError: the job was canceled.
    """
    tally = ffmpeg.Tally()
    with ExitStack() as stack:
        command = _Command(stack, bounds.limits, folder)
        command.take(words)
        stdin = {} if command.stdin is None else {"stdin": command.stdin}
        try:
            ffmpeg.run(
                command.arguments, bounds, keep_open=command.keep_open, tally=tally, on_progress=on_progress, **stdin
            )
        except BaseException:
            command.remove_outputs()
            raise
        finally:
            for level, text in tally.remarks:
                on_remark(text, level)
    return tally


class _Command:
    """The arguments of one ffmpeg, with its files open."""

    def __init__(self, stack: ExitStack, limits: Limits, folder: Path) -> None:
        self._stack = stack
        self._limits = limits
        self._folder = folder.resolve()
        self._output: Sink | None = None
        self._read = set[Path]()
        self._written: list[Path] = []
        self.arguments: list[str] = list(QUIET)
        self.keep_open: list[int] = []

    @property
    def stdin(self) -> int | None:
        """What the run reads as standard input: its first output, which `+faststart` reads back."""
        return self._output.reading if self._output else None

    def take(self, words: Words) -> None:
        """Take the arguments.

        Raises:
            VidqueueError: an input is refused, or the format of an output is not known.
        """
        for file in _files(words, self._folder):
            match file.kind:
                case "input":
                    self._add_input(Path(file.word), file.options)
                case "generated":
                    self.arguments += [*file.options, "-i", file.word]
                case "output":
                    self._add_output(Path(file.word), file.options)

    def remove_outputs(self) -> None:
        """Remove every output that was begun."""
        for path in self._written:
            path.unlink(missing_ok=True)

    def _add_input(self, path: Path, options: Sequence[str]) -> None:
        self._read.add(path.resolve())
        descriptor = self._stack.enter_context(check_source(path).opened())
        self.keep_open.append(descriptor)
        raw = _raw_format(options)
        # The last of two equal options counts.
        opened = () if raw is None else ("-format_whitelist", raw, "-codec_whitelist", RAW[raw])
        self.arguments += input_arguments(descriptor, self._limits, *opened, *options)

    def _add_output(self, path: Path, options: list[str]) -> None:
        suffix = path.suffix.lower()
        if "-f" not in options and suffix not in MUXERS:
            hint = f"Give the format with -f before the path, or one of the extensions {', '.join(MUXERS)}."
            raise VidqueueError("processor_error", f"ffmpeg has no format for {path.name}.", hint=hint)
        if path.resolve() in {*self._read, *self._written}:
            said = f"ffmpeg cannot write {path.name}, which this command uses already."
            raise VidqueueError("processor_error", said, hint=_WHERE)
        path.unlink(missing_ok=True)
        sink = self._stack.enter_context(created(path))
        self._written.append(path.resolve())
        self.keep_open.append(sink.writing)
        chosen = any(one.startswith(("-c:v", "-vcodec", "-codec")) or one == "-c" for one in options)
        self.arguments += [
            *options,
            *(["-c:v", ENCODERS[suffix]] if suffix in ENCODERS and not chosen else []),
            # Only the first output can be read back.
            *(["-movflags", "+faststart"]
              if suffix in WITH_INDEX and self._output is None and "-movflags" not in options else []),
            *(["-t", f"{self._limits.max_duration_s:.3f}"] if not {"-t", "-to"} & set(options) else []),
            *(["-f", MUXERS[suffix]] if "-f" not in options else []),
            "-fd", str(sink.writing), "fd:",
        ]  # fmt: skip
        self._output = self._output or sink


def _raw_format(options: Sequence[str]) -> str | None:
    """Return the raw format that the options of an input name, or None."""
    return next((name for flag, name in itertools.pairwise(options) if flag == "-f" and name in RAW), None)


def _files(words: Words, folder: Path) -> Iterator[_File]:
    """Split a command at its files: what follows `-i` is an input, every other path inside the folder an output."""
    inside = folder.resolve()
    options: list[str] = []
    for word in texts_of(words):
        if options[-1:] == ["-i"]:
            generated = ("-f", "lavfi") in itertools.pairwise(options)
            yield _File("generated" if generated else "input", word, options[:-1])
            options = []
        elif Path(word).is_absolute() and Path(word).parent.resolve().is_relative_to(inside):
            yield _File("output", word, options)
            options = []
        else:
            options.append(word)
    if options:
        said = f"The command of ffmpeg ends with {' '.join(options)[:200]!r}, and not with an output in the workspace."
        raise VidqueueError("processor_error", said, hint=_WHERE)
