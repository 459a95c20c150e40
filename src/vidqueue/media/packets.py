"""Adding up a file's packets as ffmpeg's `framecrc` lists them, line by line and in constant memory. No IO.

Everything in the listing is a number or a word of ffmpeg's own; no text of the file gets into it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction

_NO_PTS = -(2**63)
_FLAG_KEY = 1
_FLAG_CORRUPT = 2
_FLAG_DISCARD = 4
# No codec here reorders further than this many pictures.
_REORDER = 32
_WITHOUT_SIDE_DATA = 2
# Longer gaps than this, in seconds, are no pause but a clock that jumps, where a container allows that (ffmpeg closes
# them there: its option dts_delta_threshold).
_AHEAD_S = 10


@dataclass(slots=True)
class Track:
    """The sums over one stream's packets; times in ticks of `time_base`.

    Attributes:
        leading: packets before the first key picture, which no decoder can show; they are not counted otherwise.
        early: packets right after the first key picture that are shown before it. A decoder leaves them out where they
            need pictures from before the file begins (RASL pictures of H.265).
        encrypted: packets that only a key makes readable.
        held: packets whose time of decoding does not rise. ffmpeg lists those of a clock that goes back so.
        ahead: how often the clock jumps ahead.
    """

    time_base: Fraction = Fraction(1)
    kind: str = ""
    codec: str = ""
    width: int = 0
    height: int = 0
    sar: Fraction = Fraction(1)
    sample_rate: int = 0
    channel_layout: str | None = None
    shown: int = 0
    untimed: int = 0
    corrupt: int = 0
    leading: int = 0
    early: int = 0
    encrypted: int = 0
    held: int = 0
    ahead: int = 0
    first: int | None = None
    last: int | None = None
    last_duration: int = 0
    smallest_gap: int | None = None
    largest_gap: int | None = None
    _window: list[int] = field(default_factory=list)
    _sorted_up_to: int | None = None
    _keyed: bool = False
    _open_key: int | None = None
    _key_time: int | None = None
    _dts: int | None = None

    def add(self, pts: int, duration: int, flags: int, *, dts: int = _NO_PTS) -> None:
        """Count one packet; those that an edit list hides are not counted as frames.

        AVI and MPEG-PS have files without times of presentation; their length is that of their times of decoding.
        """
        if flags & _FLAG_KEY:
            self._follow_keys(pts)
        elif self._open_key is not None and _NO_PTS < pts < self._open_key:
            self.early += not flags & _FLAG_DISCARD
        self._follow_clock(dts)
        self.corrupt += bool(flags & _FLAG_CORRUPT)
        if flags & _FLAG_DISCARD:
            return
        self.shown += 1
        if pts == _NO_PTS:
            self.untimed += 1
            if dts == _NO_PTS:
                return
            pts = dts
        self.first = pts if self.first is None else min(self.first, pts)
        if self.last is None or pts >= self.last:
            self.last, self.last_duration = pts, duration
        heapq.heappush(self._window, pts)
        if len(self._window) > _REORDER:
            self._measure_gap(heapq.heappop(self._window))

    def _follow_keys(self, pts: int) -> None:
        if self._keyed:
            # What is shown before the second key picture may need the first.
            self._open_key = None
            return
        self._keyed = True
        self._open_key = self._key_time = pts
        self._begin_again()

    def _begin_again(self) -> None:
        """Forget what came before the first key picture; sound has keys only."""
        self.leading, self.shown, self.untimed, self.corrupt = self.shown, 0, 0, 0
        self.first = self.last = self.smallest_gap = self.largest_gap = self._sorted_up_to = None
        self._window.clear()

    def _follow_clock(self, dts: int) -> None:
        if dts == _NO_PTS:
            return
        if self._dts is not None:
            self.held += dts <= self._dts
            self.ahead += (dts - self._dts) * self.time_base > _AHEAD_S
        self._dts = dts

    def finish(self) -> None:
        """Account for the packets that were still waiting to be put into order."""
        while self._window:
            self._measure_gap(heapq.heappop(self._window))

    def _measure_gap(self, pts: int) -> None:
        if self._sorted_up_to is not None:
            gap = pts - self._sorted_up_to
            self.smallest_gap = gap if self.smallest_gap is None else min(self.smallest_gap, gap)
            self.largest_gap = gap if self.largest_gap is None else max(self.largest_gap, gap)
        self._sorted_up_to = pts

    @property
    def start_s(self) -> float:
        """Time of the first packet, in seconds."""
        return float((self.first or 0) * self.time_base)

    @property
    def early_s(self) -> float:
        """From the first picture to the first key picture, in seconds, where such pictures are `early`."""
        if not self.early or self.first is None or self._key_time is None:
            return 0.0
        return float((self._key_time - self.first) * self.time_base)

    @property
    def duration_s(self) -> float:
        """From the first packet's start to the last one's end, in seconds."""
        if self.first is None or self.last is None:
            return 0.0
        return float((self.last - self.first + self.tail) * self.time_base)

    @property
    def tail(self) -> int:
        """Duration of the last packet in ticks: its own, else the average."""
        if self.last_duration > 0 or self.first is None or self.last is None or self.shown < 2:
            return self.last_duration
        return round((self.last - self.first) / (self.shown - 1))

    @property
    def fps(self) -> float:
        """Average pictures per second; 0 for a single one."""
        if self.first is None or self.last is None or self.shown < 2 or self.last == self.first:
            return 0.0
        return float((self.shown - 1) / ((self.last - self.first) * self.time_base))

    @property
    def is_vfr(self) -> bool:
        """True if the gaps between frames differ by more than rounding to milliseconds explains."""
        # AVI and MPEG-PS leave out times that a decoder works out; those gaps say nothing.
        if self.untimed or self.smallest_gap is None or self.largest_gap is None:
            return False
        return (self.largest_gap - self.smallest_gap) * self.time_base > Fraction(3, 1000)


@dataclass(slots=True)
class Listing:
    """The tracks by their number in the listing, and how much was read: `whole` if all of it."""

    tracks: dict[int, Track] = field(default_factory=dict)
    packets: int = 0
    bytes: int = 0
    whole: bool = True


def read_listing(lines: Iterable[str], enough: Callable[[int], bool] = lambda _: False) -> Listing:
    """Add up a `framecrc` listing until its end, or until `enough` says so of the number of packets.

    Raises:
        ValueError: a line is not as ffmpeg writes it.
    """
    listing = Listing()
    tracks = listing.tracks
    for line in lines:
        if line.startswith("#"):
            _read_header(line, tracks)
            continue
        stream, dts, pts, duration, size, *rest = line.split(",")
        if (track := tracks.get(int(stream))) is None:
            raise ValueError(f"a packet of an unknown stream: {line[:80]}")
        track.add(int(pts), int(duration), _flags(rest), dts=int(dts))
        # Side data comes after a checksum and flags.
        if len(rest) > _WITHOUT_SIDE_DATA and " Encryption info" in rest:
            track.encrypted += 1
        listing.packets += 1
        listing.bytes += int(size)
        if enough(listing.packets):
            listing.whole = False
            break
    for track in tracks.values():
        track.finish()
    return listing


def _flags(rest: list[str]) -> int:
    # Only other flags than that of a key picture alone are written.
    return next((int(part[3:], 16) for part in rest if part.startswith(" F=")), _FLAG_KEY)


def _read_header(line: str, tracks: dict[int, Track]) -> None:
    name, _, value = line[1:].strip().partition(": ")
    key, _, stream = name.partition(" ")
    if not stream.isdigit():
        return
    track = tracks.setdefault(int(stream), Track())
    match key:
        case "tb":
            track.time_base = Fraction(value)
        case "media_type":
            track.kind = value
        case "codec_id":
            track.codec = value
        case "dimensions":
            width, _, height = value.partition("x")
            track.width, track.height = int(width), int(height)
        case "sar":
            above, below = map(int, value.split("/", 1))
            track.sar = Fraction(above, below) if above > 0 and below > 0 else Fraction(1)
        case "sample_rate":
            track.sample_rate = int(value)
        case "channel_layout_name":
            track.channel_layout = value or None
