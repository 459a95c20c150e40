"""Sonic: a portrait and a voice become a talking video, by Sonic's nodes on a ComfyUI server."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.processors.base import AudioInput, Context, ImageInput, Parameters, settings_of
from vidqueue.processors.comfy import templates
from vidqueue.processors.comfy.processor import OnComfyui
from vidqueue.processors.comfy.service import (
    check_server,
    check_with_servers,
    clients_on_lane,
    run_on_server,
)
from vidqueue.processors.comfy.settings import ComfyuiSettings
from vidqueue.processors.comfy.templates import Filled
from vidqueue.processors.parts.seeds import drawn_seed

WORKFLOW = "sonic"
# The node fails for less.
SHORTEST_S = 1.0
# Lengths that differ by less are the same length.
SAME_S = 0.1
LADDER = (1024, 768, 512)
# GPU memory in MiB: what the models take, and what a square of 64 pixels takes. An estimate, and not measured.
BASE_MB, SQUARE_MB = 5000, 50


class SonicParams(Parameters):
    """Parameters of `sonic`."""

    image: ImageInput
    audio: AudioInput
    min_resolution: int = Field(
        512, ge=128, le=2048, multiple_of=64, description="Shorter side of the picture that is worked on, in pixels."
    )
    duration_s: float | None = Field(
        None, ge=SHORTEST_S, le=86_400, allow_inf_nan=False, description="Length in seconds; the audio's if not given."
    )
    too_long: Literal["trim", "refuse"] = Field(
        "trim", description="Where duration_s and the audio differ: `trim` takes the shorter one, with a warning."
    )
    expand_ratio: float = Field(0.5, ge=0.1, le=1, description="How much of the picture around the face is taken.")
    inference_steps: int = Field(25, ge=1, le=1024, description="Steps of the sampler.")
    dynamic_scale: float = Field(1.0, ge=0.5, le=2, description="How much the head moves.")
    motion_scale: float | None = Field(
        None, ge=0.1, le=4, description="How much everything moves; only where the workflow has such a parameter."
    )
    fps: float = Field(25.0, ge=5, le=120, description="Pictures per second.")
    seed: int | None = Field(None, ge=0, lt=2**63, description="Drawn if not given, and told in `facts.seed`.")
    allow_degrade: bool = Field(
        True,
        description="Whether a smaller min_resolution may be tried where the GPU's memory runs out: 1024, 768, 512.",
    )
    server: str | None = Field(None, max_length=32, description="Only this ComfyUI server; any free one if not given.")

    @model_validator(mode="after")
    def _known_server(self, info: ValidationInfo) -> SonicParams:
        if (config := settings_of(info, ComfyuiSettings)) is not None:
            check_server(self.server, config)
        return self


class Sonic(OnComfyui):
    """Make a portrait speak: a picture and a voice become a talking video, with Sonic on a ComfyUI server."""

    name = "sonic"
    Params = SonicParams

    def vram_mb(self, params: Any) -> int:
        """Estimate the memory from the smallest resolution that is tried; 0 for an external server.

        The memory of an external server counts as that of other programs, so its next job must not require it again.
        """
        if not any(one.launch for one in self.peers_for(params)):
            return 0
        return BASE_MB + SQUARE_MB * (min(rungs(params)) // 64) ** 2

    def check(self, params: Any) -> None:
        """Ask the servers whether they have Sonic's nodes and weights."""
        filled = self._filled(params, params.min_resolution, SHORTEST_S)
        check_with_servers(filled, params.server, self.config)

    def run(self, params: Any, ctx: Context) -> list[OutputDraft]:
        """Run the workflow."""
        warnings: list[str] = []
        duration_s = length_of(params, audio_s(ctx), warnings)
        if params.seed is None:
            params = params.model_copy(update={"seed": drawn_seed(ctx)})

        def publish(draft: OutputDraft) -> None:
            draft.facts.update(
                degraded=[],
                warnings=[*draft.facts.get("warnings", ()), *warnings],
                min_resolution=params.min_resolution,
                seed=params.seed,
            )
            ctx.publish(replace(draft, name="video") if draft.name in ("output", "output_1") else draft)

        filled = self._filled(params, params.min_resolution, duration_s)
        clients = clients_on_lane(params.server, self.config, ctx)
        run_on_server(filled, ctx, clients, publish, label=f"_{params.min_resolution}")
        return []

    def degrade(self, params: Any, error: VidqueueError) -> Any:
        """Return parameters for a smaller picture. It saves memory of the GPU only, so other errors get None."""
        smaller = _smaller(params)
        if error.code != "gpu_out_of_memory" or not smaller:
            return None
        return params.model_copy(update={"min_resolution": smaller[0]})

    def _workflow(self) -> templates.Workflow:
        return templates.find(WORKFLOW, self.config)

    def _filled(self, params: Any, resolution: int, duration_s: float) -> Filled:
        """The workflow with these parameters; each must be among those that its file names.

        Raises:
            VidqueueError: `unknown_model`, `invalid_params`.
        """
        workflow = self._workflow()
        values = params.model_dump(
            include={
                "image",
                "audio",
                "expand_ratio",
                "inference_steps",
                "dynamic_scale",
                "motion_scale",
                "fps",
                "seed",
            },
            exclude_none=True,
        )
        values |= {"min_resolution": resolution, "duration": duration_s}
        unset = {
            name for name in values if name not in workflow.about.parameters and name not in params.model_fields_set
        }
        values = {name: value for name, value in values.items() if name not in unset}
        if faults := list(workflow.faults(values)):
            errors = [{"pointer": f"/input/{name}", "detail": text} for name, text in faults]
            first = f"{errors[0]['pointer']}: {errors[0]['detail']}"
            raise VidqueueError("invalid_params", f"The workflow does not accept this. {first}", errors=errors)
        filled = workflow.filled(values)
        # A parameter of the job stands at the top of its input, and not among `inputs` as one of a workflow.
        pointers = {place: pointer.replace("/inputs/", "/", 1) for place, pointer in filled.pointers.items()}
        return replace(filled, pointers=pointers)


