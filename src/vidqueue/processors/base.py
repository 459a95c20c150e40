"""The base class of processors and the context of a run. Imports neither torch nor cv2, so that the API can load it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationInfo

from vidqueue.errors import CanceledError as CanceledError  # noqa: PLC0414 - offered to processors from here
from vidqueue.errors import WaitingError as WaitingError  # noqa: PLC0414
from vidqueue.job import Backoff, Device, OutputDraft
from vidqueue.limits import Limits
from vidqueue.processors.media import AudioInput as AudioInput  # noqa: PLC0414
from vidqueue.processors.media import ImageInput as ImageInput  # noqa: PLC0414
from vidqueue.processors.media import MediaField as MediaField  # noqa: PLC0414
from vidqueue.processors.media import MediaInput as MediaInput  # noqa: PLC0414
from vidqueue.processors.media import MediaRef as MediaRef  # noqa: PLC0414
from vidqueue.processors.media import VideoInput as VideoInput  # noqa: PLC0414
from vidqueue.processors.media import dotted, media_of
from vidqueue.progress import LogLine, Progress, is_preview
from vidqueue.settings.schema import Section

Model = TypeVar("Model", bound=BaseModel)


class Parameters(BaseModel):
    """Base of every processor's parameters: unknown names are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def settings_of(info: ValidationInfo, model: type[Model]) -> Model | None:
    """The values of the processor's section, for a validator of its parameters.

    None where the configuration of the daemon is not known, as on the command line: a validator then lets pass what
    only the configuration could refuse, because the daemon checks it again.
    """
    config = (info.context or {}).get("settings")
    return config if isinstance(config, model) else None


class ModelCache:
    """A cache of models and other values that are slow to load; it lives as long as the executor."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def get(self, key: str, load: Callable[[], Any]) -> Any:
        """The value under `key`; `load` is called if it is not in the cache."""
        if key not in self._loaded:
            self._loaded[key] = load()
        return self._loaded[key]


@dataclass(frozen=True, slots=True)
class Context:
    """What a processor gets to run one attempt.

    Attributes:
        inputs: local file of each media reference, by its place: `video`, or `clips.0.media`. A file that was stored
            under a name has the extension of that name.
        workspace: an empty folder, removed after the attempt.
        device: `cpu` or `cuda:0`; the lane's own GPU is always the first one its executor can see.
        canceled: set when the job was canceled.
        settings: the values of the processor's section of the configuration.
        redact: hides a secret that the processor has read elsewhere, as from a file, from its log and its errors.
        publish_output, show_preview: what `publish` and `preview` call.
    """

    inputs: Mapping[str, Path]
    workspace: Path
    device: str
    limits: Limits
    report: Callable[[Progress], None]
    write_log: Callable[[LogLine], None]
    models: ModelCache = field(default_factory=ModelCache)
    canceled: threading.Event = field(default_factory=threading.Event)
    settings: Any = None
    redact: Callable[[str], None] = lambda secret: None
    publish_output: Callable[[OutputDraft], None] = lambda draft: None
    show_preview: Callable[[bytes], None] = lambda picture: None

    def progress(self, progress: Progress) -> None:
        """Report progress; raises if the job was canceled.

        Raises:
            CanceledError: the job was canceled.
        """
        self.check_canceled()
        self.report(progress)

    def log(self, text: str, level: str = "info") -> None:
        """Write a line into the attempt's log."""
        self.write_log(LogLine(text, level))

    def publish(self, draft: OutputDraft) -> None:
        """Publish an output while the work goes on. It is public at once, with an event; leave its file alone then.

        An attempt that does not succeed takes its outputs back. What `run` returns comes in addition, and may be
        nothing if an output was published.
        """
        self.publish_output(draft)

    def preview(self, jpeg: bytes) -> None:
        """Show a picture of the work so far: a JPEG of at most 64 KiB. More than one a second are passed over.

        Raises:
            ValueError: it is no such picture.
        """
        if not is_preview(jpeg):
            raise ValueError("a preview is a JPEG of at most 64 KiB")
        self.show_preview(jpeg)

    def check_canceled(self) -> None:
        """Raise if the job was canceled.

        Raises:
            CanceledError: the job was canceled.
        """
        if self.canceled.is_set():
            raise CanceledError

    def input(self, *place: str | int) -> Path:
        """The local file of the reference at a place, as in `ctx.input("clips", 0, "media")`."""
        return self.inputs[dotted(place)]

    def output_path(self, filename: str) -> Path:
        """The path at which to write an output file."""
        return self.workspace / filename


class Processor(ABC):
    """A kind of work with typed parameters. Subclasses are stateless; everything warm lives in `ctx.models`.

    A processor that is configured names its section, `settings = "cog"`, and the model of it, `Settings`, all of whose
    keys have defaults. The values are `self.config` and `ctx.settings`, and validators get them by `settings_of`.
    """

    name: ClassVar[str]
    device: ClassVar[Device] = "cpu"
    # Parameters whose value makes a job need a GPU lane, and GPU memory in MiB that a job needs. The database has them
    # too, for jobs that are submitted by SQL.
    gpu_when: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    default_vram_mb: ClassVar[int] = 0
    # What a job gets that does not say otherwise; seconds.
    max_attempts: ClassVar[int] = 3
    timeout_s: ClassVar[float] = 86_400
    stall_timeout_s: ClassVar[float] = 300
    backoff: ClassVar[Backoff] = Backoff()
    # How long the work may take to stop once it is canceled, where that is longer than running.cancel_grace_s; seconds.
    # At most 20, because a cancel takes effect within half a minute.
    cancel_grace_s: ClassVar[float] = 0
    Params: ClassVar[type[Parameters]]
    settings: ClassVar[str] = ""
    Settings: ClassVar[type[BaseModel]] = Section

    def __init__(self, config: BaseModel | None = None) -> None:
        self.config: Any = self.Settings() if config is None else config
        self.validation_context = None if config is None else {"settings": config}

    def device_for(self, params: Any) -> Device:
        """The kind of lane this job needs; override it only where `gpu_when` cannot say it."""
        asked = any(getattr(params, name, None) in values for name, values in self.gpu_when.items())
        return "gpu" if asked else self.device

    def vram_mb(self, params: Any) -> int:
        """GPU memory the job needs, in MiB; 0 when it does not matter. SQL knows `default_vram_mb` only."""
        del params
        return self.default_vram_mb

    def media(self, params: Any) -> Iterable[MediaField]:
        """Every media reference in the parameters; override it where only the settings say what is media.

        `media_in` of `vidqueue.processors.media` finds references along any JSON schema.
        """
        return media_of(params)

    @abstractmethod
    def run(self, params: Any, ctx: Context) -> list[OutputDraft]:
        """Do the work and return the files to publish.

        Raises:
            VidqueueError: the work cannot be done; its code decides whether it is tried again.
            WaitingError: the work cannot start now through no fault of the job; it is put back and tried again later.
            CanceledError: from `ctx`; let it pass.
        """
