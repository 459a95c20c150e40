"""Whether the clock of a file can be trusted: it may begin again or jump, or lack times that ffmpeg can read. No IO."""

from __future__ import annotations

from dataclasses import dataclass

from vidqueue.media.banner import Banner
from vidqueue.media.joining import steps_up_to
from vidqueue.media.listing import Listing
from vidqueue.media.packets import Track

# Containers of broadcasts and recorders, where ffmpeg expects the clock to begin again or to jump.
_JUMPING_CLOCKS = frozenset({"mpegts", "mpeg", "ogg"})
# Containers that become one file when two are appended to each other; ffmpeg reads on, with the times of the second.
_APPENDED = frozenset({"matroska", "mov"})
# Sound often begins a little before zero, by the delay of its encoder.
_USUAL_DELAY_S = 0.1
# By how much picture and sound of a part may differ in length; by as much the sound of the next part is out of step.
_OUT_OF_STEP_S = 0.15
_SHORTEST_STEP_S = 0.3
# Further ahead than this many pictures none is decoded.
_REORDERED = 8


@dataclass(frozen=True, slots=True)
class Clock:
    """How the times of a file are read.

    Attributes:
        restarts: whether they are counted from the beginning of the file, because its own clock leads astray.
        step_s: the longest step of the clock in seconds that is none to an appended part; 0 where nothing is appended.
            ffmpeg takes no longer step for a time, and goes on from where it is.
        by_packets: whether the times of sound are made of the lengths of its packets then. MP4 has packets between that
            are not to be heard, so there they are made of what is decoded.
        late_s: by how many seconds known times are moved, so that pictures without a time have room before them.
    """

    restarts: bool = False
    step_s: float = 0.0
    by_packets: bool = False
    late_s: float = 0.0

    @property
    def reading(self) -> tuple[str, ...]:
        """The arguments of ffmpeg before the input."""
        return steps_up_to(self.step_s, sound_by_packets=self.by_packets, late_s=self.late_s)


OWN_CLOCK = Clock()


def clock_of(listing: Listing, banner: Banner) -> Clock:
    """The clock of a file, of which this is a listing with its own times."""
    tracks = listing.tracks.values()
    if late_s := _untimed_s(listing, banner):
        return Clock(restarts=True, late_s=late_s)
    if step_s := _longest_step_s(listing, banner):
        return Clock(restarts=True, step_s=step_s, by_packets=banner.container == "matroska")
    if banner.container in _JUMPING_CLOCKS:
        return Clock(any(track.held > 1 or track.ahead for track in tracks))
    return Clock(banner.container == "matroska" and any(_begins_below_zero(track, banner) for track in tracks))


def _begins_below_zero(track: Track, banner: Banner) -> bool:
    """True if ffmpeg does not know some times of pictures, as in Matroska where they are below zero."""
    if track.kind != "video":
        return False
    below = banner.start_s < -_USUAL_DELAY_S
    return 0 < track.untimed < track.shown or (below and (track.untimed > 0 or track.rewound is not None))


def _untimed_s(listing: Listing, banner: Banner) -> float:
    """How long the pictures last that have no time, because it is below zero in a Matroska file without sound.

    ffmpeg counts theirs from zero on, and goes back at the first one that has a time. Sound, which has all of its
    times, moves the others out of the way.
    """
    tracks = [track for track in listing.tracks.values() if track.shown]
    if banner.container != "matroska" or any(track.kind != "video" for track in tracks):
        return 0.0
    return max((_without_time_s(track) for track in tracks if track.rewound is not None), default=0.0)


def _without_time_s(track: Track) -> float:
    ((usual, _),) = track.lengths.most_common(1) or [(0, 0)]
    return float(track.untimed * usual * track.time_base) if track.untimed < track.shown else 0.0


def _longest_step_s(listing: Listing, banner: Banner) -> float:
    if banner.container not in _APPENDED:
        return 0.0
    tracks = [track for track in listing.tracks.values() if track.shown]
    ends = [track.rewound_s for track in tracks if track.rewound_s is not None]
    if not ends or len(ends) < len(tracks) or max(ends) - min(ends) > _OUT_OF_STEP_S:
        return 0.0
    pictures = [track for track in tracks if track.kind == "video"]
    longest = max((float((track.largest_gap or 0) * track.time_base) for track in pictures), default=0.0)
    reordered = max((_REORDERED / track.fps for track in pictures if track.fps), default=0.0)
    return max(_SHORTEST_STEP_S, 1.5 * longest, reordered)
