"""Animated pictures as results of `transcode`: GIF and WebP, with square pixels and without sound."""

from __future__ import annotations

import math

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.media import verify
from vidqueue.media.carry import lost_in_animations
from vidqueue.media.closed_captions import lost_captions
from vidqueue.media.drawing import NOTHING_DRAWN, drawn
from vidqueue.media.encoders import Quality
from vidqueue.media.facts import MediaFacts, VideoFacts
from vidqueue.media.filters import Treatment, conversions, has_alpha
from vidqueue.media.images import Animation, Window, write_animation
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.sampling import shown_size
from vidqueue.media.source import check_source
from vidqueue.media.tags import read_tags
from vidqueue.processors.context import Context
from vidqueue.processors.parts.choices import treatment
from vidqueue.processors.parts.reporting import log_remarks, stage_reporter
from vidqueue.processors.parts.transcode_params import TranscodeParams, shown_part, target_size
from vidqueue.progress import Progress

# The highest frame rate: viewers slow down faster animations.
_FASTEST = 50.0
_USUAL_FPS = 25.0
_QUALITY: dict[Quality, int] = {"low": 50, "medium": 70, "high": 90}
_MOST_PASSES = 5
_FITS = 0.95


def write_moving(params: TranscodeParams, facts: MediaFacts, video: VideoFacts, ctx: Context) -> list[OutputDraft]:
    """Write the output, in smaller and smaller sizes until it is within `max_size_mb`.

    Raises:
        VidqueueError: the source cannot be decoded, or the result is not as long as it.
        CanceledError: the job was canceled.
    """
    assert params.container in ("gif", "webp")
    kind: str = params.container
    bounds = SandboxLimits(ctx.limits, ctx.limits.ffmpeg_timeout_s, ctx.canceled)
    keeps_alpha = kind == "webp" and params.alpha == "keep" and has_alpha(video.pixel_format)
    how = treatment(params.deinterlace, params.tone_map, params.background, keeps_alpha=keeps_alpha)
    begin_s, end_s = shown_part(params, facts, video)
    length_s, window_s = end_s - begin_s, end_s - params.start_s
    fps = min(params.rate(video) or min(video.fps or _USUAL_FPS, _USUAL_FPS), _FASTEST)
    path, size = ctx.output_path(f"output.{kind}"), target_size(params, shown_size(video))
    most = math.inf if params.max_size_mb is None else params.max_size_mb * 1e6
    burned = NOTHING_DRAWN
    if params.subtitles == "burn":
        burned = drawn(check_source(ctx.inputs["video"]), facts, bounds, params.start_s, end_s)
    source = check_source(ctx.inputs["video"])
    tags = read_tags(source, facts.described_streams, bounds)
    warnings = [
        *_warnings(params, facts, video, how),
        *lost_in_animations(facts, tags, params.metadata),
        *lost_captions(source, video, bounds),
        *burned.warnings,
    ]
    for number in range(_MOST_PASSES):
        wanted = Animation([Window(params.start_s, max(window_s, 0.01))], size, fps, params.container, facts.container,
                           params.crf if params.crf is not None else _QUALITY[params.quality], how, burned)  # fmt: skip
        report = stage_reporter(ctx.progress, "encode", length_s, begin=0.9 * number / _MOST_PASSES)
        tally = write_animation(check_source(ctx.inputs["video"]), video, wanted, path, bounds, on_progress=report)
        log_remarks(ctx.log, tally)
        if (found := path.stat().st_size) <= most:
            break
        # The size of the file is about proportional to the number of pixels.
        size = _smaller(size, math.sqrt(most / found) * _FITS)
        path.unlink()
    else:
        raise VidqueueError(
            "output_too_large", f"An animation of this length does not fit into {params.max_size_mb:g} MB."
        )
    if number:
        warnings.append(f"The picture was reduced to {size[0]}x{size[1]} to fit into {params.max_size_mb:g} MB.")
    warnings += verify.check_decoding(video, tally, complete=not params.trims, begins=not params.start_s)
    ctx.progress(Progress(0.99, "check"))
    shown_s = length_s if params.trims else verify.shown_s(video, tally)
    slack_s = max(video.longest_frame_s, 2 / fps) + (video.early_s if params.trims else 0.0)
    expected = verify.Expected(tally.encoded, shown_s, slack_s, 0, merges=True)
    result = verify.check_output(path, expected, ctx.limits, ctx.canceled)
    for warning in warnings:
        ctx.log(warning, "warning")
    return [OutputDraft("video", path, f"image/{kind}", result.as_json() | {"warnings": warnings})]


def _smaller(size: tuple[int, int], scale: float) -> tuple[int, int]:
    width, height = (max(2, round(side * scale / 2) * 2) for side in size)
    return width, height


def _warnings(params: TranscodeParams, facts: MediaFacts, video: VideoFacts, how: Treatment) -> list[str]:
    lost = [
        (len(facts.audios) if params.audio != "drop" else 0, "sound track"),
        (facts.subtitles if params.subtitles == "keep" else 0, "subtitle track"),
        (facts.chapters, "chapter"),
    ]
    told = [
        f"{count} {what}{'s are' if count > 1 else ' is'} left out: {params.container} cannot hold "
        f"{'them' if count > 1 else 'it'}."
        for count, what in lost
        if count
    ]
    return told + conversions(video, 8, how)
