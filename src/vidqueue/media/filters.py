"""Building ffmpeg filter strings from numbers and known words only; text of a user or a file is never put into one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from vidqueue.media.facts import MULTIVIEW, Colour, VideoFacts

Deinterlace = Literal["auto", "on", "off"]

# Tags that ffmpeg's filters take by the same word with which its banner prints them; others are left out.
# ffmpeg's scaler refuses pictures with one of these; none of it changes how they are scaled.
_UNSCALED_SPACES = frozenset({"ycgco", "bt2020c", "smpte2085", "chroma-derived-nc", "chroma-derived-c", "ictcp"})
_UNSCALED_TRANSFERS = frozenset({"log100", "log316"})
_SPACES = frozenset({"bt709", "fcc", "bt470bg", "smpte170m", "smpte240m", "bt2020nc"}) | _UNSCALED_SPACES
_PRIMARIES = frozenset({
    "bt709", "bt470m", "bt470bg", "smpte170m", "smpte240m", "film", "bt2020", "smpte428", "smpte431", "smpte432",
    "ebu3213",
})  # fmt: skip
_TRANSFERS = _UNSCALED_TRANSFERS | {
    "bt709", "bt470m", "bt470bg", "smpte170m", "smpte240m", "linear", "iec61966-2-4", "iec61966-2-1", "bt1361e",
    "bt2020-10", "bt2020-12", "smpte2084", "smpte428", "arib-std-b67",
}  # fmt: skip

# The filter `scale` has its own words for two of them.
_SCALE_NAMES = {"bt2020nc": "bt2020", "bt2020c": "bt2020", "ycgco": "bt709", "bt470bg": "bt601", "smpte170m": "bt601"}
_RGB_NAMES = ("rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "x2rgb", "pal8")
_ALPHA_NAMES = ("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya8", "ya16")
# Of the picture's height: a deinterlacer looks at neighbouring lines.
_FEWEST_LINES = 8
_HD_LINES = 720
_DEINTERLACE = {"auto": "bwdif=mode=send_frame:deint=interlaced", "on": "bwdif=mode=send_frame:deint=all"}
# BT.2408: 203 cd/m2 is the white of SDR.
_TONE_MAPPED = (
    "zscale=t=linear:npl=203", "format=gbrpf32le", "zscale=p=bt709", "tonemap=hable:desat=0",
    "zscale=t=bt709:m=bt709:r=tv",
    # A screen that is told of a bright display would take the result for HDR.
    "sidedata=delete:type=MASTERING_DISPLAY_METADATA", "sidedata=delete:type=CONTENT_LIGHT_LEVEL",
)  # fmt: skip
_FINEST_TICK = Fraction(1, 90_000)
_COARSE_ENOUGH = 1_000_000
_FINEST_SHAPE = 65_535
# Pixel formats with a sample of colour for each pixel, or for two beside each other.
_FULL_COLOUR = re.compile("422|444|rgb|bgr|gbr|pal8")


@dataclass(frozen=True, slots=True)
class Treatment:
    """What is done to pictures unless someone wishes otherwise.

    Attributes:
        deinterlace: `auto` where the file says that it is interlaced.
        tone_map: whether high dynamic range becomes BT.709 where the result has eight bits.
        background: the colour behind transparent parts, as six hexadecimal digits.
        keeps_alpha: whether the result has transparency itself.
    """

    deinterlace: Deinterlace = "auto"
    tone_map: bool = True
    background: str = "000000"
    keeps_alpha: bool = False


USUAL = Treatment()


def is_rgb(pixel_format: str) -> bool:
    """True if the pixel format stores red, green and blue."""
    return pixel_format.startswith(_RGB_NAMES)


def has_alpha(pixel_format: str) -> bool:
    """True if the pixel format stores transparency."""
    return pixel_format.startswith(_ALPHA_NAMES)


def is_tone_mapped(video: VideoFacts, depth: int, how: Treatment = USUAL) -> bool:
    """True if the picture is brought from high to standard dynamic range: eight bits cannot hold PQ or HLG."""
    return video.colour.is_hdr and depth == 8 and how.tone_map


def conversions(video: VideoFacts, depth: int, how: Treatment = USUAL, result: VideoFacts | None = None) -> list[str]:
    """Return a sentence for each change of the picture that nobody has asked for, or that `result` does not tell of."""
    said = lost_marks(video, result)
    if video.clock_restarts:
        said.append("The clock of the file begins again or jumps; the parts were joined.")
    if is_tone_mapped(video, depth, how):
        said.append("HDR was converted to SDR (BT.709), because the result has 8 bits; codec h265 keeps it.")
    # Every GIF is said to have transparency; hardly one has.
    if has_alpha(video.pixel_format) and video.codec != "gif" and not how.keeps_alpha:
        behind = "black" if how.background == USUAL.background else f"#{how.background}"
        said.append(f"Transparent parts were blended with {behind}.")
    if _is_deinterlaced(video, how) and how.deinterlace == "auto":
        said.append("The video is interlaced; each pair of fields became one full picture.")
    return said


def lost_marks(video: VideoFacts, result: VideoFacts | None) -> list[str]:
    """Return a sentence for what a result does not say of its pictures any more; None is one that says nothing."""
    said = []
    if video.stereo == MULTIVIEW and (result is None or result.stereo != MULTIVIEW):
        said.append("Only one of the two views of the 3D video is shown; the other one is left out.")
    elif result is not None and result.stereo != video.stereo:
        said.append(f"The mark that the video is 3D ({video.stereo}) is left out; its pictures are as they were.")
    if video.dolby_vision is not None and (result is None or result.dolby_vision is None):
        said.append("The metadata of Dolby Vision is left out; the result is what other screens show of the video.")
    return said


def output_colour(video: VideoFacts, depth: int, how: Treatment = USUAL) -> Colour:
    """The colour tags of the output: those of the source, except that RGB and tone-mapped HDR become limited BT.709."""
    if is_rgb(video.pixel_format) or is_tone_mapped(video, depth, how):
        return Colour(range="tv", space="bt709", primaries="bt709", transfer="bt709")
    return video.colour


def even(size: tuple[int, int]) -> tuple[int, int]:
    """The largest size that 4:2:0 sampling can hold: an odd last column or row is dropped.

    Cropping one line keeps every other pixel as it was; padding would show a line that was never filmed, and
    scaling would soften the whole picture.
    """
    width, height = size
    return max(2, width - width % 2), max(2, height - height % 2)


def output_time_base(video: VideoFacts) -> Fraction:
    """The time base of the output: that of the source, so that timestamps stay exact, unless it is absurdly fine."""
    return video.time_base if video.time_base.denominator <= _COARSE_ENOUGH else _FINEST_TICK


def upright_yuv(video: VideoFacts, size: tuple[int, int], depth: int, how: Treatment = USUAL) -> str:
    """The filters that turn decoded frames (already cropped and rotated by ffmpeg) into 4:2:0 of exactly this size.

    Interlaced pictures are deinterlaced first, because scaling would mix the fields.

    Args:
        video: the source track.
        size: width and height in pixels, both even.
        depth: 8 or 10 bits.
        how: what else is done.
    """
    upright = video.upright
    cropped = even(upright)
    # The result has one view only and must not say otherwise.
    steps = ["sidedata=delete:type=STEREO3D"] if video.stereo == MULTIVIEW else []
    steps += deinterlacing(video, how)
    tone_mapped = is_tone_mapped(video, depth, how)
    if not tone_mapped:
        steps += unnamed(video.colour)
    elif video.colour.space in _UNSCALED_SPACES:
        steps += _TONE_MAPPED
    if has_alpha(video.pixel_format) and not how.keeps_alpha:
        steps += opaque(video, how.background)
    if size == cropped and min(upright) > 1:
        # A stream may change its size midway: every picture is brought back to the first size.
        steps.append(_scale(upright, video))
        if cropped != upright:
            steps += _without_odd_lines(video, cropped)
    else:
        steps.append(_scale(size, video))
    if tone_mapped and video.colour.space not in _UNSCALED_SPACES:
        steps += _TONE_MAPPED
    sar = video.upright_sar
    planes = "yuva420p" if how.keeps_alpha else "yuv420p10le" if depth > 8 else "yuv420p"
    steps += [f"format={planes}", shaped(sar)]
    return ",".join(steps)


def standard_yuv(video: VideoFacts, size: tuple[int, int]) -> str:
    """The filters that turn decoded frames into what all clips of a film share: 8-bit 4:2:0, BT.709, square pixels.

    Args:
        video: the source track.
        size: width and height in pixels, both even.
    """
    steps = deinterlacing(video, USUAL)
    scale = f"scale={size[0]}:{size[1]}:flags=bicubic+accurate_rnd"
    if video.colour.is_hdr:
        odd = video.colour.space in _UNSCALED_SPACES
        steps += [*_TONE_MAPPED, scale] if odd else [scale, *_TONE_MAPPED]
    else:
        steps += scalable(video.colour)
        matrix = ":in_color_matrix=bt709" if is_untagged_hd(video) else ""
        full = ":in_range=pc" if video.colour.range == "pc" and not is_rgb(video.pixel_format) else ""
        steps.append(f"{scale}{matrix}:out_color_matrix=bt709{full}:out_range=tv")
    tags = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    return ",".join([*steps, "format=yuv420p", "setsar=1", tags])


def transparent_over(video: VideoFacts, background: str, label: str) -> str:
    """The filters that lay a picture with transparent parts over a colour; empty where it has none.

    Args:
        video: the source track.
        background: as #rrggbb.
        label: a word that no other filter of the graph uses.
    """
    if not has_alpha(video.pixel_format):
        return ""
    return (
        f"format=rgba,split[{label}a][{label}b];[{label}a]drawbox=color={background}:thickness=fill:replace=1[{label}c];"
        f"[{label}c][{label}b]overlay=format=gbrp"
    )


def is_untagged_hd(video: VideoFacts) -> bool:
    """True if the file does not say its matrix and is of a size for which that is BT.709."""
    return not video.colour.space and min(video.upright) >= _HD_LINES and not is_rgb(video.pixel_format)


def tagged(colour: Colour) -> str:
    """The filter that sets colour tags on frames without any, such as those of a raw pipe; empty if none are known."""
    tags = [
        f"range={colour.range}" if colour.range in ("tv", "pc") else "",
        f"colorspace={colour.space}" if colour.space in _SPACES else "",
        f"color_primaries={colour.primaries}" if colour.primaries in _PRIMARIES else "",
        f"color_trc={colour.transfer}" if colour.transfer in _TRANSFERS else "",
    ]
    known = ":".join(filter(None, tags))
    return f"setparams={known}" if known else ""


def unnamed(colour: Colour) -> list[str]:
    """The filter that takes off the names of colours with which pictures cannot be scaled; `tagged` gives them back."""
    names = [
        *(["colorspace=unknown"] if colour.space in _UNSCALED_SPACES else []),
        *(["color_trc=unknown"] if colour.transfer in _UNSCALED_TRANSFERS else []),
    ]
    return [f"setparams={':'.join(names)}"] if names else []


def scalable(colour: Colour) -> list[str]:
    """The filters that bring pictures into colours from which ffmpeg's scaler can convert them."""
    return [
        *(["setparams=color_trc=unknown"] if colour.transfer in _UNSCALED_TRANSFERS else []),
        *(["zscale=m=bt709"] if colour.space in _UNSCALED_SPACES else []),
    ]


