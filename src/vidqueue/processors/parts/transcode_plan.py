"""The plan of a transcode: its source, what the result must be, and the arguments and checks that follow from both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vidqueue.media import ffmpeg, verify
from vidqueue.media.containers import Container, Extras
from vidqueue.media.cutting import Cut
from vidqueue.media.drawing import Drawn
from vidqueue.media.encoders import Encoder
from vidqueue.media.facts import MediaFacts, VideoFacts
from vidqueue.media.filters import (
    Treatment,
    at_rate,
    output_colour,
    output_time_base,
    tagged,
    unnamed,
    upright_yuv,
)
from vidqueue.media.soundtracks import AudioPlan
from vidqueue.processors.parts.transcode_params import TranscodeParams

# Containers without tags of colour.
_OWN_TAGS = frozenset({"mpegts", "mpeg", "h264", "hevc", "mpegvideo"})


@dataclass(frozen=True, slots=True)
class Plan:
    """The source of one job and what its result must be; times in seconds."""

    path: Path
    facts: MediaFacts
    video: VideoFacts
    size: tuple[int, int]
    duration_s: float
    container: Container
    encoder: Encoder
    how: Treatment
    extras: Extras
    fps: float | None
    drawn: Drawn
    texts: Mapping[int, str]
    cut: Cut

    @property
    def depth(self) -> int:
        """Bits of one component of the result."""
        return 10 if self.video.bit_depth > 8 and self.encoder.ten_bit and not self.how.keeps_alpha else 8


def filters(plan: Plan, text: list[str]) -> str:
    """The chain of filters of the pictures; `text` are those that draw subtitles."""
    steps = [plan.cut.pictures, upright_yuv(plan.video, plan.size, plan.depth, plan.how), *text]
    if plan.fps:
        steps.append(at_rate(plan.fps, plan.duration_s))
    colour = output_colour(plan.video, plan.depth, plan.how)
    # Pictures that bring tags of their own may change them midway; ffmpeg then converts them, unless they are renamed.
    if colour != plan.video.colour or unnamed(colour) or plan.facts.container not in _OWN_TAGS:
        steps.append(tagged(colour))
    planes = "yuva420p" if plan.how.keeps_alpha else plan.encoder.pixel_format(plan.depth)
    return ",".join(filter(None, [*steps, f"format={planes}"]))


def clock(plan: Plan) -> list[str]:
    """The arguments that keep the times of the pictures, or make them even."""
    return ["-fps_mode", "passthrough", *([] if plan.fps else ["-enc_time_base", str(output_time_base(plan.video))])]


def expected_of(
    params: TranscodeParams, plan: Plan, sound: AudioPlan, frames: int, tally: ffmpeg.Tally | None = None
) -> verify.Expected:
    """What the result must be, as far as the source and the run that wrote it tell."""
    duration_s = plan.duration_s if params.trims or tally is None else verify.shown_s(plan.video, tally)
    heard_s = () if params.trims else verify.heard_s(plan.facts.audios, tally or ffmpeg.Tally())
    longest_s = max(plan.video.longest_frame_s, 1 / plan.fps if plan.fps else 0.0)
    # Of a part nobody knows whether pictures were left out at its beginning that need others from before the file.
    longest_s += plan.video.early_s if params.trims else 0.0
    return verify.Expected(frames, duration_s, longest_s, sound.streams, plan.extras.subtitles, sounds=heard_s)
