"""Processor `facefusion`: runs FaceFusion's `headless-run` on one picture or video."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, Field, model_validator

from vidqueue.errors import CanceledError, VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.processors import programs
from vidqueue.processors.base import Context, ImageInput, MediaInput, Parameters, Processor
from vidqueue.processors.face import command
from vidqueue.processors.face.flags import INSTALLED, environment
from vidqueue.processors.face.outcome import Bars, failure_of
from vidqueue.processors.face.settings import PROGRAM, FacefusionSettings
from vidqueue.processors.media import MediaField, json_pointer, visual_at
from vidqueue.progress import Progress

FAULTS_TOLD = 50
# Seconds between SIGINT and SIGKILL, in which it removes its temporary files.
STOP_S = 5.0
NEEDS_SOURCES = frozenset({"face_swapper"})
# FaceFusion distinguishes pictures and videos by extension.
PICTURES = {".bmp": "image/bmp", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".tif": "image/tiff",
            ".tiff": "image/tiff", ".webp": "image/webp"}  # fmt: skip
VIDEOS = {".avi": "video/x-msvideo", ".m4v": "video/mp4", ".mkv": "video/x-matroska", ".mov": "video/quicktime",
          ".mp4": "video/mp4", ".mpeg": "video/mpeg", ".webm": "video/webm", ".wmv": "video/x-ms-wmv"}  # fmt: skip


class FacefusionParams(Parameters):
    """Parameters of `facefusion`."""

    sources: list[ImageInput] = Field([], max_length=50, description="Pictures of the new face.")
    target: MediaInput = Field(description="The picture or video to change.")
    processors: list[str] = Field(
        ["face_swapper"], min_length=1, max_length=20, description="FaceFusion processors to run, in this order."
    )
    options: dict[str, Any] = Field(
        {},
        max_length=100,
        description="Other flags of `headless-run` of the installed version, without leading dashes.",
    )
    quality: int = Field(80, ge=0, le=100, description="Quality of the result.")
    encoder: str = Field("libx264", pattern=r"^[a-z0-9_]{1,32}$", description="Video encoder of FaceFusion's ffmpeg.")
    trim_frame_start: int | None = Field(None, ge=0, description="First frame of a video.")
    trim_frame_end: int | None = Field(None, ge=0, description="Frame before which the result ends.")

    @model_validator(mode="after")
    def _fit(self) -> FacefusionParams:
        if self.trim_frame_end is not None and (self.trim_frame_start or 0) >= self.trim_frame_end:
            raise ValueError("trim_frame_end must be greater than trim_frame_start")
        if not self.sources and NEEDS_SOURCES.intersection(self.processors):
            raise ValueError("face_swapper requires a picture in sources")
        _refuse("invalid_params", [("options", *fault) for fault in command.malformed(self.options)])
        return self


class Facefusion(Processor):
    """Swap and enhance faces in pictures and videos with FaceFusion, which is installed beside vidqueue."""

    name = "facefusion"
    device = "gpu"
    settings = "facefusion"
    Settings: ClassVar[type[BaseModel]] = FacefusionSettings
    Params = FacefusionParams
    # Running its --help takes seconds.
    asks_peer = True
    stall_timeout_s = 1800
    cancel_grace_s = 10

    def unavailable(self) -> str:
        """Return why FaceFusion cannot be run here; empty if it can."""
        return self.config.fault() or INSTALLED.fault(self.config)

    def media(self, params: Any) -> Iterable[MediaField]:
        """Return the media references; the target is a video or a picture."""
        return visual_at(super().media(params), "target")

    def check(self, params: Any) -> None:
        """Check processors, encoder and options against the flags of the installed version.

        Raises:
            VidqueueError: `processor_unavailable`, `missing_model`, `invalid_params`.
        """
        flags = INSTALLED.of(self.config)
        _refuse("missing_model", [("options", *fault) for fault in command.unknown(params.options, flags)])
        ours = {"processors": params.processors, "output-video-encoder": params.encoder}
        names = {"processors": "processors", "output-video-encoder": "encoder"}
        lacking = [(names[name], "", wrong) for name, wrong in command.not_among_choices(ours, flags)]
        _refuse("missing_model", lacking)
        _refuse("invalid_params", [("options", *fault) for fault in command.not_among_choices(params.options, flags)])

    def run(self, params: Any, ctx: Context) -> Sequence[OutputDraft]:
        """Run FaceFusion with folders of its own, and return its result."""
        if fault := self.config.fault():
            raise VidqueueError("processor_unavailable", f"FaceFusion cannot be run: {fault}.")
        folder = ctx.temporary()
        sources = [_named(ctx.input("sources", index), folder, f"source-{index}", ctx) for index in _of(params.sources)]
        target = _named(ctx.input("target"), folder, f"target-{ctx.attempt}", ctx)
        name = "image" if target.suffix in PICTURES else "video"
        # Its result has the extension of the target.
        result = ctx.output_path(name + target.suffix)
        self._work([*self._words(params, ctx, folder), *_files(sources, target, result)], ctx, result)
        try:
            ctx.probe(result)
        except VidqueueError as error:
            message = f"FaceFusion reported success, but its result cannot be read. {error.message}"
            raise VidqueueError("program_failed", message) from None
        return [OutputDraft(name, result, (PICTURES | VIDEOS)[target.suffix])]

    def _words(self, params: Any, ctx: Context, folder: Path) -> list[str]:
        config: FacefusionSettings = self.config
        assert config.home is not None
        words = [str(config.interpreter), PROGRAM, "headless-run"]
        given: dict[str, Any] = {
            "jobs-path": str(folder / "jobs"), "temp-path": str(folder / "temp"), "processors": params.processors,
            "output-image-quality": params.quality, "output-video-quality": params.quality,
            "output-video-encoder": params.encoder, "trim-frame-start": params.trim_frame_start,
            "trim-frame-end": params.trim_frame_end, "execution-device-ids": 0, "log-level": "info",
        }  # fmt: skip
        given["execution-providers"] = "cuda" if ctx.device.startswith("cuda") else "cpu"
        if (config.home / "facefusion.ini").is_file():
            given["config-path"] = "facefusion.ini"
        chosen = {command.name_of(name): value for name, value in params.options.items()}
        for name in ("jobs", "temp"):
            (folder / name).mkdir()
        return [*words, *command.arguments(given | chosen)]

    def _work(self, words: list[str], ctx: Context, result: Path) -> None:
        bars = Bars()
        ctx.progress(Progress(0.0, stage="load"))
        listener = programs.Listener(ctx.log, ctx.report, ctx.canceled.is_set)
        ran = programs.run(
            words, listener, progress=bars.read, cwd=self.config.home, environment=environment(self.config),
            interrupt=signal.SIGINT, grace_s=STOP_S,
        )  # fmt: skip
        if ctx.canceled.is_set():
            raise CanceledError
        if ran.returncode != 0 or not result.is_file():
            raise failure_of(ran.returncode, ran.tail, bars)


def _files(sources: list[Path], target: Path, result: Path) -> list[str]:
    given = ["--source-paths", *map(str, sources)] if sources else []
    return [*given, "--target-path", str(target), "--output-path", str(result)]


def _of(sources: list[str]) -> range:
    return range(len(sources))


def _named(file: Path, folder: Path, name: str, ctx: Context) -> Path:
    """A link to a file under a name of its own, with an extension by which FaceFusion takes it for what it is.

    The file is probed in the jail first, because FaceFusion's ffmpeg reads it outside of one.
    """
    known, suffix = (PICTURES, ".png") if ctx.probe(file).is_still else (VIDEOS, ".mp4")
    suffix = file.suffix.lower() if file.suffix.lower() in known else suffix
    link = folder / f"{name}{suffix}"
    link.symlink_to(file.resolve())
    return link


def _refuse(code: str, faults: list[tuple[str, str, str]]) -> None:
    """Refuse parameters with these faults: the parameter, the key in it, and what is wrong."""
    if not faults:
        return
    errors = [
        {"pointer": f"/input{json_pointer((parameter, *([key] if key else [])))}", "detail": wrong}
        for parameter, key, wrong in faults[:FAULTS_TOLD]
    ]
    first = f"{errors[0]['pointer']}: {errors[0]['detail']}"
    raise VidqueueError(code, f"facefusion does not accept these parameters. {first}", errors=errors)
