"""Hashes of uploads: SHA-256, which vidqueue uses, and BLAKE3, which the clients of the Comfy API use."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from blake3 import blake3


@dataclass(frozen=True, slots=True)
class Hashes:
    """The hashes of a file, in hex."""

    sha256: str
    blake3: str


class Digests:
    """Both hashes of bytes that come in pieces."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._blake3 = blake3()

    def update(self, chunk: bytes) -> None:
        """Add a piece. Large pieces are hashed without the interpreter's lock."""
        self._sha256.update(chunk)
        self._blake3.update(chunk)

    def result(self) -> Hashes:
        """Return the hashes of what has been added."""
        return Hashes(self._sha256.hexdigest(), self._blake3.hexdigest())
