"""The formats and codecs that ffmpeg may open, by policy: `safe`, `wide`, or a list. None refers to other files.

Names are those of ffmpeg's demuxers and codecs. Missing on purpose in both: hls, dash, concat, image2, lavfi, tty, sdp,
rtsp and others that read further files, render text, or have no business in a video queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

SAFE = "safe"
WIDE = "wide"

FORMATS = frozenset({
    "mov", "matroska", "avi", "mpegts", "ogg", "flv", "mpeg", "gif",
    "wav", "mp3", "flac", "aac", "png_pipe", "jpeg_pipe",
})  # fmt: skip

# What `wide` adds: formats of editing, of broadcasts and of the past.
WIDE_FORMATS = frozenset({
    "asf", "mxf", "dv", "nut", "apng", "webp_anim", "ivf", "wtv", "yuv4mpegpipe", "h264", "hevc", "m4v", "mpegvideo",
    "obu", "webp_pipe", "aiff", "caf", "w64", "amr", "ac3", "dts", "wv", "tta",
})  # fmt: skip
WIDE_VIDEO_CODECS = frozenset({
    "wmv1", "wmv2", "wmv3", "vc1", "msmpeg4v1", "ffv1", "huffyuv", "ffvhuff", "utvideo", "magicyuv", "qtrle", "cfhd",
    "hap", "rawvideo", "v210", "r210", "apng", "webp", "webp_anim", "mjpegb", "svq1", "svq3", "cinepak", "h261", "vp6",
    "vp6f", "vp7", "rpza", "msvideo1", "indeo5", "jpeg2000",
})  # fmt: skip
WIDE_AUDIO_CODECS = frozenset({
    "wmav1", "wmav2", "wmapro", "wmalossless", "truehd", "mlp", "wavpack", "tta", "speex", "adpcm_g722", "pcm_bluray",
    "pcm_dvd", "pcm_s16le_planar", "pcm_s16be_planar", "pcm_s24le_planar", "pcm_s32le_planar", "pcm_u16le", "adpcm_swf",
    "nellymoser", "qdm2", "gsm_ms",
})  # fmt: skip

STILL_FORMATS = frozenset({"png_pipe", "jpeg_pipe", "webp_pipe"})
MAY_BE_STILL = frozenset({"gif", "apng", "webp_anim"})

VIDEO_CODECS = frozenset({
    "h264", "hevc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v2", "msmpeg4v3", "h263",
    "flv1", "theora", "prores", "dnxhd", "mjpeg", "dvvideo", "gif", "png",
})  # fmt: skip

AUDIO_CODECS = frozenset({
    "aac", "mp3", "mp2", "opus", "vorbis", "flac", "alac", "ac3", "eac3", "dts", "amr_nb", "amr_wb",
    "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_u8",
    "aac_latm", "pcm_f32be", "pcm_f64le", "pcm_f64be", "pcm_s8",
    "pcm_alaw", "pcm_mulaw", "adpcm_ima_qt", "adpcm_ms", "adpcm_ima_wav",
})  # fmt: skip

# Text only, and read only where a container needs another kind of text; pictures of subtitles are never decoded.
SUBTITLE_CODECS = frozenset({"subrip", "ass", "webvtt", "mov_text", "text"})

# ffmpeg's whitelist holds names of decoders, and some codecs' decoders are called otherwise.
_DECODERS = {
    "av1": ("libdav1d", "av1"),
    "flv1": ("flv",),
    "mp3": ("mp3float", "mp3"),
    "mp2": ("mp2float", "mp2"),
    "dts": ("dca",),
    # These also read the transparency of WebM.
    "vp8": ("vp8", "libvpx"),
    "vp9": ("vp9", "libvpx-vp9"),
    "amr_nb": ("amrnb",),
    "amr_wb": ("amrwb",),
    "msmpeg4v3": ("msmpeg4",),
    "ass": ("ass", "ssa"),
    "subrip": ("subrip", "srt"),
    "gsm_ms": ("gsm_ms", "libgsm_ms"),
    "adpcm_g722": ("g722",),
    "speex": ("speex", "libspeex"),
    "webp": ("webp", "webp_anim"),
}


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a policy lets ffmpeg open."""

    formats: frozenset[str]
    video: frozenset[str]
    audio: frozenset[str]

    @property
    def format_whitelist(self) -> str:
        """The value of ffmpeg's `-format_whitelist`."""
        return ",".join(sorted(self.formats))

    @property
    def codec_whitelist(self) -> str:
        """The value of ffmpeg's `-codec_whitelist`."""
        names = (_DECODERS.get(codec, (codec,)) for codec in sorted(self.video | self.audio | SUBTITLE_CODECS))
        return ",".join(name for group in names for name in group)


_SAFE = Allowed(FORMATS, VIDEO_CODECS, AUDIO_CODECS)
_WIDE = Allowed(FORMATS | WIDE_FORMATS, VIDEO_CODECS | WIDE_VIDEO_CODECS, AUDIO_CODECS | WIDE_AUDIO_CODECS)


def known_names() -> frozenset[str]:
    """Every name that a policy may list."""
    return frozenset({SAFE, WIDE}) | _WIDE.formats | _WIDE.video | _WIDE.audio


@cache
def allowed(policy: tuple[str, ...]) -> Allowed:
    """What a policy allows: the names in it, where `safe` and `wide` stand for all of their names."""
    names = set(policy)
    for word, group in ((SAFE, _SAFE), (WIDE, _WIDE)):
        if word in names:
            names |= group.formats | group.video | group.audio
    return Allowed(_WIDE.formats & names, _WIDE.video & names, _WIDE.audio & names)


def unknown(policy: Sequence[str]) -> list[str]:
    """The names in a policy that no policy may have."""
    return sorted(set(policy) - known_names())
