"""Progress of an attempt: the reported value, a throttle for reports, an estimate of the time left. No IO."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Progress:
    """One progress report of a running attempt.

    Attributes:
        fraction: share of the work done, 0..1.
        stage: a short word for what happens now (`decode`, `encode`, `check`).
        message: a sentence for people.
        fps: pictures per second of wall time.
        speed: seconds of media per second of wall time.
        eta_s: seconds left, where it can be told.
    """

    fraction: float
    stage: str = ""
    message: str = ""
    fps: float | None = None
    speed: float | None = None
    eta_s: float | None = None


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of an attempt's log. `level` is debug, info, warning or error."""

    text: str
    level: str = "info"


# A preview is a JPEG of at most so many bytes, and there is at most one in so many seconds.
PREVIEW_BYTES = 65_536
PREVIEW_EVERY_S = 1.0


def is_preview(picture: bytes) -> bool:
    """True if these bytes can be a preview: they begin and end as a JPEG, and are not too many."""
    return len(picture) <= PREVIEW_BYTES and picture.startswith(b"\xff\xd8\xff") and picture.endswith(b"\xff\xd9")


@dataclass(slots=True)
class Throttle:
    """Limits progress reports to one per `interval_s`; a change of stage waits only `least_s`.

    A report that comes too soon is late, not lost: `due_at` says when the newest one may be written. Moments are
    monotonic clock readings in seconds, given by the caller so that tests need no clock.
    """

    interval_s: float = 0.5
    least_s: float = 0.1
    _written_at: float = field(default=float("-inf"), init=False)
    _stage: str | None = field(default=None, init=False)

    def due_at(self, progress: Progress) -> float:
        """Return the time from which this report may be written."""
        return self._written_at + (self.interval_s if progress.stage == self._stage else self.least_s)

    def wrote(self, progress: Progress, now: float) -> None:
        """Remember that this report was written."""
        self._written_at, self._stage = now, progress.stage


def eta_s(fraction: float, elapsed_s: float) -> float | None:
    """Return the seconds left at the average speed so far; None while there is too little to estimate from."""
    if fraction <= 0.01 or elapsed_s < 0.5:
        return None
    return elapsed_s * (1 - fraction) / fraction


def share_of(told: object) -> float:
    """Clamp a reported progress to a number from 0 to 1; 0 if it is not a number."""
    number = _number(told)
    return 0.0 if math.isnan(number) else min(max(number, 0.0), 1.0)


def is_share(told: object, rounding: float) -> bool:
    """True for a number from 0 to 1, or at most `rounding` beyond."""
    return -rounding <= _number(told) <= 1 + rounding


def _number(told: object) -> float:
    try:
        return float(told)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def eta_of_whole(left_s: float | None, fraction: float, end: float) -> float | None:
    """Return the remaining seconds of the whole work, given those of a step that ends at the share `end`.

    The rest is assumed to proceed as fast as the step. None if the step has ended and others follow.
    """
    if left_s is None or end >= 1:
        return left_s
    return left_s * (1 - fraction) / (end - fraction) if fraction < end else None
