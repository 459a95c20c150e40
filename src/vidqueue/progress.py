"""How far an attempt is: the value that travels, the throttle that thins it, the estimate of what is left. No IO."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Progress:
    """One sighting of a running attempt.

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


@dataclass(slots=True)
class Throttle:
    """Lets at most one progress report through per interval, and every change of stage.

    `now` is a monotonic clock reading in seconds, given by the caller so that tests need no clock.
    """

    interval_s: float = 0.5
    _last_at: float = field(default=float("-inf"), init=False)
    _last: Progress | None = field(default=None, init=False)

    def admits(self, progress: Progress, now: float) -> bool:
        """Whether this report is worth a write; remembers it if so."""
        stage_changed = self._last is None or progress.stage != self._last.stage
        if not stage_changed and now - self._last_at < self.interval_s:
            return False
        self._last_at, self._last = now, progress
        return True


def eta_s(fraction: float, elapsed_s: float) -> float | None:
    """Seconds left if the rest goes as the part before; None while there is too little to go by."""
    if fraction <= 0.01 or elapsed_s < 0.5:
        return None
    return elapsed_s * (1 - fraction) / fraction
