"""Encoding raw frames into a file: a thread that writes frames to a pipe, and a jailed ffmpeg that encodes and muxes.

The sound is not decoded with the pictures: the encoder opens the source a second time and copies it from there,
moved by the same offset as the pictures.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self

from vidqueue.errors import VidqueueError
from vidqueue.media.arguments import QUIET, VERBOSE, input_arguments, output_arguments, reading_all
from vidqueue.media.containers import NO_EXTRAS, Container, Extras
from vidqueue.media.drawing import NOTHING_DRAWN, Drawn
from vidqueue.media.encoders import Effort, Encoder, Quality
from vidqueue.media.facts import MediaFacts, VideoFacts
from vidqueue.media.faults import raise_if_failed
from vidqueue.media.ffmpeg import Tally
from vidqueue.media.filters import USUAL, Treatment, output_colour, output_time_base, shaped, tagged
from vidqueue.media.handoff import ClosedError, Handoff
from vidqueue.media.hdr import NO_METADATA, StaticMetadata
from vidqueue.media.jail import sandbox
from vidqueue.media.matroska import picture_head, stream_head
from vidqueue.media.page_pipe import PagePipe
from vidqueue.media.picture import Frame, PictureFormat
from vidqueue.media.sink import created
from vidqueue.media.soundtracks import AudioPlan
from vidqueue.media.source import Source

_WAITING = 2


@dataclass(frozen=True, slots=True)
class Target:
    """The output file of an encoder: container, codec settings, frame layout and audio.

    Attributes:
        path: a file that does not exist yet.
        picture: layout of the frames that will be written; may differ from the source's.
        audio: what to take over from the source, planned with `input_number=1`; `extras` as well.
        how: what is done to the pictures.
        static: metadata of HDR that the result shall have.
        drawn: subtitles to draw into the pictures.
    """

    path: Path
    container: Container
    encoder: Encoder
    quality: Quality | int
    effort: Effort
    picture: PictureFormat
    audio: AudioPlan
    extras: Extras = NO_EXTRAS
    how: Treatment = USUAL
    static: StaticMetadata = NO_METADATA
    drawn: Drawn = NOTHING_DRAWN


class EncodingPipe:
    """Encodes frames as they are written. Use it in a `with` block, from a long-lived thread."""

    def __init__(
        self, source: Source, facts: MediaFacts, video: VideoFacts, target: Target, bounds: sandbox.SandboxLimits
    ) -> None:
        self._source, self._video, self._target, self._bounds = source, video, target, bounds
        self._clock = output_time_base(video)
        # Where the clock begins again, ffmpeg makes the times of both, from the beginning of the file on.
        begins = (_ticks(facts.start_s, self._clock), _ticks(video.start_s, self._clock))
        self._base = 0 if video.clock_restarts else min(begins)
        self._waiting: Handoff[Frame] = Handoff(_WAITING)
        self._open = ExitStack()
        self.tally = Tally(stream="0:0")
        self.written = 0
        self._lent: Frame | None = None

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            file = opening.enter_context(self._source.opened())
            sink = opening.enter_context(created(self._target.path))
            pictures, writing = os.pipe()
            opening.callback(os.close, pictures)
            sandbox.enlarge(writing)
            self._pipe = PagePipe(writing)
            size = (self._target.picture.width, self._target.picture.height)
            self._text, fonts = opening.enter_context(self._target.drawn.filter(size))
            self._running = self._open.enter_context(
                sandbox.start(
                    self._arguments(pictures, file, sink.writing),
                    self._bounds,
                    keep_open=[pictures, file, sink.writing, *fonts],
                    stdin=sink.reading,
                    on_line=self.tally.read,
                )
            )
        self._writer = threading.Thread(target=self._write, name="encoder", daemon=True)
        self._writer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.kill()
        self._waiting.close()
        self._writer.join()
        self._open.close()

    def write(self, frame: Frame) -> None:
        """Queue a frame for the encoder; its buffer returns to its pool when it is written.

        Raises:
            VidqueueError: the encoder failed.
            CanceledError: the event of `bounds` was set.
        """
        try:
            self._waiting.put(frame)
        except ClosedError:
            self._raise_reason()

    def finish(self) -> None:
        """Write the remaining frames and wait until the file is complete.

        Raises:
            VidqueueError: the encoder failed.
            CanceledError: the event of `bounds` was set.
        """
        self._waiting.finish()
        self._writer.join()
        raise_if_failed(self._running.wait())

    def _raise_reason(self) -> None:
        raise_if_failed(self._running.wait())
        raise VidqueueError("output_incomplete", "The encoder ended before all frames were written.")

    def _arguments(self, pictures: int, file: int, output: int) -> list[str]:
        target, video = self._target, self._video
        sar = video.upright_sar
        steps = [
            shaped(sar),
            *self._text,
            tagged(output_colour(video, target.picture.depth, target.how)),
        ]
        pixel_format = target.encoder.pixel_format(target.picture.depth)
        return [
            # Where ffmpeg makes the times, it moves each input to its beginning; pictures must stay behind the sound.
            *QUIET, *VERBOSE, *(("-itsoffset", f"{video.start_s:.9f}") if video.clock_restarts else ("-copyts",)),
            "-protocol_whitelist", "pipe", "-probesize", "32", "-analyzeduration", "0", "-f", "matroska",
            "-i", f"pipe:{pictures}",
            *input_arguments(
                file, self._bounds.limits, *video.joining, "-itsoffset", f"{float(-self._base * self._clock):.9f}"
            ),
            "-map", "0:v", *target.audio.arguments,
            "-vf", ",".join(filter(None, [*steps, f"format={pixel_format}"])),
            "-fps_mode", "passthrough", "-enc_time_base", str(self._clock),
            *target.encoder.arguments(target.quality, target.effort, video.fps, target.container),
            *output_arguments(
                output, target.container, self._bounds.limits, extras=target.extras,
                unofficial=video.projection is not None,
            ),
            *(reading_all(1) if video.clock_restarts else ()),
        ]  # fmt: skip

    def _write(self) -> None:
        try:
            self._pipe.write(self._head())
            self._send_frames()
        except (ClosedError, BrokenPipeError):
            pass  # the pipeline is ending, or the encoder is gone
        finally:
            self._pipe.close()
            # Whatever ended this thread: nobody may wait for it.
            self._waiting.close()

    def _head(self) -> bytes:
        target, video = self._target, self._video
        sphere = video.projection == "equirectangular"
        return stream_head(target.picture, video.fps, target.static, equirectangular=sphere)

    def _send_frames(self) -> None:
        held = self._waiting.get()
        while True:
            try:
                following = self._waiting.get()
            except ClosedError:
                break
            self._send_frame(held, following.pts - held.pts)
            held = following
        self._send_frame(held, self._last_duration())

    def _send_frame(self, frame: Frame, duration: int) -> None:
        head = picture_head(
            max(0, frame.pts - self._base) * self._clock, duration * self._clock, self._target.picture.size
        )
        self._pipe.write(head)
        lent = self._pipe.lend(frame.bytes)
        self.written += 1
        # This picture has pushed the one before out of the pipe.
        if self._lent is not None:
            self._lent.release()
        self._lent = frame if lent else None
        if not lent:
            frame.release()

    def _last_duration(self) -> int:
        seconds = self._video.last_duration * self._video.time_base
        return max(1, round(seconds / self._clock))


def _ticks(seconds: float, clock: Fraction) -> int:
    return round(Fraction(seconds) / clock)
