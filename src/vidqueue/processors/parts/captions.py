"""Subtitles of `transcode` and `enhance`: burning in one track, and trimming the others."""

from __future__ import annotations

import math
from collections.abc import Mapping

from vidqueue.formats import SUBTITLE_CODECS
from vidqueue.media import texts
from vidqueue.media.carry import MOST_SUBTITLES
from vidqueue.media.drawing import NOTHING_DRAWN, Drawn, drawn
from vidqueue.media.facts import MediaFacts
from vidqueue.media.jail.sandbox import SandboxLimits
from vidqueue.media.source import Source
from vidqueue.processors.parts.transcode_params import TranscodeParams


def burned(params: TranscodeParams, source: Source, facts: MediaFacts, bounds: SandboxLimits) -> Drawn:
    """Return the subtitles to burn in, for the trimmed part."""
    if params.subtitles != "burn":
        return NOTHING_DRAWN
    return drawn(source, facts, bounds, params.start_s, _end_s(params))


def cut_texts(
    params: TranscodeParams, source: Source, facts: MediaFacts, drawn_track: int | None, bounds: SandboxLimits
) -> Mapping[int, str]:
    """Trim each text track: ffmpeg cuts between packets, so subtitles that are shown at an edge would be lost."""
    if not params.trims or params.subtitles == "drop":
        return {}
    tracks = [one for one in facts.subtitle_tracks if one.codec in SUBTITLE_CODECS and one.index != drawn_track]
    return {
        one.index: texts.read_part(source, one, params.start_s, _end_s(params), bounds)
        for one in tracks[:MOST_SUBTITLES]
    }


def _end_s(params: TranscodeParams) -> float:
    return math.inf if params.end_s is None else params.end_s
