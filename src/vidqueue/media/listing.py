"""Parses the list of packets of ffmpeg's `framecrc` muxer, line by line and in constant memory. No IO.

Everything in the listing is a number or a word of ffmpeg's own; no text of the file gets into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction

from vidqueue.media.packets import FLAG_KEY, Track


@dataclass(slots=True)
class Listing:
    """The tracks by their number in the listing, and how much was read: `whole` if all of it.

    `without` has the indices of streams that are not listed.
    """

    tracks: dict[int, Track] = field(default_factory=dict)
    packets: int = 0
    bytes: int = 0
    whole: bool = True
    without: frozenset[int] = frozenset()


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
        stream, dts, pts, duration, size, rest = line.split(",", 5)
        if (track := tracks.get(int(stream))) is None:
            raise ValueError(f"a packet of an unknown stream: {line[:80]}")
        # Most have a checksum only; flags and side data come after it.
        plain = "," not in rest
        track.add(int(pts), int(duration), FLAG_KEY if plain else _flags(rest), dts=int(dts))
        if not plain and ", Encryption info" in rest:
            track.encrypted += 1
        listing.packets += 1
        listing.bytes += int(size)
        if enough(listing.packets):
            listing.whole = False
            break
    for track in tracks.values():
        track.finish()
    return listing


def _flags(rest: str) -> int:
    # Only other flags than that of a key picture alone are written.
    _, found, flags = rest.partition(", F=")
    return int(flags.partition(",")[0], 16) if found else FLAG_KEY


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
