"""The storage quota of an owner, checked before the bytes arrive."""

from __future__ import annotations

from vidqueue.db.pool import Connection
from vidqueue.db.tables import limits
from vidqueue.errors import VidqueueError


async def require_room(connection: Connection, owner: str, size: int) -> None:
    """Refuse this many bytes if their owner may not store them.

    Raises:
        VidqueueError: `limit_reached`.
    """
    left = await limits.storage_left(connection, owner)
    if left is not None and left < size:
        raise VidqueueError("limit_reached", f"{owner} may store at most {left} more bytes.", retry_after_s=60)
