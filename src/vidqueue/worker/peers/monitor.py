"""Monitors managed peers: stops those that are idle or unhealthy, and writes the state of each to its lane's row."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog

from vidqueue.db.pool import Database
from vidqueue.db.tables import lanes
from vidqueue.errors import VidqueueError
from vidqueue.ops.watchdog import Heartbeat
from vidqueue.worker.peers.lane_peers import LanePeers

LOOK_EVERY_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class PeerMonitor:
    """Monitors the peers of each lane, by the lane's id."""

    database: Database
    lanes: Mapping[UUID, LanePeers]
    heartbeat: Heartbeat
    _written: dict[UUID, list[dict[str, Any]]] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        """Check all peers every second, until cancelled."""
        while True:
            self.heartbeat()
            await asyncio.gather(*(one.check() for one in self.lanes.values()))
            try:
                await self._write()
            except VidqueueError as error:
                log.warning("peers_wait_for_database", error=error.message)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _write(self) -> None:
        """Write the states that have changed."""
        described = {lane_id: one.described() for lane_id, one in self.lanes.items()}
        changed = {lane_id: one for lane_id, one in described.items() if one != self._written.get(lane_id, [])}
        if changed:
            async with self.database.statement() as connection:
                await lanes.write_peers(connection, changed)
            self._written |= changed
