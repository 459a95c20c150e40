"""Time windows: which rules there are, and when they are open, also over changes of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from vidqueue.ops import windows


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# 2026-03-02 is a Monday.
@pytest.mark.parametrize(
    ("rules", "zone", "now", "is_open", "until"),
    [
        ([], "UTC", "2026-03-02T12:00", True, None),
        (["22:00-07:00"], "UTC", "2026-03-02T12:00", False, "2026-03-02T22:00"),
        (["22:00-07:00"], "UTC", "2026-03-02T22:00", True, "2026-03-03T07:00"),
        (["22:00-07:00"], "UTC", "2026-03-02T06:59", True, "2026-03-02T07:00"),
        (["22:00-07:00"], "UTC", "2026-03-02T07:00", False, "2026-03-02T22:00"),
        (["sat-sun"], "UTC", "2026-03-02T12:00", False, "2026-03-07T00:00"),
        (["sat-sun"], "UTC", "2026-03-07T00:00", True, "2026-03-09T00:00"),
        (["fri-mon 20:00-06:00"], "UTC", "2026-03-03T05:00", True, "2026-03-03T06:00"),
        (["fri-mon 20:00-06:00"], "UTC", "2026-03-03T21:00", False, "2026-03-06T20:00"),
        (["mon,wed 09:00-10:00"], "UTC", "2026-03-02T10:00", False, "2026-03-04T09:00"),
        (["09:00-12:00", "12:00-14:00", "sat"], "UTC", "2026-03-02T11:00", True, "2026-03-02T14:00"),
        (["00:00-24:00"], "UTC", "2026-03-02T11:00", True, None),
        (["SAT 08:00-09:00"], "UTC", "2026-03-02T11:00", False, "2026-03-07T08:00"),
        (["22:00-07:00"], "Europe/Berlin", "2026-03-02T20:59", False, "2026-03-02T21:00"),
        # Night of the change to summer time: 07:00 comes an hour earlier.
        (["22:00-07:00"], "Europe/Berlin", "2026-03-28T23:00", True, "2026-03-29T05:00"),
        # 02:30 does not exist in that night.
        (["02:30-04:00"], "Europe/Berlin", "2026-03-29T00:00", False, "2026-03-29T01:30"),
        # Back to winter time.
        (["22:00-07:00"], "Europe/Berlin", "2026-10-24T23:00", True, "2026-10-25T06:00"),
    ],
)
def test_a_window_is_open_and_says_until_when(
    rules: list[str], zone: str, now: str, is_open: bool, until: str | None
) -> None:
    assert windows.look(rules, zone, at(now)) == windows.Opening(is_open, at(until) if until else None)


@pytest.mark.parametrize(
    "rule",
    ["", "22-07", "25:00-26:00", "22:00-22:00", "noon", "mon-", "mon 22:00", "24:01-03:00", "07:60-08:00", "x" * 99],
)
def test_what_is_no_window_is_refused_with_its_words(rule: str) -> None:
    with pytest.raises(ValueError, match=r"time|window"):
        windows.check([rule])
