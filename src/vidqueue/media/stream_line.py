"""One stream of an input as ffmpeg describes it: its words, and what they mean. No IO.

The words are outside bytes; every pattern is bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from vidqueue.media.facts import Colour

_PICTURE = re.compile(
    r", (?P<format>[a-z]\w{1,40})(?:\((?P<colour>(?:[^()]|\([^()]{0,80}\)){0,200})\))?, \d{1,9}x\d{1,9}"
)
_PROFILE = re.compile(r"\w{1,40} \((?P<profile>[^()/]{1,80})\)")
_CODEC = re.compile(r"[a-z]\w{1,40}", re.ASCII)
_IMPLIED = re.compile(r"none \(tmcd |bin_data \(text ")
_COLOUR_WORD = re.compile(r"(?:bt|smpte|film|fcc|gbr|ycgco|ictcp|iec|arib)[\w-]*")
_FIELD_ORDERS = ("top", "bottom")
_MARK = re.compile(r"\((comment|hearing impaired|visual impaired|dub|lyrics|karaoke|captions|descriptions)\)")


@dataclass(slots=True)
class StreamLine:
    """What ffmpeg says of one input stream.

    Attributes:
        text: what follows the kind.
        language: ISO 639-2, in three letters.
        rotation: clockwise, in degrees.
        cropping: pixels that a player hides at the left, right, top and bottom.
        dolby_vision: its profile; `dolby_vision_base` tells which other screens can show it, 0 for none.
        projection: how a 360 degree video is laid out.
        stereo: how a picture holds the views of both eyes.
        encrypted: True if the container says that only a key makes the stream readable.
        alpha: True if the container says that it stores transparency beside the pictures (WebM).
        programs: the programs of a broadcast that the stream belongs to; empty if there are none.
    """

    index: int
    kind: str
    text: str
    language: str | None = None
    rotation: int = 0
    cropping: tuple[int, int, int, int] = (0, 0, 0, 0)
    dolby_vision: int | None = None
    dolby_vision_base: int | None = None
    projection: str | None = None
    stereo: str | None = None
    encrypted: bool = False
    alpha: bool = False
    programs: set[int] = field(default_factory=set)

    @property
    def default(self) -> bool:
        """True if the file marks this stream as the one to play."""
        return "(default)" in self.text

    @property
    def forced(self) -> bool:
        """True if the file marks this stream as one to show to everybody."""
        return "(forced)" in self.text

    @property
    def marks(self) -> tuple[str, ...]:
        """What the file says that the track is for, such as `comment`."""
        return tuple(_MARK.findall(self.text))

    @property
    def codec(self) -> str:
        """The codec, of a stream whose packets are not listed; empty where ffmpeg does not know it."""
        found = _CODEC.match(self.text)
        return found[0] if found and found[0] != "none" else ""

    @property
    def implied(self) -> bool:
        """True if it is data that goes with something else: a timecode, or the titles of chapters."""
        return bool(_IMPLIED.match(self.text))

    @property
    def attached_picture(self) -> bool:
        """True if it is a cover, not a video."""
        return "(attached pic)" in self.text

    @property
    def profile(self) -> str | None:
        """The codec's profile, such as `Main 10`."""
        return found["profile"] if (found := _PROFILE.match(self.text)) else None

    @property
    def pixel_format(self) -> str:
        """Ffmpeg's name of the pixel format; empty when it could not tell."""
        return found["format"] if (found := _PICTURE.search(self.text)) else ""

    @property
    def colour(self) -> Colour:
        """The colour tags."""
        return _colour(self._colour_words())

    @property
    def interlaced(self) -> bool:
        """True if pictures come as two fields."""
        return any(word.startswith(_FIELD_ORDERS) for word in self._colour_words())

    def _colour_words(self) -> list[str]:
        found = _PICTURE.search(self.text)
        return [word.strip() for word in (found["colour"] or "").split(",")] if found else []


def _colour(words: list[str]) -> Colour:
    named = {"range": next((word for word in words if word in ("tv", "pc")), None)}
    for word in words:
        if word.count("/") == 2:
            named |= dict(zip(("space", "primaries", "transfer"), map(_known, word.split("/")), strict=True))
        elif _COLOUR_WORD.fullmatch(word):
            # One word stands for all three.
            named |= dict.fromkeys(("space", "primaries", "transfer"), word)
    return Colour(**named)


def _known(word: str) -> str | None:
    return None if word in ("unknown", "reserved") else word
