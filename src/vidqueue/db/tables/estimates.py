"""What estimates are made from: how long attempts took, and who stands in line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from vidqueue.db.pool import Connection, rows
from vidqueue.job import Device


@dataclass(frozen=True, slots=True)
class Sample:
    """How long an attempt of a processor took, how many bytes its inputs had, if that is known, and when it ended."""

    processor: str
    run_s: float
    input_bytes: int | None
    ago_s: float = 0.0


@dataclass(frozen=True, slots=True)
class InLine:
    """A job that could run; the size of its inputs is known where they are stored files."""

    id: UUID
    processor: str
    device: Device
    wanted_lane: str | None
    input_bytes: int | None
    labels: Sequence[str] = ()


async def learned(connection: Connection, *, limit: int) -> list[Sample]:
    """Return the successes among the newest attempts that ended, newest first."""
    return [Sample(**found) for found in await rows(connection, "estimates", "learned", limit=limit)]


async def line(connection: Connection, *, limit: int) -> list[InLine]:
    """Return the first jobs of the line of each kind of lane, in their order."""
    return [InLine(**found) for found in await rows(connection, "estimates", "line", limit=limit)]
