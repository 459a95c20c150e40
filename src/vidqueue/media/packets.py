"""What the sums over the packets of one stream say: start, length, rate, and irregularities. No IO."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from vidqueue.media.sums import Sums


@dataclass(slots=True)
class Track(Sums):
    """One stream; times in seconds."""

    @property
    def start_s(self) -> float:
        """Time of the first packet, in seconds."""
        return float((self.first or 0) * self.time_base)

    @property
    def key_gap_s(self) -> float:
        """The longest time in which there is no key picture, in seconds."""
        return float(self.key_gap_to(self.last) * self.time_base)

    @property
    def cut(self) -> bool:
        """True if an edit list hides packets between others."""
        return self._hidden_within > 0

    @property
    def rewound_s(self) -> float | None:
        """`rewound` in seconds."""
        return None if self.rewound is None else float(self.rewound * self.time_base)

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
    def length_s(self) -> float:
        """The packets' own lengths together in seconds, whatever the clock says; 0 where they do not say it.

        MP4 stores the time until the next packet as the length of one. So one that is much longer than nine in ten of
        them has a gap behind it.
        """
        if 0 in self.lengths or sum(self.lengths.values()) < self.shown or not self.lengths:
            return 0.0
        most, left = 0, self.shown * 9 // 10
        for length, count in sorted(self.lengths.items()):
            most, left = 2 * length, left - count
            if left < 0:
                break
        total = sum(min(length, most) * count for length, count in self.lengths.items())
        if self.first is not None and self.last is not None:
            by_clock = self.last - self.first + self.tail
            # Matroska rounds each length to a millisecond, which is long for packets of TrueHD and DTS.
            if by_clock < total <= by_clock + self.shown:
                total = by_clock
        return float(total * self.time_base)

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
