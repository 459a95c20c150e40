"""Filters that count pictures, for files whose pictures change their size, format or colours midway.

ffmpeg begins its filters anew at such a change, and they begin to count again; a run that says so (`Tally.changed`) is
made once more with these arguments. No IO.
"""

from __future__ import annotations

from vidqueue.media.facts import VideoFacts

# Before an input: all its pictures go through the same filters, the first of which must be those of `steadied`.
STEADY = ("-reinit_filter:v", "0")


def steadied(video: VideoFacts) -> list[str]:
    """The filters that bring pictures of any size and format to those of the beginning."""
    width, height = video.upright
    same = [f"format={video.pixel_format}"] if video.pixel_format else []
    return [f"scale={width}:{height}:interl=-1:flags=bicubic+accurate_rnd", *same]
