"""Whether a file is a video, a picture or sound: judged by its facts, or by first bytes that are unmistakable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidqueue.errors import VidqueueError

HEAD = 64
_PICTURES = (b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*")
_PNG = b"\x89PNG\r\n\x1a\n"
_SOUND = (b"ID3", b"fLaC", b"\xff\xf1", b"\xff\xf9", b"#!AMR", b"MThd")
# An MPEG audio frame: eleven bits of synchronisation, a version and a layer that exist, and a rate that exists.
_LAYERS = {0x01, 0x02, 0x03}


def check_kind(kind: str, facts: Mapping[str, Any] | None, head: bytes) -> None:
    """Refuse a file that is certainly of another kind than a parameter takes.

    Args:
        kind: `video`, `audio`, `image`, `visual` (a video or a picture) or `any`.
        facts: what a probe found, as JSON; None or something else where there was none.
        head: the first bytes of the file, where they are at hand.

    Raises:
        VidqueueError: `no_video_stream`, `still_image`, `no_audio_stream` or `not_an_image`.
    """
    probed = facts is not None and "container" in facts and "is_still" in facts
    if kind == "any":
        return
    found = _by_facts(facts) if probed and facts is not None else _by_head(head)
    if found and not found & ({"video", "image"} if kind == "visual" else {kind}):
        raise _refusal(kind, found)


def _by_facts(facts: Mapping[str, Any]) -> set[str]:
    pictures = {"image" if facts["is_still"] else "video"} if facts.get("video") else set()
    # A cover is a picture in a file of sound; such a file is no picture.
    return pictures | ({"audio"} if facts.get("audio") else set()) or {"nothing"}


def _by_head(head: bytes) -> set[str]:
    """What the first bytes prove; empty where they prove nothing. A GIF and an animated PNG may be videos."""
    if head.startswith(_PICTURES) or (head.startswith(_PNG) and b"acTL" not in head):
        return {"image"}
    if head.startswith(_SOUND) or (head.startswith(b"RIFF") and head[8:12] == b"WAVE") or _is_mpeg_audio(head):
        return {"audio"}
    return set()


def _is_mpeg_audio(head: bytes) -> bool:
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4
    return version != 1 and layer in _LAYERS and rate not in (0, 15)


def _refusal(kind: str, found: set[str]) -> VidqueueError:
    what = {"image": "a single picture", "audio": "sound only", "nothing": "no media"}.get(
        next(iter(found)) if len(found) == 1 else "", "a video"
    )
    if kind == "video":
        if found == {"image"}:
            return VidqueueError("still_image", "A video is needed here; the file is a single picture.")
        return VidqueueError("no_video_stream", f"A video is needed here; the file has {what}.")
    if kind == "visual":
        return VidqueueError("no_video_stream", f"A video or a picture is needed here; the file has {what}.")
    if kind == "audio":
        return VidqueueError("no_audio_stream", f"Sound is needed here; the file has none, it is {what}.")
    return VidqueueError("not_an_image", f"A picture is needed here; the file has {what}.")
