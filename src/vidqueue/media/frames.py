"""The frame pipeline of processors that change pictures: decoding, an operation on each frame, and encoding overlap.

A jailed ffmpeg decodes into a pipe, a thread reads it into a pool of preallocated buffers, the operation runs in the
calling thread (where torch and the device live), another thread writes to a jailed ffmpeg that encodes. Three stages
overlap, memory is bounded by the pool, and an end on any side ends all of it.

Times survive exactly: each picture carries its source timestamp through the operation and goes to the encoder inside a
minimal Matroska stream (see `matroska`). The alternatives were worse: a bare raw pipe knows only constant rates, and
retiming afterwards needs a filter expression as long as the film.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vidqueue.media.decoder import Decoder
from vidqueue.media.encoder import EncodingPipe, Target
from vidqueue.media.facts import MediaFacts, VideoFacts
from vidqueue.media.ffmpeg import endured
from vidqueue.media.filters import even
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.picture import Frame, FramePool, PictureFormat
from vidqueue.media.sound_changes import behind_pictures, lost_channels
from vidqueue.media.source import check_source
from vidqueue.media.verify import check_decoding, check_sound, heard_s, playable_video, shown_s

RING = 8

Operation = Callable[[Iterator[Frame]], Iterable[Frame]]
"""Takes frames in the order of their time, gives frames in the order of their time.

It may change samples in place, hold a few frames back, drop some (release them) or add some from a pool of its own. It
must take every frame that there is: only then is it known whether the source was whole. The encoder keeps the last
two frames until others follow (see `page_pipe`), so a pool of its own needs more than two.
"""


@dataclass(frozen=True, slots=True)
class Processed:
    """The result of the pipeline: frames decoded and written, their length, a sentence a loss, and length of sounds."""

    decoded: int
    written: int
    duration_s: float
    warnings: list[str]
    heard_s: tuple[float, ...] = ()


def picture_format(video: VideoFacts, *, keep_depth: bool = True) -> PictureFormat:
    """The layout in which this track's frames arrive: upright, even, ten bits where it has more than eight."""
    width, height = even(video.upright)
    return PictureFormat(width, height, 10 if keep_depth and video.bit_depth > 8 else 8)


def process_frames(
    path: Path,
    facts: MediaFacts,
    operation: Operation,
    target: Target,
    bounds: SandboxLimits,
    *,
    incoming: PictureFormat | None = None,
    on_frame: Callable[[int], None] = lambda _: None,
    log: Callable[[str, str], None] = lambda _text, _level: None,
) -> Processed:
    """Send every frame of a track through an operation into a new file.

    Args:
        path: the source file.
        facts: its probe; the chosen track is the one that is processed.
        operation: what to do with the frames; runs in the calling thread.
        target: what to write.
        bounds: bounds of each of the two ffmpegs.
        incoming: layout of decoded frames, if other than the target's.
        on_frame: told the number of frames handed to the encoder; what it raises ends the run.
        log: told what both ffmpegs had to remark, as text and level, when they have ended.

    Raises:
        VidqueueError: either side failed, or too much of the source is damaged.
        CanceledError: the event of `bounds` was set.
    """
    source, video = check_source(path), playable_video(facts)
    pool = FramePool(incoming or target.picture, RING)
    # Only encoders use the GPU; the decoder of untrusted bytes stays fully confined.
    decoder = Decoder(source, video, pool, replace(bounds, gpu=False), target.how)
    encoder = EncodingPipe(source, facts, video, target, bounds)
    try:
        with decoder, encoder:
            for number, frame in enumerate(operation(decoder.frames()), start=1):
                encoder.write(frame)
                on_frame(number)
            warnings = check_decoding(video, decoder.tally)
            encoder.finish()
            warnings += check_sound(facts.audios, encoder.tally, input_number=1)
            warnings += lost_channels(facts.audios, encoder.tally, behind_pictures(facts.audios))
    except BaseException:
        _tell(decoder, encoder, log, failed=True)
        raise
    _tell(decoder, encoder, log, failed=False)
    return Processed(
        decoder.tally.decoded,
        encoder.written,
        shown_s(video, decoder.tally),
        warnings,
        heard_s(facts.audios, encoder.tally, 1),
    )


def _tell(decoder: Decoder, encoder: EncodingPipe, log: Callable[[str, str], None], *, failed: bool) -> None:
    for level, text in (*decoder.tally.remarks, *encoder.tally.remarks):
        log(text, level if failed else endured(level))
