"""The section `compose` of the configuration, which `export` reads too."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from vidqueue.settings.entries import Section


class ComposeSettings(Section):
    """Scripts and speech of `compose` (both off by default), and the font of subtitles and title cards."""

    script_url: str = Field(
        "",
        description="Base address of an OpenAI-compatible API that writes scripts, such as http://127.0.0.1:11434/v1.",
    )
    script_model: str = Field("", description="Model that writes scripts.")
    script_key_file: Path | None = Field(None, description="File with the key of that API.")
    speech_command: list[str] = Field(
        [],
        description="Speech program (TTS) and its arguments; {text_file}, {voice}, {rate}, {out} are replaced.",
    )
    speech_timeout_s: float = Field(600, gt=0, description="Longest time that the program may take, in seconds.")
    font_file: str = Field(
        "",
        description="Font (TrueType or OpenType) of subtitles and title cards, also those of `export`; "
        "DejaVu Sans if not given, and for characters that it lacks.",
    )

    @field_validator("font_file")
    @classmethod
    def _absolute(cls, given: str) -> str:
        if given and not Path(given).is_absolute():
            raise ValueError(f"{given} is not an absolute path")
        return given
