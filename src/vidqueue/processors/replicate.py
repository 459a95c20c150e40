"""Processor `replicate`: runs a model at Replicate, or at a compatible server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, Field, ValidationInfo, model_validator

from vidqueue.job import Device, OutputDraft
from vidqueue.processors.base import Context, MediaField, Parameters, Processor, Resource, settings_of
from vidqueue.processors.configured import entry
from vidqueue.processors.media import Path
from vidqueue.processors.remote.cog_settings import schema_in
from vidqueue.processors.remote.kept_ids import KeptId
from vidqueue.processors.remote.left_work import end_left
from vidqueue.processors.remote.replicate_settings import Account, ReplicateAccounts, document_of
from vidqueue.processors.remote.schema_check import files_in, refuse_faults

INPUT: Path = ("input",)


class ReplicateParams(Parameters):
    """Parameters of the processor `replicate`."""

    account: str = Field(max_length=32, description="Name of an account in `replicate.accounts`.")
    model: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}/[A-Za-z0-9][A-Za-z0-9._-]{0,99}(:[A-Za-z0-9]{1,100})?$",
        description="`owner/name`, or `owner/name:version`.",
    )
    input: dict[str, Any] = Field(
        default_factory=dict,
        description="Input of the model, checked against its schema. A file may be any media reference.",
    )

    @model_validator(mode="after")
    def _known(self, info: ValidationInfo) -> ReplicateParams:
        config = settings_of(info, ReplicateAccounts)
        if config is not None:
            account_of(config, self.account)
        return self


class Replicate(Processor):
    """Run a model at Replicate, or at a compatible server."""

    name = "replicate"
    settings = "replicate"
    Settings: ClassVar[type[BaseModel]] = ReplicateAccounts
    Params = ReplicateParams
    asks_peer = True
    # A cold model takes minutes to start. The server is asked whether it lives.
    stall_timeout_s = 1800
    # The server is told first.
    cancel_grace_s = 15

    def device_for(self, params: Any) -> Device:
        """The kind of lane that the account is configured for."""
        return account_of(self.config, params.account).device

    def lane_for(self, params: Any) -> str | None:
        """The lane that the account is configured for."""
        return account_of(self.config, params.account).lane

    def resource_for(self, params: Any) -> Resource | None:
        """The account, which takes a number of predictions at a time."""
        account = account_of(self.config, params.account)
        return Resource(f"replicate:{params.account}", account.concurrency, f"the account {params.account}")

    def unavailable(self) -> str:
        """An account is needed, with a token that can be read."""
        if not self.config.accounts:
            return "no account is configured under [replicate.accounts]"
        faults = [f"{name}: {one.fault()}" for name, one in self.config.accounts.items() if one.fault()]
        return "; ".join(faults) if len(faults) == len(self.config.accounts) else ""

    def check(self, params: Any) -> None:
        """Check the model's input against its schema, as far as that can be known.

        Raises:
            VidqueueError: `unknown_model`, `invalid_params`.
        """
        refuse_faults(self._input_schema(params), params.input, INPUT, f"The model {params.model}")

    def media(self, params: Any) -> Iterable[MediaField]:
        """The files in the model's input, where its schema says so; without a schema, references to our own files."""
        return files_in(self._input_schema(params), params.input, INPUT)

    def end_left(self, kept: KeptId) -> bool:
        """Cancel the prediction, unless it is done."""
        account = next((one for one in self.config.accounts.values() if one.url == kept.server), None)
        return account is None or end_left(kept, account.token_file, "/predictions", ("POST", "/cancel"))

    def run(self, params: Any, ctx: Context) -> list[OutputDraft]:
        """Have the server do the work, and fetch what it made."""
        from vidqueue.processors.remote.replicate_run import ReplicateRun

        account = account_of(self.config, params.account)
        return ReplicateRun(account, document_of(account, params.model), params, ctx).run()

    def _input_schema(self, params: Any) -> Mapping[str, Any] | None:
        document = document_of(account_of(self.config, params.account), params.model)
        return schema_in(document, "Input") if document is not None else None


def account_of(settings: ReplicateAccounts, name: str) -> Account:
    """The account of this name.

    Raises:
        VidqueueError: `unknown_model`.
    """
    return entry(settings.accounts, name, kind="account", section="replicate.accounts", field="account")
