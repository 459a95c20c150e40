"""Adding up packets: order, hidden packets, gaps, and damage."""

from __future__ import annotations

import cProfile
import pstats
import random
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from itertools import pairwise

import pytest

from vidqueue.media.listing import Listing, read_listing
from vidqueue.media.packets import Track

HEAD = ["#tb 0: 1/1000", "#media_type 0: video", "#codec_id 0: h264", "#dimensions 0: 64x48", "#sar 0: 4/3"]


def listing(*packets: tuple[int, int, str]) -> list[str]:
    return [*HEAD, *(f"0, {pts}, {pts}, {duration}, 100, 0x00{flags}" for pts, duration, flags in packets)]


def read(lines: list[str]) -> Listing:
    return read_listing([line.encode() + b"\n" for line in lines])


def track(*packets: tuple[int, int, str]) -> Track:
    return read(listing(*packets)).tracks[0]


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
    lines = listing(*((number, 1, "") for number in range(100)))
    found = read_listing((line.encode() + b"\n" for line in lines), lambda packets: packets >= 10)
    assert (found.whole, found.packets, found.bytes, found.tracks[0].shown) == (False, 10, 1000, 10)
    assert found.tracks[0].largest_gap == 1


@pytest.mark.parametrize(
    "line", ["0, 1", "0, 0, x, 1, 100, 0x0", "5, 0, 0, 1, 100, 0x0", "#tb 0: 1/x", "#dimensions 0: 4", "words", "0"]
)
def test_a_line_that_ffmpeg_does_not_write_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read([*HEAD, line])


def test_streams_are_kept_apart() -> None:
    lines = ["#tb 0: 1/10", "#tb 1: 1/100", "0, 0, 0, 1, 9, 0x0", "1, 0, 0, 1, 9, 0x0", "1, 1, 1, 1, 9, 0x0"]
    tracks = read(lines).tracks
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


def test_the_length_of_the_packets_is_that_of_no_clock() -> None:
    """Neither a clock that jumps nor a packet that is said to last until the next one makes a track longer."""
    jumping = track((0, 40, ""), (40, 40, ""), (600_000, 40, ""), (600_040, 40, ""))
    pieces = [(number * 40, 40, "") for number in range(20)]
    stretched = track(*pieces, (800, 599_200, ""), (600_000, 40, ""), (600_040, 40, ""))
    assert [jumping.duration_s, jumping.length_s] == pytest.approx([600.08, 0.16])
    assert [stretched.duration_s, stretched.length_s] == pytest.approx([600.08, 0.96])
    assert track((0, 0, ""), (40, 40, "")).length_s == 0


def test_lengths_that_are_rounded_up_make_no_track_longer() -> None:
    """Matroska says one millisecond of each packet of TrueHD, which lasts five sixths of one."""
    found = track(*((number * 5 // 6, 1, "") for number in range(1200)))
    assert found.length_s == pytest.approx(1.0, abs=0.002)


def test_pictures_at_the_very_time_of_the_first_key_picture_may_be_left_out() -> None:
    assert track((96, 40, ""), (96, 40, ", F=0x0"), (96, 40, ", F=0x0"), (216, 40, ", F=0x0")).early == 2


def test_a_key_picture_without_a_time_is_shown_when_the_next_reference_is_decoded() -> None:
    none = -(2**63)
    times = [(0, none, ""), (40, 40, ", F=0x0"), (80, 80, ", F=0x0"), (120, none, ", F=0x0"), (160, 160, ", F=0x0")]
    lines = [*HEAD, *(f"0, {dts}, {pts}, 40, 100, 0x00{flags}" for dts, pts, flags in times)]
    found = read(lines).tracks[0]
    assert found.early == 2
    assert found.early_s == pytest.approx(0.12)


def test_a_packet_costs_a_few_calls() -> None:
    """A film has a million packets; as many as these in a second take less time than ffmpeg does for reading them."""
    lines = listing(*((number * 40, 40, ", F=0x0" if number % 25 else "") for number in range(1000)))
    blocks = ["".join(f"{line}\n" for line in lines[start : start + 9]).encode() for start in range(0, len(lines), 9)]
    profile = cProfile.Profile()
    profile.runcall(read_listing, blocks)
    assert pstats.Stats(profile).total_calls < 15 * 1000  # type: ignore[attr-defined]


def test_packets_that_come_in_large_blocks_cost_no_calls() -> None:
    lines = listing(*((number * 40, 40, ", F=0x0" if number % 25 else "") for number in range(1000)))
    profile = cProfile.Profile()
    profile.runcall(read_listing, ["\n".join(lines[:100]).encode(), ("\n" + "\n".join(lines[100:]) + "\n").encode()])
    assert pstats.Stats(profile).total_calls < 3 * 1000  # type: ignore[attr-defined]


def any_packets(chance: random.Random) -> Iterator[str]:
    """Lines of two streams whose packets come in order, reordered, late, hidden, without times, or of another time."""
    yield from (*HEAD, "#tb 1: 1/1000", "#media_type 1: audio", "#codec_id 1: aac")
    clocks, none = [0, 0], -(2**63)
    for number in range(600):
        stream = chance.randrange(2)
        clocks[stream] += chance.choice((40, 40, 40, 40, 40, 40, 0, 41, -80, 20_000) if number % 200 > 150 else (40,))
        dts = clocks[stream]
        late = chance.randrange(4) * 40 if number < 300 else chance.choice((0, 4000))
        pts = none if chance.random() < 0.002 else dts + late * (not stream)
        flag = "" if stream or chance.random() < 0.1 else ", F=0x0"
        flag = chance.choice((", F=0x5", ", F=0x2")) if chance.random() < 0.004 else flag
        yield f"{stream}, {dts}, {pts}, {chance.choice((40, 40, 41))}, {chance.randrange(1000)}, 0x{number:08x}{flag}"


@pytest.mark.parametrize("seed", range(30))
def test_blocks_of_any_length_say_the_same(seed: int) -> None:
    chance = random.Random(seed)
    lines = list(any_packets(chance))
    text = ("\n".join(lines) + "\n").encode()
    size = chance.choice((100, 700, 5000, 50_000))
    blocks = read_listing(text[start : start + size] for start in range(0, len(text), size))
    assert sums(blocks) == sums(read(lines))


def sums(listing: Listing) -> list[dict[str, object]]:
    return [asdict(track) | {"packets": listing.packets, "bytes": listing.bytes} for track in listing.tracks.values()]