def deinterlacing(video: VideoFacts, how: Treatment) -> list[str]:
    """The filter that makes full pictures of fields, if there is need of it."""
    return [_DEINTERLACE[how.deinterlace]] if _is_deinterlaced(video, how) else []


def _is_deinterlaced(video: VideoFacts, how: Treatment) -> bool:
    wanted = how.deinterlace == "on" or (how.deinterlace == "auto" and video.interlaced)
    return wanted and min(video.upright) >= _FEWEST_LINES


def opaque(video: VideoFacts, background: str = USUAL.background) -> list[str]:
    """Filters that blend transparent parts with a colour: what lies hidden there must not appear."""
    deep = "10le" if video.bit_depth > 8 else ""
    rgb = is_rgb(video.pixel_format) or video.pixel_format.startswith("ya")
    if background == USUAL.background:
        return [f"format={'gbrap' if rgb else 'yuva444p'}{deep}", "premultiply=inplace=1"]
    # The colour is put behind in RGB, where it is the same for every matrix; both pictures have one time.
    red, green, blue = (int(background[place : place + 2], 16) for place in (0, 2, 4))
    back = (
        "format=gbrap,split[front][behind]",
        f"[behind]lutrgb=r={red}:g={green}:b={blue}:a=255[back]",
        "[back][front]overlay=format=gbrp",
    )
    full = ":out_range=pc" if video.colour.range == "pc" else ":out_range=tv"
    space = video.colour.space if video.colour.space in _SPACES else ""
    matrix = f":out_color_matrix={_SCALE_NAMES.get(space, space)}" if space else ""
    return [";".join(back), *([] if rgb else [f"scale=flags=accurate_rnd{full}{matrix}", f"format=yuv444p{deep}"])]


