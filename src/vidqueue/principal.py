"""Who asks: roles of API keys, and the principal of a request. No IO."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from vidqueue.errors import VidqueueError

LOCAL_OWNER = "local"


class Role(StrEnum):
    """What a key may do. Each role may do everything that those before it may."""

    READ = "read"
    SUBMIT = "submit"
    OPERATE = "operate"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """True if this role may do what `other` may."""
        return _ORDER.index(self) >= _ORDER.index(other)


_ORDER = tuple(Role)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sent a request: an owner in a role. `key_id` is None where no key is needed."""

    owner: str
    role: Role
    key_id: UUID | None = None
    expires_at: datetime | None = None

    @property
    def scope(self) -> str | None:
        """The owner whose jobs and files the request may see and change; None for those of everybody."""
        return None if self.role.includes(Role.OPERATE) else self.owner

    def acting_for(self, owner: str | None) -> str:
        """Return the owner of what the request makes: `owner` if the request names one, else its own.

        Raises:
            VidqueueError: `forbidden` if it names another one and may not.
        """
        if owner is None or owner == self.owner:
            return self.owner
        if not self.role.includes(Role.OPERATE):
            hint = "Leave the owner out, or use a key with the role operate."
            raise VidqueueError("forbidden", f"This key cannot act for the owner {owner!r}.", hint=hint)
        return owner


# Principals of requests while there are no keys. The owner is `local` for the user who runs the daemon, and for others
# their name, so that limits, shares and reports distinguish them. All of them have the same permissions.
LOCAL = Principal(LOCAL_OWNER, Role.ADMIN)
