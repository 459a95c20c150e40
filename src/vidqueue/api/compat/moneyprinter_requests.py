"""Requests of the MoneyPrinterTurbo API, and their conversion to parameters of the processor `compose`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from vidqueue.errors import VidqueueError

# Height of the frame's shorter side, which sizes of text refer to.
_SHORTER_SIDE = 1080
_LARGEST_TEXT, _LARGEST_MARGIN = 0.5, 0.9
_COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")
_POSITIONS = {"top": "top", "center": "middle", "middle": "middle", "bottom": "bottom"}

StopAt = Literal["film", "audio", "subtitle"]
Reference = Callable[[str, str], str]
"""The media reference of a name and the kind of file that it is (`music` or `material`)."""


class Material(BaseModel):
    """One material."""

    provider: str = "local"
    url: str = Field("", max_length=4096, description="A file of `/video_materials`, a reference, a path, or a URL.")


def _as_material(given: Any) -> Any:
    return {"url": given} if isinstance(given, str) else given


class SpeechRequest(BaseModel):
    """The fields that all requests have; unknown fields are ignored."""

    video_subject: str = Field("", max_length=500)
    video_script: str = Field("", max_length=20_000)
    custom_audio_file: str | None = Field(None, max_length=4096, description="The recorded narration.")
    voice_name: str | None = Field("", max_length=200)
    voice_volume: float | None = 1.0
    voice_rate: float | None = 1.0
    bgm_type: str | None = Field("", max_length=32, description="`random` takes any of `/musics`; empty for none.")
    bgm_file: str | None = Field("", max_length=4096, description="A file of `/musics`.")
    bgm_volume: float | None = 0.2
    idempotency_key: str | None = Field(
        None, min_length=1, max_length=255, description="Send the same key again to get the same task."
    )


class FilmRequest(SpeechRequest):
    """A film."""

    video_terms: str | list[str] | None = None
    video_aspect: Literal["9:16", "16:9", "1:1"] | None = "9:16"
    video_concat_mode: str | None = Field("random", max_length=32)
    video_transition_mode: str | None = Field(None, max_length=32)
    video_clip_duration: float | None = 5
    video_count: int | None = Field(1, ge=1, le=10)
    video_source: str | None = Field("local", max_length=32)
    video_materials: list[Annotated[Material, BeforeValidator(_as_material)]] | None = Field(None, max_length=200)
    subtitle_enabled: bool | None = True
    subtitle_position: str | None = Field("bottom", max_length=32)
    custom_position: float | None = Field(70.0, description="Distance from the top in percent, for `custom`.")
    text_fore_color: str | None = Field("#FFFFFF", max_length=32)
    text_background_color: bool | str | None = True
    font_size: float | None = 60
    stroke_color: str | None = Field("#000000", max_length=32)
    stroke_width: float | None = 1.5


def names_of(body: SpeechRequest) -> list[str]:
    """Return the names of all files in a request."""
    materials = body.video_materials or [] if isinstance(body, FilmRequest) else []
    return [name for name in (body.custom_audio_file, body.bgm_file, *(one.url for one in materials)) if name]


def parameters_of(body: SpeechRequest, stop_at: StopAt, reference: Reference) -> dict[str, Any]:
    """Return the parameters of `compose` for a request.

    Raises:
        VidqueueError: `invalid_params`, the request can never work.
    """
    given: dict[str, Any] = {
        "script": body.video_script,
        "subject": body.video_subject,
        "voice": body.voice_name or "",
        "voice_rate": _within(body.voice_rate, 0.25, 4, 1.0),
        "voice_volume": _within(body.voice_volume, 0, 10, 1.0),
    }
    if body.custom_audio_file:
        given["audio"] = reference(body.custom_audio_file, "music")
    if stop_at != "film":
        return {**given, "stop_at": stop_at}
    assert isinstance(body, FilmRequest)
    return given | _film(body, reference)


def _film(body: FilmRequest, reference: Reference) -> dict[str, Any]:
    materials = [one.url for one in body.video_materials or [] if one.url]
    if not materials:
        source = body.video_source or "local"
        why = "" if source == "local" else f": this daemon has no videos of {source}"
        raise VidqueueError("invalid_params", f"Give video_materials{why}; POST /api/v1/video_materials stores them.")
    given: dict[str, Any] = {
        "materials": [reference(name, "material") for name in materials],
        "aspect": body.video_aspect or "9:16",
        "clip_s": _within(body.video_clip_duration, 0.5, 60, 5.0),
        "order": "sequential" if body.video_concat_mode == "sequential" else "random",
        "transition": "fade" if body.video_transition_mode else "cut",
        "count": body.video_count or 1,
        "subtitles": body.subtitle_enabled is not False,
        "subtitle_style": _style(body),
    }
    if body.bgm_file:
        given |= {"music": reference(body.bgm_file, "music")}
        given["music_volume"] = _within(body.bgm_volume, 0, 10, 0.2)
    return given


def _style(body: FilmRequest) -> dict[str, Any]:
    size = _within(body.font_size, 1, _LARGEST_TEXT * _SHORTER_SIDE, 60)
    style: dict[str, Any] = {"size": round(size / _SHORTER_SIDE, 5)}
    style["outline"] = round(_within(body.stroke_width, 0, size, 1.5) / size, 5)
    for name, colour in (("colour", body.text_fore_color), ("outline_colour", body.stroke_color)):
        if colour and _COLOUR.fullmatch(colour):
            style[name] = colour
    background = body.text_background_color
    if isinstance(background, str) and _COLOUR.fullmatch(background):
        style |= {"box": True, "outline_colour": background}
    if body.subtitle_position == "custom":
        margin = _within(body.custom_position, 0, 100 * _LARGEST_MARGIN, 70.0) / 100
        return style | {"position": "top", "margin": margin}
    return style | {"position": _POSITIONS.get(body.subtitle_position or "", "bottom")}


def _within(given: float | None, low: float, high: float, usual: float) -> float:
    return usual if given is None else min(max(given, low), high)
