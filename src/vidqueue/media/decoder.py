"""Decoding a video track into raw frames with exact timestamps: a jailed ffmpeg, and a thread that reads ahead."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Self

from vidqueue.media.arguments import QUIET, VERBOSE, input_arguments, reading_all
from vidqueue.media.facts import VideoFacts
from vidqueue.media.faults import raise_if_failed
from vidqueue.media.ffmpeg import Tally
from vidqueue.media.filters import USUAL, Treatment, output_time_base, upright_yuv
from vidqueue.media.handoff import ClosedError, Handoff
from vidqueue.media.jail import sandbox
from vidqueue.media.picture import Frame, FramePool
from vidqueue.media.source import Source

# YUV4MPEG2: one line for the stream, then this before each frame.
_FRAME = b"FRAME\n"
_LONGEST_HEAD = 4096
_BLOCK = 1024 * 1024


class Decoder:
    """Decodes one track, upright, into frames of the pool's format. Use it in a `with` block, from a long-lived thread.

    ffmpeg's `-stats_enc_pre` prints each picture's time on a second pipe just before it writes the picture, so the two
    pipes never get out of step and no packet list has to be trusted.
    """

    def __init__(
        self,
        source: Source,
        video: VideoFacts,
        pool: FramePool,
        bounds: sandbox.SandboxLimits,
        how: Treatment = USUAL,
    ) -> None:
        self._source, self._video, self._pool, self._bounds, self._how = source, video, pool, bounds, how
        self._ready: Handoff[Frame] = Handoff(pool.count)
        self._open = ExitStack()
        self.tally = Tally(stream=f"0:{video.index}")

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            file = opening.enter_context(self._source.opened())
            times, times_end = os.pipe()
            opening.callback(os.close, times_end)
            self._times = self._open.enter_context(os.fdopen(times, encoding="ascii"))
            self._running = self._open.enter_context(
                sandbox.start(
                    self._arguments(file, times_end),
                    self._bounds,
                    keep_open=[file, times_end],
                    stdout=subprocess.PIPE,
                    on_line=self.tally.read,
                )
            )
        self._reader = threading.Thread(target=self._read, name="decoder", daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.kill()
        self._pool.close()
        self._ready.close()
        self._reader.join()
        self._open.close()

    def frames(self) -> Iterator[Frame]:
        """Iterate over all frames in the order of their timestamps; the consumer passes each one on or releases it.

        Raises:
            VidqueueError: the decoder failed.
            CanceledError: the event of `bounds` was set.
        """
        while True:
            try:
                frame = self._ready.get()
            except ClosedError:
                break
            yield frame
        raise_if_failed(self._running.wait())

    def _arguments(self, file: int, times: int) -> list[str]:
        picture = self._pool.format
        return [
            *QUIET, *VERBOSE,
            # ffmpeg joins the parts of a clock that begins again only where it makes the times itself.
            *(() if self._video.clock_restarts else ("-copyts",)),
            *input_arguments(file, self._bounds.limits, *self._video.reading),
            "-map", f"0:{self._video.index}",
            "-vf", upright_yuv(self._video, (picture.width, picture.height), picture.depth, self._how),
            "-fps_mode", "passthrough", "-enc_time_base", str(output_time_base(self._video)),
            "-stats_enc_pre:v", f"pipe:{times}", "-stats_enc_pre_fmt:v", "{pts}",
            # The rawvideo muxer copies each picture once more, into fresh memory; this one needs `strict` for ten bits.
            "-strict", "-1", "-blocksize", str(_BLOCK), "-f", "yuv4mpegpipe", "pipe:1",
            *(reading_all() if self._video.clock_restarts else ()),
        ]  # fmt: skip

    def _read(self) -> None:
        last = -(2**62)
        self._running.stdout.readline(_LONGEST_HEAD)
        try:
            while True:
                frame = self._pool.take()
                if not _fill(self._running, frame):
                    break
                # Some files give two pictures the same time; an encoder wants them apart.
                frame.pts = last = max(int(self._times.readline()), last + 1)
                self._ready.put(frame)
        except (ClosedError, ValueError):
            # The pipeline is ending, or there is no time for a picture: nobody reads this ffmpeg's pipes any more.
            self._running.kill()
        finally:
            self._ready.finish()


def _fill(running: sandbox.Sandboxed, frame: Frame) -> bool:
    """Read one whole frame; False at the end, or where the decoder was cut off."""
    if running.stdout.read(len(_FRAME)) != _FRAME:
        return False
    return running.stdout.readinto(frame.bytes) == len(frame.bytes)
