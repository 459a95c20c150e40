"""Makes the films of `compose`, each by two exports: the montage of the materials, then voice, music and subtitles."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from vidqueue.job import OutputDraft
from vidqueue.media.encoders import Quality
from vidqueue.media.facts import AudioFacts
from vidqueue.media.film import join
from vidqueue.media.film.space import Canvas, most_bytes, sound_bytes
from vidqueue.media.film.subtitles import Cue, as_srt
from vidqueue.processors.base import Context
from vidqueue.processors.media import media_of
from vidqueue.processors.parts.compose_params import SIZES, ComposeParams
from vidqueue.processors.parts.export_params import ExportParams
from vidqueue.processors.parts.film import make
from vidqueue.processors.parts.montage import RATE, Scene, filled
from vidqueue.progress import Progress
from vidqueue.storage.reserved import ReservedSpace

_MUSIC_FADE_S = 3.0
# The share of the work that is done before the films are made, as the users of MoneyPrinterTurbo know it.
_FOUND = 0.5
_MONTAGE_QUALITY: Quality = "high"
# Scenes, each with the time for which it is shown.
Chosen = Sequence[tuple[Scene, float]]


@dataclass(frozen=True, slots=True)
class Narration:
    """A narration: the text, the recording, its length, and the subtitles."""

    script: str
    path: Path
    audio: AudioFacts
    length_s: float
    cues: tuple[Cue, ...] = ()


class Films:
    """The films of one job."""

    def __init__(self, params: ComposeParams, ctx: Context, narration: Narration, seed: int) -> None:
        """Store the arguments; the order of each film is drawn with the next number after `seed`."""
        self._params, self._ctx, self._narration, self._seed = params, ctx, narration, seed

    def made_of(self, scenes: list[Scene]) -> list[OutputDraft]:
        """Make all films.

        Raises:
            VidqueueError: a material cannot be used, or a film is not what it must be.
            WaitingError: other jobs have reserved the space that the films need.
            CanceledError: the job was canceled.
        """
        orders = [
            filled(scenes, self._params, self._narration.length_s, random.Random(self._seed + number))  # noqa: S311 - an order, no secret
            for number in range(self._params.count)
        ]
        sizes = [size for order in orders for size in self._most_bytes(order)]
        outputs: list[OutputDraft] = []
        with ReservedSpace(self._ctx.workspace, self._ctx.limits.low_water_mib) as reserved:
            for number, order in enumerate(orders):
                # The cache may keep the pieces of a film, which are as large as the film.
                later = [2 * sum(sizes[2 * number + done :]) for done in (1, 2)]
                outputs += self._film(number, order, reserved, later)
        return outputs

    def _most_bytes(self, order: Chosen) -> tuple[int, int]:
        """Return the largest expected sizes of a montage and its film."""
        params, rate = self._params, Fraction(RATE)
        montage, film = (Canvas(SIZES[params.aspect], rate, quality) for quality in (_MONTAGE_QUALITY, params.quality))
        shown = [(round(shown_s * RATE), scene.byte_rate) for scene, shown_s in order]
        montage_size = sum(most_bytes(frames, [byte_rate], montage) for frames, byte_rate in shown)
        frames = sum(frames for frames, _ in shown)
        sound = sound_bytes(frames, rate, join.SOUND_KBIT)
        length_s = max(frames / RATE, 1 / RATE)
        return montage_size + sound, most_bytes(frames, [montage_size / length_s], film) + sound

    def _film(self, number: int, order: Chosen, reserved: ReservedSpace, later: Sequence[int]) -> list[OutputDraft]:
        """Make the montage, and the film with voice, music and subtitles."""
        params, ctx, narration = self._params, self._ctx, self._narration
        name = number + 1
        ctx.log(f"Film {name}: {len(order)} parts, order by seed {self._seed + number}.")
        share = (1 - _FOUND) / params.count
        begin = _FOUND + number * share
        clips = [scene.clip(shown_s, params, is_first=place == 0) for place, (scene, shown_s) in enumerate(order)]
        wishes: dict[str, Any] = {"clips": clips, "quality": _MONTAGE_QUALITY}
        combined = self._exported(f"combined_{name}", wishes, (begin, share / 2), reserved, later[0])
        wishes = {
            "clips": [{"media": str(combined.path), "volume": 0}],
            "voice": [{"media": str(narration.path), "volume": params.voice_volume}],
            "quality": params.quality,
        }
        if params.music is not None:
            music = ctx.input("music")
            wishes["music"] = {"media": str(music), "volume": params.music_volume, "fade_out_s": _MUSIC_FADE_S}
        if narration.cues:
            path = ctx.output_path(f"said-{name}.srt")
            path.write_text(as_srt(narration.cues), encoding="utf-8")
            wishes |= {"subtitles": str(path), "subtitle_style": params.subtitle_style}
        final = self._exported(f"final_{name}", wishes, (begin + share / 2, share / 2), reserved, later[1])
        ctx.output_path(f"said-{name}.srt").unlink(missing_ok=True)
        return [combined, final]

    def _exported(
        self, name: str, wishes: dict[str, Any], part: tuple[float, float], reserved: ReservedSpace, later: int
    ) -> OutputDraft:
        """Run an export in a folder of its own, and move its result."""
        params, ctx = self._params, self._ctx
        width, height = SIZES[params.aspect]
        told = ExportParams.model_validate(
            {**wishes, "width": width, "height": height, "fps": RATE, "effort": params.effort}
        )
        folder = ctx.workspace / name
        folder.mkdir()
        stage = "combine" if name.startswith("combined") else "final"

        def report(progress: Progress) -> None:
            fraction = part[0] + progress.fraction * part[1]
            ctx.report(replace(progress, fraction=fraction, stage=stage, message=progress.message or progress.stage))

        inputs = {one.name: Path(one.reference) for one in media_of(told)}
        draft = make(told, replace(ctx, inputs=inputs, workspace=folder, report=report), reserved, later)
        path = ctx.output_path(f"{name}.mp4")
        draft.path.rename(path)
        folder.rmdir()
        return replace(draft, name=name, path=path)
