"""Writing the Matroska elements that give raw frames in a pipe exact timestamps and durations (RFC 9559).

A raw video pipe has no clock, so variable frame rates die in it. Each picture goes into a cluster of its own, stamped
in nanoseconds: coarse enough for 64 bits, fine enough that every time base in use comes back exactly.
"""

from __future__ import annotations

import struct
from fractions import Fraction

from vidqueue.media.hdr import NO_METADATA, StaticMetadata
from vidqueue.media.picture import PictureFormat

_NANOSECOND = Fraction(1, 1_000_000_000)
_UNKNOWN_SIZE = b"\x01\xff\xff\xff\xff\xff\xff\xff"

_EBML = b"\x1a\x45\xdf\xa3"
_DOC_TYPE = b"\x42\x82"
_SEGMENT = b"\x18\x53\x80\x67"
_INFO = b"\x15\x49\xa9\x66"
_TIMESTAMP_SCALE = b"\x2a\xd7\xb1"
_TRACKS = b"\x16\x54\xae\x6b"
_TRACK_ENTRY = b"\xae"
_TRACK_NUMBER = b"\xd7"
_TRACK_UID = b"\x73\xc5"
_TRACK_TYPE = b"\x83"
_TRACK_TYPE_VIDEO = 1
_DEFAULT_DURATION = b"\x23\xe3\x83"
_CODEC_ID = b"\x86"
_VIDEO = b"\xe0"
_PIXEL_WIDTH = b"\xb0"
_PIXEL_HEIGHT = b"\xba"
_UNCOMPRESSED_FOURCC = b"\x2e\xb5\x24"
_COLOUR = b"\x55\xb0"
_MAX_CLL = b"\x55\xbc"
_MAX_FALL = b"\x55\xbd"
_MASTERING = b"\x55\xd0"
# x and y of red, green, blue and white, then the most and the least light.
_CHROMATICITIES = tuple(bytes([0x55, low]) for low in range(0xD1, 0xD9))
_MOST_LIGHT = b"\x55\xd9"
_LEAST_LIGHT = b"\x55\xda"
_PROJECTION = b"\x76\x70"
_PROJECTION_TYPE = b"\x76\x71"
_EQUIRECTANGULAR = 1
_CLUSTER = b"\x1f\x43\xb6\x75"
_TIMESTAMP = b"\xe7"
_BLOCK_GROUP = b"\xa0"
_BLOCK = b"\xa1"
_BLOCK_DURATION = b"\x9b"
# Track 1, time relative to the cluster 0, no flags.
_BLOCK_HEAD = b"\x81\x00\x00\x00"

_FOURCC = {8: b"I420", 10: b"Y3\x0b\x0a"}


def stream_head(
    picture: PictureFormat, fps: float, static: StaticMetadata = NO_METADATA, *, equirectangular: bool = False
) -> bytes:
    """The bytes before the first frame.

    Args:
        picture: layout of the frames.
        fps: the nominal rate, which some encoders use.
        static: metadata of HDR, which ffmpeg hands on to the encoder.
        equirectangular: True for a 360 degree video of this projection, which ffmpeg hands on to the file.
    """
    nominal = min(max(fps, 1.0), 240.0)
    video = (
        _number(_PIXEL_WIDTH, picture.width)
        + _number(_PIXEL_HEIGHT, picture.height)
        + _element(_UNCOMPRESSED_FOURCC, _FOURCC[picture.depth])
        + _colour(static)
        + (_element(_PROJECTION, _number(_PROJECTION_TYPE, _EQUIRECTANGULAR)) if equirectangular else b"")
    )
    track = (
        _number(_TRACK_NUMBER, 1)
        + _number(_TRACK_UID, 1)
        + _number(_TRACK_TYPE, _TRACK_TYPE_VIDEO)
        + _number(_DEFAULT_DURATION, round(1e9 / nominal))
        + _element(_CODEC_ID, b"V_UNCOMPRESSED")
        + _element(_VIDEO, video)
    )
    return (
        _element(_EBML, _element(_DOC_TYPE, b"matroska"))
        + _SEGMENT
        + _UNKNOWN_SIZE
        + _element(_INFO, _number(_TIMESTAMP_SCALE, 1))
        + _element(_TRACKS, _element(_TRACK_ENTRY, track))
    )


def _colour(static: StaticMetadata) -> bytes:
    light = b"".join(_number(name, value) for name, value in zip((_MAX_CLL, _MAX_FALL), static.light, strict=False))
    names = (*_CHROMATICITIES, _LEAST_LIGHT, _MOST_LIGHT)
    display = b"".join(
        _element(name, struct.pack(">d", value)) for name, value in zip(names, static.display, strict=False)
    )
    mastering = _element(_MASTERING, display) if display else b""
    return _element(_COLOUR, light + mastering) if light or mastering else b""


def picture_head(time_s: Fraction, duration_s: Fraction, size: int) -> bytes:
    """The bytes before each frame.

    Args:
        time_s: when it is shown, in seconds, not negative.
        duration_s: how long, in seconds.
        size: bytes of the picture that follow.
    """
    timestamp = _number(_TIMESTAMP, round(time_s / _NANOSECOND))
    duration = _number(_BLOCK_DURATION, round(duration_s / _NANOSECOND))
    block = _BLOCK + _size(len(_BLOCK_HEAD) + size) + _BLOCK_HEAD
    group = _BLOCK_GROUP + _size(len(duration) + len(block) + size) + duration + block
    return _CLUSTER + _size(len(timestamp) + len(group) + size) + timestamp + group


def _size(number: int) -> bytes:
    return (number | 1 << 56).to_bytes(8, "big")


def _element(name: bytes, body: bytes) -> bytes:
    return name + _size(len(body)) + body


def _number(name: bytes, value: int) -> bytes:
    return _element(name, value.to_bytes(8, "big"))
