"""The whitelists of formats and codecs that ffmpeg may open: common ones, and none that refer to other files."""

from __future__ import annotations

# Names of ffmpeg's demuxers. Missing on purpose: hls, dash, concat, image2, lavfi, tty, sdp, rtsp, webp and other
# formats that read further files, render text, or have no business in a video queue.
FORMATS = frozenset({
    "mov", "matroska", "avi", "mpegts", "ogg", "flv", "mpeg", "gif",
    "wav", "mp3", "flac", "aac", "png_pipe", "jpeg_pipe",
})  # fmt: skip

STILL_FORMATS = frozenset({"png_pipe", "jpeg_pipe"})

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
    "amr_nb": ("amrnb",),
    "amr_wb": ("amrwb",),
    "msmpeg4v3": ("msmpeg4",),
    "ass": ("ass", "ssa"),
    "subrip": ("subrip", "srt"),
}


def format_whitelist() -> str:
    """The value of ffmpeg's `-format_whitelist`."""
    return ",".join(sorted(FORMATS))


def codec_whitelist() -> str:
    """The value of ffmpeg's `-codec_whitelist`."""
    names = (_DECODERS.get(codec, (codec,)) for codec in sorted(VIDEO_CODECS | AUDIO_CODECS | SUBTITLE_CODECS))
    return ",".join(name for group in names for name in group)
