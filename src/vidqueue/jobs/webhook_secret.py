"""The secret that signs webhooks, as Standard Webhooks has it: made at the first start, rotated without a gap.

The file has one secret a line, the newest first. Each delivery is signed with all of them, so that a receiver may
change to the new one whenever it likes.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from vidqueue.errors import VidqueueError

BYTES = 32
# After a rotation receivers know the newest secret or the one before it.
KEPT = 2


class WebhookSecret:
    """The file of the secret. It is read again for each use, so a rotation needs no restart."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[str]:
        """Return the secrets, the newest first; make one if there is no file.

        Raises:
            VidqueueError: `internal_error`, if the file cannot be read or has no secret.
        """
        try:
            if not self._path.exists():
                self._write([_new()], replace=False)
            lines = self._path.read_text(encoding="ascii").split()
            for line in lines:
                Webhook(line)
        except (OSError, ValueError, EmptyWebhookSecretError) as error:
            message = f"The webhook secret cannot be read from {self._path}: {error}."
            raise VidqueueError("internal_error", message) from None
        if not lines:
            raise VidqueueError("internal_error", f"There is no webhook secret in {self._path}.")
        return lines

    def rotate(self) -> list[str]:
        """Put a new secret before the present one, and return both."""
        lines = [_new(), *self.read()][:KEPT]
        self._write(lines, replace=True)
        return lines

    def sign(self, message_id: str, at: datetime, body: str) -> str:
        """Return the header `webhook-signature` of a message, with a signature by each secret."""
        return " ".join(Webhook(secret).sign(message_id, at, body) for secret in self.read())

    def _write(self, lines: list[str], *, replace: bool) -> None:
        aside = self._path.with_name(f"{self._path.name}.{uuid4().hex}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write("".join(f"{line}\n" for line in lines))
            file.flush()
            os.fsync(descriptor)
        if replace:
            aside.replace(self._path)
            return
        # Another process may be first, and both must read the same secret.
        with contextlib.suppress(FileExistsError):
            self._path.hardlink_to(aside)
        aside.unlink()


def _new() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(BYTES)).decode()
