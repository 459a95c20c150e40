"""Parses the list of packets of ffmpeg's `framecrc` muxer, block by block and in bounded memory. No IO.

Everything in the listing is a number or a word of ffmpeg's own; no text of the file gets into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import compress
from operator import itemgetter

from vidqueue.media.packets import Track
from vidqueue.media.sums import FLAG_KEY

_NO_KEY = b"N\n"
_LONGEST_LINE = 1_000_000
# So few packets are read faster one by one.
_FEW = 10
# The streams of a block are picked out one after the other.
_MOST_TOGETHER = 8


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


def read_listing(blocks: Iterable[bytes], enough: Callable[[int], bool] = lambda _: False) -> Listing:
    """Add up a `framecrc` listing, which comes in blocks of any length, until its end.

    It ends earlier where `enough` says so of the number of packets; it is asked once a block.

    Raises:
        ValueError: a line is not as ffmpeg writes it.
    """
    listing = Listing()
    for lines in _whole_lines(blocks):
        if not _add_alike(lines, listing):
            for line in lines.decode("ascii", "replace").splitlines():
                _add_line(line, listing)
        if enough(listing.packets):
            listing.whole = False
            break
    for track in listing.tracks.values():
        track.finish()
    return listing


def _whole_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The blocks, each ended where a line ends."""
    rest = b""
    for block in blocks:
        lines, ended, begun = block.rpartition(b"\n")
        if ended:
            yield rest + lines + ended
            rest = begun
        else:
            rest += begun
            if len(rest) > _LONGEST_LINE:
                raise ValueError("a line without an end")
    if rest:
        yield rest


def _add_alike(lines: bytes, listing: Listing) -> bool:
    """Add packets of which nothing but numbers and the flag of key pictures is said; False where there are others.

    A film has millions of packets, so nothing here is done for each packet by Python itself.
    """
    count = lines.count(b"\n")
    if count < _FEW:
        return False
    marked = lines.replace(b", F=0x0\n", _NO_KEY)
    fields = marked.replace(b"\n", b",").split(b",")
    if len(fields) != 6 * count + 1 or b"#" in lines or b"=" in marked:
        return False
    streams, *columns, checksums = (fields[column:-1:6] for column in range(6))
    told = {name: int(name) for name in set(streams)}
    lengths = {length: int(length) for length in set(columns[2])}
    if len(told) > _MOST_TOGETHER or not listing.tracks.keys() >= set(told.values()):
        return False
    keys = list(map(b"N".__ne__, map(itemgetter(slice(-1, None)), checksums)))
    for name, number in told.items():
        of_it = list(map(name.__eq__, streams))
        dts, pts = (list(map(int, compress(column, of_it))) for column in columns[:2])
        durations = list(map(lengths.__getitem__, compress(columns[2], of_it)))
        _add_to(listing.tracks[number], pts, durations, dts, list(compress(keys, of_it)))
    listing.packets += len(keys)
    listing.bytes += sum(map(int, columns[3]))
    return True


def _add_to(track: Track, pts: list[int], durations: list[int], dts: list[int], keys: list[bool]) -> None:
    if not track.add_alike(pts, durations, dts, keys):
        for place, key in enumerate(keys):
            track.add(pts[place], durations[place], FLAG_KEY if key else 0, dts=dts[place])


def _add_line(line: str, listing: Listing) -> None:
    if line.startswith("#"):
        _read_header(line, listing.tracks)
        return
    stream, dts, pts, duration, size, rest = line.split(",", 5)
    if (track := listing.tracks.get(int(stream))) is None:
        raise ValueError(f"a packet of an unknown stream: {line[:80]}")
    # Most have a checksum only; flags and side data come after it.
    plain = "," not in rest
    track.add(int(pts), int(duration), FLAG_KEY if plain else _flags(rest), dts=int(dts))
    if not plain and ", Encryption info" in rest:
        track.encrypted += 1
    listing.packets += 1
    listing.bytes += int(size)


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