def at_rate(fps: float, duration_s: float) -> str:
    """The filter that gives pictures a constant rate; of something shorter than one of them it would leave none."""
    return f"fps={fps:.6f}" + (":round=up" if fps * duration_s < 1 else "")


def shaped(sar: Fraction) -> str:
    """The filter that sets the shape of pixels; it rounds to two digits unless it is told not to."""
    return f"setsar={sar.numerator}/{sar.denominator}:max={_FINEST_SHAPE}"


def _without_odd_lines(video: VideoFacts, size: tuple[int, int]) -> list[str]:
    crop = f"crop={size[0]}:{size[1]}:0:0:exact=1"
    if not _FULL_COLOUR.search(video.pixel_format):
        return [crop]
    # Samples of colour for an odd number of pixels would be spread over them all, and be out of place at the end.
    deep = "10le" if video.bit_depth > 8 else ""
    return [f"format={'gbrp' if is_rgb(video.pixel_format) else 'yuv444p'}{deep}", crop, _scale(size, video)]


def _scale(size: tuple[int, int], video: VideoFacts) -> str:
    width, height = size
    colour = ":out_color_matrix=bt709:out_range=tv" if is_rgb(video.pixel_format) else ""
    if video.colour.range == "pc" and not colour:
        colour = ":in_range=pc:out_range=pc"
    return f"scale={width}:{height}:flags=bicubic+accurate_rnd{colour}"
