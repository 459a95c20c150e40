"""A processor from outside that is configured: it names a section with nested tables and a secret."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field, SecretStr, ValidationInfo, field_validator

from vidqueue.errors import VidqueueError
from vidqueue.job import OutputDraft
from vidqueue.processors.base import Context, Parameters, Processor, settings_of
from vidqueue.progress import Progress
from vidqueue.settings.entries import Section


class Cage(Section):
    """One cage."""

    animal: str
    bars: int = Field(10, ge=1, description="Number of bars.")
    key: SecretStr = SecretStr("")


class KeeperSettings(Section):
    """The keeper of the zoo."""

    token: SecretStr = Field(SecretStr(""), description="What opens the gate.")
    cages: dict[str, Cage] = Field({}, description="Cages by name.")


class KeeperParams(Parameters):
    """What the keeper shall do."""

    cage: str
    act: Literal["open", "raise", "refuse", "shout", "crash"] = "open"

    @field_validator("cage")
    @classmethod
    def _known(cls, cage: str, info: ValidationInfo) -> str:
        settings = settings_of(info, KeeperSettings)
        if settings is not None and cage not in settings.cages:
            secret = settings.token.get_secret_value()
            raise ValueError(f"there is no cage {cage!r} behind {secret}; known: {', '.join(settings.cages)}")
        return cage


class Keeper(Processor):
    """Opens cages."""

    name = "keeper"
    settings = "keeper"
    Settings: ClassVar[type[BaseModel]] = KeeperSettings
    Params = KeeperParams

    def run(self, params: Any, ctx: Context) -> list[OutputDraft]:
        """Open the cage, and tell everyone everywhere how."""
        cage = ctx.settings.cages[params.cage]
        secrets = f"{ctx.settings.token.get_secret_value()} {cage.key.get_secret_value()}"
        ctx.redact("read-from-a-file")
        ctx.log(f"the {cage.animal} behind {cage.bars} bars: {secrets} read-from-a-file")
        ctx.progress(Progress(0.5, stage="open", message=secrets))
        if params.act == "raise":
            raise RuntimeError(f"no luck with {secrets}")
        if params.act == "refuse":
            raise VidqueueError("unsupported_format", f"refused {secrets}", hint=f"not {secrets}")
        if params.act in ("shout", "crash"):
            print(f"shouted {secrets}", flush=True)
        if params.act == "crash":
            os.abort()
        path = ctx.output_path("result.txt")
        path.write_text(f"{cage.animal} {len(secrets)}\n")
        return [OutputDraft("text", path, "text/plain", {"how": [secrets]})]
