"""The base class of processors. Imports neither torch nor cv2, so that the API can load it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema

from vidqueue.errors import CanceledError as CanceledError  # noqa: PLC0414 - offered to processors from here
from vidqueue.errors import VidqueueError
from vidqueue.errors import WaitingError as WaitingError  # noqa: PLC0414
from vidqueue.job import Backoff, Device, OutputDraft
from vidqueue.processors.context import Context as Context  # noqa: PLC0414
from vidqueue.processors.media import AudioInput as AudioInput  # noqa: PLC0414
from vidqueue.processors.media import ImageInput as ImageInput  # noqa: PLC0414
from vidqueue.processors.media import MediaField as MediaField  # noqa: PLC0414
from vidqueue.processors.media import MediaInput as MediaInput  # noqa: PLC0414
from vidqueue.processors.media import MediaRef as MediaRef  # noqa: PLC0414
from vidqueue.processors.media import VideoInput as VideoInput  # noqa: PLC0414
from vidqueue.processors.media import media_of
from vidqueue.processors.model_cache import ModelCache as ModelCache  # noqa: PLC0414
from vidqueue.processors.peers import PeerServer
from vidqueue.settings.entries import Section

if TYPE_CHECKING:
    from vidqueue.processors.remote.kept_ids import KeptId

Model = TypeVar("Model", bound=BaseModel)


class Parameters(BaseModel):
    """Base of every processor's parameters: unknown names are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema. What the type of an optional field says, as of `VideoInput | None`, is said of the field."""
        schema = handler(core)
        for field in handler.resolve_ref_schema(schema).get("properties", {}).values():
            said = [one["description"] for one in field.get("anyOf", ()) if "description" in one]
            if len(said) == 1:
                field.setdefault("description", said[0])
        return schema


def settings_of(info: ValidationInfo, model: type[Model]) -> Model | None:
    """The values of the processor's section, for a validator of its parameters.

    None where the configuration of the daemon is not known, as on the command line: a validator then lets pass what
    only the configuration could refuse, because the daemon checks it again.
    """
    config = (info.context or {}).get("settings")
    return config if isinstance(config, model) else None


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that only so many jobs may use at a time, on all lanes of a daemon together."""

    name: str
    capacity: int
    label: str


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
    # How long its jobs are kept after their end; None for as long as retention keeps all jobs.
    keep_s: ClassVar[float | None] = None
    # Whether equal parameters and input bytes always give equal output bytes, whatever the names of the files. Then a
    # job gets the outputs of an earlier one that did the same work, unless it has `cache: false`.
    deterministic: ClassVar[bool] = False
    # How long the work may take to stop once it is canceled, where that is longer than running.cancel_grace_s; seconds.
    # At most 20, because a cancel takes effect within half a minute.
    cancel_grace_s: ClassVar[float] = 0
    # Whether `check` asks another server, which may take seconds.
    asks_peer: ClassVar[bool] = False
    Params: ClassVar[type[Parameters]]
    settings: ClassVar[str] = ""
    Settings: ClassVar[type[BaseModel]] = Section

    def __init__(self, config: BaseModel | None = None) -> None:
        self.config: Any = self.Settings() if config is None else config
        self.validation_context = None if config is None else {"settings": config}

    @property
    def is_configured(self) -> bool:
        """True if its section has a value that the doors, which may share the section, do not know."""
        of_doors = {name for base in self.Settings.__mro__[1:] for name in getattr(base, "model_fields", ())}
        return bool(self.config.model_fields_set - of_doors)

    def device_for(self, params: Any) -> Device:
        """The kind of lane this job needs; override it only where `gpu_when` cannot say it."""
        asked = any(getattr(params, name, None) in values for name, values in self.gpu_when.items())
        return "gpu" if asked else self.device

    def vram_mb(self, params: Any) -> int:
        """GPU memory the job needs, in MiB; 0 when it does not matter. SQL knows `default_vram_mb` only."""
        del params
        return self.default_vram_mb

    def lane_for(self, params: Any) -> str | None:
        """The only lane that can run this job, where there is but one."""
        del params
        return None

    def deterministic_for(self, params: Any) -> bool:
        """Return whether this job is deterministic; override it if that depends on the parameters."""
        del params
        return self.deterministic

    def check(self, params: Any) -> None:
        """Check parameters with what only another server knows, at submission. It may block for seconds.

        Raises:
            VidqueueError: the job cannot succeed.
        """
        del params

    def remark(self, params: Any) -> str:
        """What a person should know of these valid parameters, such as that they ask for nothing; empty for nothing."""
        del params
        return ""

    def resource_for(self, params: Any) -> Resource | None:
        """What the job uses that only so many jobs may use at a time; the others wait with `endpoint_busy`."""
        del params
        return None

    def peers(self) -> Sequence[PeerServer]:
        """Return the servers of other programs that are configured for this processor."""
        return ()

    def peers_for(self, params: Any) -> Sequence[PeerServer]:
        """Return the servers that can do this job, best first. The daemon starts one of those that it manages."""
        del params
        return ()

    def unavailable(self) -> str:
        """Why no job of this kind can run as things are configured; empty if jobs can."""
        return ""

    def end_left(self, kept: KeptId) -> bool:
        """Have a server stop what an attempt left there, of a job that has ended. It may block for seconds.

        True if nothing is left to be stopped; False if the server cannot be told now.
        """
        del kept
        return True

    def degrade(self, params: Any, error: VidqueueError) -> Any:
        """Return parameters that need less memory than these did, or None if there are none.

        Called when memory has run out (`gpu_out_of_memory`, `out_of_memory`). The attempt goes on with them, without
        any loaded model, unless `params.allow_degrade` is False. Each rung is in the log, in the metrics of the attempt
        and in `facts.degraded` of the outputs.
        """
        del params, error
        return None

    def media(self, params: Any) -> Iterable[MediaField]:
        """Every media reference in the parameters; override it where only the settings say what is media.

        `media_in` of `vidqueue.processors.media` finds references along any JSON schema.
        """
        return media_of(params)

    @abstractmethod
    def run(self, params: Any, ctx: Context) -> Sequence[OutputDraft] | OutputDraft | None:
        """Do the work and return the files to publish; None publishes what `ctx.output` has promised.

        Raises:
            VidqueueError: the work cannot be done; its code decides whether it is tried again.
            WaitingError: the work cannot start now through no fault of the job; it is put back and tried again later.
            CanceledError: from `ctx`; let it pass.
        """
