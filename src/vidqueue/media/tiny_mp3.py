"""Recognising an MP3 file of a few frames: ffmpeg wants to see more of them, and takes it for a broadcast."""

from __future__ import annotations

import os

# With more frames ffmpeg itself is sure.
_LARGEST = 16 * 1024
_FEWEST = 2
_TAG, _TAG_HEAD, _TAG_AT_END = b"ID3", 10, b"TAG"
_KBIT = {
    1: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44_100, 48_000, 32_000)
# By the two bits of a frame that tell the version of MPEG audio (1, 2, 2.5): the table of rates, and what divides them.
_VERSIONS = {3: (1, 1), 2: (2, 2), 0: (2, 4)}


def is_tiny_mp3(descriptor: int) -> bool:
    """True if a small file is nothing but frames of MPEG audio of layer 3, perhaps with tags."""
    if not 0 < os.fstat(descriptor).st_size <= _LARGEST:
        return False
    data = os.pread(descriptor, _LARGEST, 0)
    at, frames = _behind_tag(data), 0
    while size := _frame_size(data[at : at + 4]):
        at, frames = at + size, frames + 1
    # The last one may be cut off.
    return frames >= _FEWEST and (at >= len(data) or data.startswith(_TAG_AT_END, at))


def _behind_tag(data: bytes) -> int:
    if not data.startswith(_TAG) or len(data) < _TAG_HEAD:
        return 0
    # Seven bits of each byte count.
    return _TAG_HEAD + sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(data[6:_TAG_HEAD])))


def _frame_size(head: bytes) -> int:
    """How many bytes the frame with this head has; 0 if it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # the sync word, and layer 3
        return 0
    version, kbit, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version not in _VERSIONS or kbit in (0, 15) or rate == 3:
        return 0
    table, divisor = _VERSIONS[version]
    padding = head[2] >> 1 & 1
    return (144 // table) * _KBIT[table][kbit - 1] * 1000 // (_RATES[rate] // divisor) + padding
