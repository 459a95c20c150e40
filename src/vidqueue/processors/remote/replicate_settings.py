"""The section `replicate` of the configuration: settings of the compatible API, and accounts of the processor."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from vidqueue.errors import VidqueueError
from vidqueue.processors.configured import EntryName, Url
from vidqueue.processors.remote.documents import Documents
from vidqueue.processors.remote.peer import Peer, PeerError
from vidqueue.settings.compat import ReplicateSettings
from vidqueue.settings.entries import Section

ASK_S = 5.0


class Account(Section):
    """An account at Replicate, or at a server that answers like it."""

    url: Url = Field("https://api.replicate.com/v1", description="Base address with the version.")
    token_file: Path | None = Field(None, description="File with the token of the account.")
    device: Literal["cpu", "gpu"] = Field("cpu", description="Kind of lane that its jobs need.")
    lane: str | None = Field(None, max_length=64, description="Run its jobs only on this lane.")
    concurrency: int = Field(10, ge=1, le=1000, description="Most predictions that may run at the same time.")
    away_timeout_s: float = Field(
        600, ge=0, description="Time without an answer after which a running job is interrupted, in seconds."
    )
    file_limit_mb: int = Field(4096, ge=1, description="Largest file taken from a model, in MiB.")

    def fault(self) -> str:
        """Why its token cannot be read; empty if it can, or if it has none."""
        if self.token_file is None or os.access(self.token_file, os.R_OK):
            return ""
        return f"{self.token_file} cannot be read"


class ReplicateAccounts(ReplicateSettings):
    """The API that is compatible with Replicate, and accounts at Replicate itself."""

    accounts: dict[EntryName, Account] = Field({}, description="Accounts of the processor `replicate`, by name.")


_documents = Documents(known_for_s=300, unknown_for_s=5)


def document_of(account: Account, model: str) -> Mapping[str, Any] | None:
    """The OpenAPI document of a model; None if it cannot be had. It may block.

    Raises:
        VidqueueError: `unknown_model`, the account has no such model.
    """
    # Whose token asks decides what is there.
    key = (account.url, account.token_file, model)
    return _documents.get(key, lambda: _asked(account, model))


def _asked(account: Account, model: str) -> Mapping[str, Any] | None:
    named, _, version = model.partition(":")
    path = f"/models/{named}" + (f"/versions/{version}" if version else "")
    try:
        token = account.token_file.read_text(encoding="utf-8").strip() if account.token_file else ""
        headers = {"Authorization": f"Bearer {token}"} if token.isascii() and token.isprintable() and token else {}
        status, answer = Peer(account.url, headers).ask("GET", path, idle_s=ASK_S)
    except (OSError, UnicodeError, PeerError):
        return None
    if status == 404:
        message = f"There is no model {model} at {account.url}."
        raise VidqueueError("unknown_model", message, errors=[{"pointer": "/input/model", "detail": message}])
    found = answer if isinstance(answer, dict) else {}
    document = (found if version else found.get("latest_version") or {}).get("openapi_schema")
    return document if isinstance(document, dict) else None