def rungs(params: SonicParams) -> list[int]:
    """The resolutions that may be tried, largest first."""
    return [params.min_resolution, *(_smaller(params) if params.allow_degrade else ())]


def _smaller(params: SonicParams) -> list[int]:
    return [rung for rung in LADDER if rung < params.min_resolution]


def audio_s(ctx: Context) -> float:
    """The length of the voice in seconds, counted and not believed.

    Raises:
        VidqueueError: `no_audio_stream`, or that the file cannot be read.
    """
    from vidqueue.media.probe import probe

    facts = probe(ctx.input("audio"), ctx.limits, ctx.canceled, whole=True)
    if facts.audio is None:
        raise VidqueueError("no_audio_stream", "The file of `audio` has no sound.")
    return facts.audio.duration_s or facts.duration_s


def length_of(params: SonicParams, audio: float, warnings: list[str]) -> float:
    """How long the video becomes: the audio's length decides, and `duration_s` where that is shorter.

    Raises:
        VidqueueError: `invalid_params` for audio of less than a second; `trim_out_of_range` or `media_too_long` where
            the two lengths differ and `too_long` is `refuse`.
    """
    if audio < SHORTEST_S:
        fault = {"pointer": "/input/audio", "detail": f"is {audio:.2f} s long; Sonic needs a second at least"}
        raise VidqueueError("invalid_params", f"The audio {fault['detail']}.", errors=[fault])
    for text, code in _differences(params.duration_s, audio):
        if params.too_long == "refuse":
            raise VidqueueError(code, text, hint="Give another duration_s, or let it be trimmed (too_long).")
        warnings.append(text)
    wanted = audio if params.duration_s is None else min(params.duration_s, audio)
    # Down, because a length beyond the audio's last sample would be none.
    return max(SHORTEST_S, math.floor(wanted * 1000) / 1000)


def _differences(duration_s: float | None, audio: float) -> Iterator[tuple[str, str]]:
    if duration_s is None:
        return
    if duration_s > audio + SAME_S:
        yield (
            f"duration_s is {duration_s:g}, and the audio ends after {audio:.2f} s; so does the video.",
            "trim_out_of_range",
        )
    elif duration_s < audio - SAME_S:
        yield f"The audio is {audio:.2f} s long, and only its first {duration_s:g} s are used.", "media_too_long"
