"""Sums over the packets of one stream: number, start and end, and irregularities. No IO."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import compress
from operator import ge, sub

NO_TIME = -(2**63)
FLAG_KEY = 1
_FLAG_CORRUPT = 2
_FLAG_DISCARD = 4
# No codec here reorders further than this many pictures.
_REORDER = 32
# Of MPEG-1 and -2 between two other pictures, in practice.
_MOST_B_PICTURES = 4
_MOST_LENGTHS = 1000
# Single packets with the time of the one before are a fault of a recorder; so many are not.
_STAYS_BACK = 5
# Longer gaps than this, in seconds, are no pause but a clock that jumps, where a container allows that (ffmpeg closes
# them there: its option dts_delta_threshold).
_AHEAD_S = 10


@dataclass(slots=True)
class Sums:
    """The sums over one stream's packets; times in ticks of `time_base`.

    Attributes:
        leading: packets before the first key picture, which no decoder can show; they are not counted otherwise.
        early: packets right after the first key picture that are shown before it. A decoder leaves them out where they
            need pictures from before the file begins (RASL pictures of H.265).
        hidden: packets that an edit list hides.
        encrypted: packets that only a key makes readable.
        lengths: how many packets have which length of their own.
        held: packets whose time of decoding does not rise. ffmpeg lists those of a clock that goes back so.
        ahead: how often the clock jumps ahead.
        rewound: where the pictures or the sound ended when the clock went back for the first time, and stayed back.
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
    hidden: int = 0
    encrypted: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    held: int = 0
    ahead: int = 0
    rewound: int | None = None
    first: int | None = None
    last: int | None = None
    last_duration: int = 0
    smallest_gap: int | None = None
    largest_gap: int | None = None
    _window: list[int] = field(default_factory=list)
    _sorted_up_to: int | None = None
    _keyed: bool = False
    _untimed_key: bool = False
    _open_key: int | None = None
    _key_time: int | None = None
    _last_key: int | None = None
    _key_gap: int = 0
    _dts: int | None = None
    _jump: int = 0
    _held_together: int = 0
    _delay: int = 0
    _last_is_guessed: bool = False
    _hidden_within: int = 0
    _hidden_last: int = 0

    def add(self, pts: int, duration: int, flags: int, *, dts: int = NO_TIME) -> None:
        """Count one packet; those that an edit list hides are not counted as frames.

        AVI and MPEG-PS have files without times of presentation; their length is that of their times of decoding.
        """
        if flags & FLAG_KEY:
            self._follow_keys(pts)
        elif self._untimed_key:
            self._find_time_of_key(pts, dts)
        elif self._open_key is not None and NO_TIME < pts <= self._open_key:
            self.early += not flags & _FLAG_DISCARD
        self._follow_clock(dts)
        if flags & _FLAG_CORRUPT:
            self.corrupt += 1
        if flags & _FLAG_DISCARD:
            self.hidden += 1
            self._hidden_last += duration if self.shown else 0
            return
        self._hidden_within, self._hidden_last = self._hidden_within + self._hidden_last, 0
        self.shown += 1
        if duration in self.lengths or len(self.lengths) < _MOST_LENGTHS:
            self.lengths[duration] += 1
        if pts == NO_TIME:
            self._guess(dts, duration)
        else:
            if self.shown == 1 and dts != NO_TIME:
                self._delay = pts - dts
            self._place(pts, duration)

    def add_alike(self, pts: list[int], durations: list[int], dts: list[int], keys: list[bool]) -> bool:
        """Count packets that have no flags but that of key pictures; the same as `add` of one after the other.

        False, and none is counted, where the times or the lengths need a look at each packet.
        """
        if not self._keyed or self._open_key is not None or self._untimed_key or not self.shown or self._dts is None:
            return False
        steps = list(map(sub, dts, [self._dts, *dts]))
        if min(*steps, min(pts) - NO_TIME, min(dts) - NO_TIME) <= 0 or max(steps) > self._jump:
            return False
        if len(self.lengths.keys() | set(durations)) > _MOST_LENGTHS or not self._follow_times(pts):
            return False
        self._hidden_within, self._hidden_last = self._hidden_within + self._hidden_last, 0
        self._held_together, self._dts = 0, dts[-1]
        for time in compress(pts, keys) if self.kind == "video" else ():
            self._key_gap, self._last_key = self.key_gap_to(time), time
        self.shown += len(pts)
        self.lengths.update(durations)
        self._span(pts, durations)
        return True

    def _span(self, pts: list[int], durations: list[int]) -> None:
        first, last = min(pts), max(pts)
        self.first = first if self.first is None else min(self.first, first)
        if self.last is None or last >= self.last:
            place = len(pts) - 1 - pts[::-1].index(last)
            self.last, self.last_duration, self._last_is_guessed = last, durations[place], False

    def _follow_times(self, pts: list[int]) -> bool:
        """Measure gaps; False where a packet comes too late for putting it into order."""
        if self.kind == "audio":
            return True
        ordered = sorted([*self._window, *pts])
        waiting = max(0, len(ordered) - _REORDER)
        if not all(map(ge, pts[len(pts) - waiting + 1 :], ordered[1:])):
            return False
        out, self._window = ordered[:waiting], ordered[waiting:]
        if out:
            before = out[0] if self._sorted_up_to is None else self._sorted_up_to
            gaps = list(map(sub, out, [before, *out]))[self._sorted_up_to is None :]
            self._sorted_up_to = out[-1]
            if gaps:
                self._note_gap(min(gaps))
                self._note_gap(max(gaps))
        return True

    def _guess(self, dts: int, duration: int) -> None:
        self.untimed += 1
        if dts != NO_TIME:
            self._place(dts, duration)
            self._last_is_guessed = self.last == dts

    def _place(self, pts: int, duration: int) -> None:
        if self.first is None or pts < self.first:
            self.first = pts
        if self.last is None or pts >= self.last:
            self.last, self.last_duration, self._last_is_guessed = pts, duration, False
        # Whether sound is even is of no interest.
        if self.kind == "audio":
            return
        if len(self._window) < _REORDER:
            heapq.heappush(self._window, pts)
        else:
            self._measure_gap(heapq.heappushpop(self._window, pts))

    def _follow_keys(self, pts: int) -> None:
        if self._keyed:
            # What is shown before the second key picture may need the first.
            self._open_key, self._untimed_key = None, False
            if self.kind == "video" and pts != NO_TIME:
                self._key_gap, self._last_key = self.key_gap_to(pts), pts
            return
        self._keyed = True
        self._last_key = None if pts == NO_TIME else pts
        self._untimed_key = self.kind == "video" and pts == NO_TIME
        self._open_key = self._key_time = None if self._untimed_key else pts
        self._begin_again()

    def _find_time_of_key(self, pts: int, dts: int) -> None:
        """Where MPEG-PS leaves the time of the first key picture out, it is when the next reference is decoded.

        B pictures, which are shown when they are decoded, stand between the two.
        """
        if pts == dts and self.early < _MOST_B_PICTURES:
            self.early += 1
            return
        self._untimed_key = False
        if dts in (pts, NO_TIME):
            self.early = 0
        else:
            self._key_time = dts

    def _begin_again(self) -> None:
        """Forget what came before the first key picture; sound has keys only."""
        self.leading, self.shown, self.untimed, self.corrupt = self.shown, 0, 0, 0
        self.lengths.clear()
        self.first = self.last = self.smallest_gap = self.largest_gap = self._sorted_up_to = None
        self._window.clear()

    def _follow_clock(self, dts: int) -> None:
        if dts == NO_TIME:
            return
        if self._dts is not None:
            if dts <= self._dts:
                self._hold()
                return
            self._held_together = 0
            if dts - self._dts > self._jump:
                self.ahead += 1
        else:
            # Arithmetic with fractions for each packet would take as long as everything else.
            self._jump = math.floor(_AHEAD_S / self.time_base)
        self._dts = dts

    def _hold(self) -> None:
        """Count a packet whose time is not later; ffmpeg lists it with the time that went before."""
        self.held += 1
        self._held_together += 1
        if self._held_together == _STAYS_BACK and self.rewound is None and self.last is not None:
            self.rewound = self.last + next((length for length, _ in self.lengths.most_common(1)), 0)

    def settle(self) -> None:
        """Take the times of a listing that was made without the file's own clock for those of pictures and samples.

        ffmpeg guesses the times of packets: it knows when one is decoded, which is earlier, and counts those too that
        an edit list hides.
        """
        if self.first is None or self.last is None:
            return
        if self.kind == "video" and self.untimed:
            self.first = max(self.first, 0)
            self.last += self._delay if self._last_is_guessed else 0
        self.last -= self._hidden_within

    def finish(self) -> None:
        """Account for the packets that were still waiting to be put into order."""
        while self._window:
            self._measure_gap(heapq.heappop(self._window))

    def _measure_gap(self, pts: int) -> None:
        if self._sorted_up_to is not None:
            self._note_gap(pts - self._sorted_up_to)
        self._sorted_up_to = pts

    def _note_gap(self, gap: int) -> None:
        if self.smallest_gap is None or gap < self.smallest_gap:
            self.smallest_gap = gap
        if self.largest_gap is None or gap > self.largest_gap:
            self.largest_gap = gap

    def key_gap_to(self, pts: int | None) -> int:
        """The longest time between two key pictures, or from the last one to this time, in ticks."""
        return self._key_gap if self._last_key is None or pts is None else max(self._key_gap, pts - self._last_key)
