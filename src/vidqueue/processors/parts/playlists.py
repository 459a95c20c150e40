"""HLS playlists (RFC 8216): the master that names all renditions, and one for each rendition. No IO."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from vidqueue.media.fragments import Fragmented
from vidqueue.media.ladder import Rung

MEDIA_TYPE = "application/vnd.apple.mpegurl"
_NOT_QUOTED = re.compile(r'["\x00-\x1f\x7f-\x9f\u2028\u2029]')
_HEAD = ("#EXTM3U", "#EXT-X-VERSION:7")


@dataclass(frozen=True, slots=True)
class Track:
    """A track of sound or text: the name of its playlist without the ending, its language and title (may be empty)."""

    stem: str
    language: str
    title: str
    default: bool = False


@dataclass(frozen=True, slots=True)
class Renditions:
    """What a master playlist names: pictures (the largest first), sound and subtitles, and pictures a second or 0."""

    pictures: Sequence[tuple[Rung, Fragmented]]
    sounds: Sequence[tuple[Track, Fragmented]]
    texts: Sequence[Track]
    fps: float


def master(renditions: Renditions) -> str:
    """Return the master playlist."""
    lines = [*_HEAD, "#EXT-X-INDEPENDENT-SEGMENTS"]
    sounds = [found for _, found in renditions.sounds]
    lines += [_track("AUDIO", "sound", number, track) for number, (track, _) in enumerate(renditions.sounds, start=1)]
    lines += [_track("SUBTITLES", "text", number, track) for number, track in enumerate(renditions.texts, start=1)]
    for rung, found in renditions.pictures:
        attributes = {
            "BANDWIDTH": found.peak_rate + max((one.peak_rate for one in sounds), default=0),
            "AVERAGE-BANDWIDTH": found.mean_rate + max((one.mean_rate for one in sounds), default=0),
            "RESOLUTION": f"{rung.size[0]}x{rung.size[1]}",
            **({"FRAME-RATE": f"{renditions.fps:.3f}"} if renditions.fps else {}),
            "CODECS": f'"{",".join([found.codec, *sorted({one.codec for one in sounds})])}"',
            **({"AUDIO": '"sound"'} if sounds else {}),
            **({"SUBTITLES": '"text"'} if renditions.texts else {}),
        }
        told = ",".join(f"{name}={value}" for name, value in attributes.items())
        lines += [f"#EXT-X-STREAM-INF:{told}", f"{rung.path.stem}.m3u8"]
    return "\n".join(lines) + "\n"


def of_fragments(media: str, found: Fragmented) -> str:
    """Return the playlist of a rendition whose segments are byte ranges of one file."""
    lines = [*_opened(max(one.duration_s for one in found.fragments)), "#EXT-X-INDEPENDENT-SEGMENTS"]
    lines.append(f'#EXT-X-MAP:URI="{media}",BYTERANGE="{found.head}@0"')
    for one in found.fragments:
        lines += [f"#EXTINF:{one.duration_s:.6f},", f"#EXT-X-BYTERANGE:{one.size}@{one.offset}", media]
    return "\n".join([*lines, "#EXT-X-ENDLIST"]) + "\n"


def of_whole(media: str, duration_s: float) -> str:
    """Return the playlist of a rendition that is one file, such as WebVTT."""
    return "\n".join([*_opened(duration_s), f"#EXTINF:{duration_s:.6f},", media, "#EXT-X-ENDLIST"]) + "\n"


def _opened(longest_s: float) -> list[str]:
    # Lengths are rounded before they are compared with the target (RFC 8216, 4.3.3.1).
    return [*_HEAD, f"#EXT-X-TARGETDURATION:{max(1, math.floor(longest_s + 0.5))}", "#EXT-X-PLAYLIST-TYPE:VOD"]


def _track(kind: str, group: str, number: int, track: Track) -> str:
    # Names are told apart by their number; a quotation mark would end one, and a line end the line.
    name = _NOT_QUOTED.sub("", f"{number} {track.title or track.language}").strip()[:60]
    spoken = f',LANGUAGE="{track.language}"' if track.language else ""
    return (
        f'#EXT-X-MEDIA:TYPE={kind},GROUP-ID="{group}",NAME="{name}"{spoken},'
        f'DEFAULT={"YES" if track.default else "NO"},AUTOSELECT=YES,URI="{track.stem}.m3u8"'
    )
