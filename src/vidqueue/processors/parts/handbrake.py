"""Translates presets that HandBrake exports (JSON) into parameters of `transcode`. No IO.

Settings without a counterpart are not ignored silently: `left_out` names them in a warning of the result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_CONTAINERS = {"av_mp4": "mp4", "mp4": "mp4", "av_mkv": "mkv", "mkv": "mkv", "av_webm": "webm", "webm": "webm"}
# HandBrake's encoders, with codec and encoder here.
_ENCODERS = {
    "x264": ("h264", "auto"), "x264_10bit": ("h264", "auto"), "x265": ("h265", "auto"), "x265_10bit": ("h265", "auto"),
    "x265_12bit": ("h265", "auto"), "svt_av1": ("av1", "auto"), "svt_av1_10bit": ("av1", "auto"),
    "VP9": ("vp9", "auto"), "VP9_10bit": ("vp9", "auto"), "nvenc_h264": ("h264", "nvenc"),
    "nvenc_h265": ("h265", "nvenc"), "nvenc_h265_10bit": ("h265", "nvenc"),
}  # fmt: skip
_FAST = ("ultrafast", "superfast", "veryfast", "faster", "fastest", "8", "9", "10", "11", "12", "13", "fp", "hp")
_SLOW = ("slow", "slower", "veryslow", "placebo", "slowest", "0", "1", "2", "3", "4", "hq")
_CHANNELS = {"mono": "mono", "stereo": "stereo", "dpl1": "stereo", "dpl2": "stereo"}
_OFF = ("", "off", "none", "auto", "angle=0|hflip=0", "disable=1", False, 0, None)
# Keys that change the result and have no counterpart, with the values that disable them.
_WITHOUT_COUNTERPART = {
    "PictureRotate": _OFF, "PictureDenoiseFilter": _OFF, "PictureSharpenFilter": _OFF, "PictureDeblockPreset": _OFF,
    "PictureDetelecine": _OFF, "PictureChromaSmoothPreset": _OFF, "PictureColorspacePreset": _OFF,
    "PicturePadMode": _OFF, "VideoGrayScale": _OFF, "VideoTune": _OFF, "VideoProfile": _OFF, "VideoLevel": _OFF,
    "VideoOptionExtra": _OFF, "SubtitleAddForeignAudioSearch": _OFF, "ChapterMarkers": (True, None),
    # 2 crops nothing; the others find black bars, or crop by hand.
    "PictureCropMode": (2, None),
}  # fmt: skip
_NUMBER = re.compile(r"\d{1,3}(?:\.\d{1,6})?", re.ASCII)
_DEEPEST = 8


def parameters(preset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of `transcode` for a preset.

    Raises:
        ValueError: it is not a preset, or needs an unsupported codec or container.
    """
    one = _chosen(preset)
    given: dict[str, Any] = {}
    if (kind := one.get("FileFormat")) is not None:
        given["container"] = _known(_CONTAINERS, kind, "FileFormat")
    given["codec"], given["encoder"] = _known(_ENCODERS, one.get("VideoEncoder", "x264"), "VideoEncoder")
    given |= _quality(one) | _picture(one) | _sound(one)
    if one.get("SubtitleTrackSelectionBehavior", "none") == "none":
        given["subtitles"] = "drop"
    if one.get("MetadataPassthrough") is False:
        given["metadata"] = "none"
    return given


def left_out(preset: Mapping[str, Any]) -> list[str]:
    """Return a warning that names the settings of a preset without a counterpart; none if all have one."""
    one = _chosen(preset)
    names = [name for name, nothing in _WITHOUT_COUNTERPART.items() if one.get(name) not in nothing]
    names += ["the 10 bits of x264"] if one.get("VideoEncoder") == "x264_10bit" else []
    if len(_audio_list(one)) > 1:
        names.append("AudioList beyond its first")
    return [f"Settings of the HandBrake preset that are not applied: {', '.join(names)}."] if names else []


def _chosen(preset: Mapping[str, Any]) -> Mapping[str, Any]:
    """The default preset of a file, else its first."""
    leaves = list(_leaves(preset, _DEEPEST))
    if not leaves:
        raise ValueError("it is not a HandBrake preset: it has no VideoEncoder")
    return next((one for one in leaves if one.get("Default") is True), leaves[0])


def _leaves(one: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    if not isinstance(one, Mapping) or depth == 0:
        return
    children = one.get("PresetList") or one.get("ChildrenArray")
    if isinstance(children, list) and children:
        for child in children[:1000]:
            yield from _leaves(child, depth - 1)
    elif isinstance(one.get("VideoEncoder"), str):
        yield one


def _known(table: Mapping[str, Any], value: Any, key: str) -> Any:
    if not isinstance(value, str) or value not in table:
        raise ValueError(f"the preset has the {key} {str(value)[:40]!r}; known are {', '.join(table)}")
    return table[value]


def _number(one: Mapping[str, Any], key: str) -> float:
    value = one.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6 else 0.0


def _quality(one: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    # 2 is a constant quality, 1 a bitrate.
    if one.get("VideoQualityType", 2) == 1 and (kbit := round(_number(one, "VideoAvgBitrate"))):
        given["bitrate_kbit"] = kbit
    elif (slider := one.get("VideoQualitySlider")) is not None:
        given["crf"] = _crf(slider)
    preset = one.get("VideoPreset")
    if isinstance(preset, str) and preset:
        given["effort"] = "fast" if preset in _FAST else "slow" if preset in _SLOW else "medium"
    return given


def _crf(slider: Any) -> int:
    # Anything else taken for 0 would ask for the largest file there is.
    if isinstance(slider, bool) or not isinstance(slider, int | float):
        raise ValueError(f"the preset has the VideoQualitySlider {str(slider)[:40]!r}, which is not a number")
    return round(max(0, min(63, slider)))


def _picture(one: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for side, key in (("max_width", "PictureWidth"), ("max_height", "PictureHeight")):
        if (pixels := round(_number(one, key))) >= 16:
            given[side] = pixels
    rate = str(one.get("VideoFramerate", "auto"))
    if _NUMBER.fullmatch(rate) and float(rate) > 0:
        given["fps" if one.get("VideoFramerateMode") == "cfr" else "max_fps"] = float(rate)
    if one.get("PictureDeinterlaceFilter") == "off":
        given["deinterlace"] = "off"
    if isinstance(one.get("Optimize"), bool):
        given["faststart"] = one["Optimize"]
    return given


def _sound(one: Mapping[str, Any]) -> dict[str, Any]:
    sounds = [sound for sound in _audio_list(one) if isinstance(sound, Mapping)]
    behavior = one.get("AudioTrackSelectionBehavior", "first")
    if behavior == "none" or not sounds:
        return {"audio": "drop"}
    encoder = str(sounds[0].get("AudioEncoder", "copy"))
    given = {
        "audio": "keep" if encoder.startswith("copy") else "web" if "aac" in encoder else "reencode",
        "audio_tracks": "all" if behavior == "all" else "first",
    }
    if channels := _CHANNELS.get(str(sounds[0].get("AudioMixdown", ""))):
        given["channels"] = channels
    return given


def _audio_list(one: Mapping[str, Any]) -> list[Any]:
    sounds = one.get("AudioList")
    if sounds is not None and not isinstance(sounds, list):
        raise ValueError("the AudioList of the preset is not a list")
    return sounds or []
