"""Adding up packets: order, hidden packets, gaps, and damage."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise

import pytest

from vidqueue.media.packets import Track, read_listing

HEAD = ["#tb 0: 1/1000", "#media_type 0: video", "#codec_id 0: h264", "#dimensions 0: 64x48", "#sar 0: 4/3"]


def listing(*packets: tuple[int, int, str]) -> list[str]:
    return [*HEAD, *(f"0, {pts}, {pts}, {duration}, 100, 0x00{flags}" for pts, duration, flags in packets)]


def track(*packets: tuple[int, int, str]) -> Track:
    return read_listing(listing(*packets)).tracks[0]


def test_the_header_names_codec_size_pixel_shape_and_clock() -> None:
    found = track((0, 40, ""))
    assert (found.codec, found.width, found.height, found.sar) == ("h264", 64, 48, Fraction(4, 3))
    assert found.time_base == Fraction(1, 1000)


def test_the_end_is_the_last_shown_packet_not_the_last_listed_one() -> None:
    found = track((0, 40, ""), (120, 40, ""), (40, 40, ""), (80, 40, ""))
    assert found.duration_s == pytest.approx(0.16)
    assert found.fps == pytest.approx(25)


def test_reordered_packets_of_a_constant_rate_are_not_variable() -> None:
    order = [number ^ 3 for number in range(400)]
    assert not track(*((number * 40, 40, "") for number in order)).is_vfr


def test_rounding_to_milliseconds_is_not_variable() -> None:
    assert not track(*((round(number * 1000 / 24), 41, "") for number in range(100))).is_vfr


def test_one_late_picture_makes_it_variable() -> None:
    assert track((0, 40, ""), (40, 40, ""), (90, 40, ""), (120, 40, "")).is_vfr


def test_packets_that_an_edit_list_hides_are_not_counted() -> None:
    found = track((-80, 40, ", F=0x5"), (-40, 40, ", F=0x4"), (0, 40, ""), (40, 40, ", F=0x0"))
    assert found.shown == 2
    assert found.start_s == 0


def test_corrupt_packets_are_counted() -> None:
    assert track((0, 40, ""), (40, 40, ", F=0x2")).corrupt == 1


def test_a_last_packet_without_duration_lasts_as_long_as_the_average() -> None:
    assert track((0, 0, ""), (40, 0, ""), (80, 0, "")).duration_s == pytest.approx(0.12)


def test_packets_without_a_time_are_counted_but_not_measured() -> None:
    found = track((-(2**63), 40, ""), (0, 40, ""), (40, 40, ""))
    assert found.shown == 3
    assert found.duration_s == pytest.approx(0.08)


def test_reading_stops_where_it_was_told_to() -> None:
    found = read_listing(listing(*((number, 1, "") for number in range(100))), lambda packets: packets >= 10)
    assert (found.whole, found.packets, found.bytes, found.tracks[0].shown) == (False, 10, 1000, 10)
    assert found.tracks[0].largest_gap == 1


@pytest.mark.parametrize(
    "line", ["0, 1", "0, 0, x, 1, 100, 0x0", "5, 0, 0, 1, 100, 0x0", "#tb 0: 1/x", "#dimensions 0: 4", "words", "0"]
)
def test_a_line_that_ffmpeg_does_not_write_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_listing([*HEAD, line])


def test_streams_are_kept_apart() -> None:
    lines = ["#tb 0: 1/10", "#tb 1: 1/100", "0, 0, 0, 1, 9, 0x0", "1, 0, 0, 1, 9, 0x0", "1, 1, 1, 1, 9, 0x0"]
    tracks = read_listing(lines).tracks
    assert (tracks[0].shown, tracks[1].shown) == (1, 2)


@pytest.mark.parametrize("seed", range(20))
def test_gaps_do_not_depend_on_how_packets_are_reordered_within_reach(seed: int) -> None:
    chance = random.Random(seed)
    times = sorted(chance.sample(range(100_000), 300))
    shuffled = list(times)
    for start in range(0, 300, 16):
        block = shuffled[start : start + 16]
        chance.shuffle(block)
        shuffled[start : start + 16] = block
    found = track(*((pts, 1, "") for pts in shuffled))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert (found.smallest_gap, found.largest_gap) == (min(gaps), max(gaps))
