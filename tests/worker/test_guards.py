"""Leases are renewed by one statement at a time: two of them could wait for each other's rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest

from tests.factory import eventually
from vidqueue.db.tables import attempts
from vidqueue.db.tables.attempts import Wanted
from vidqueue.job import AttemptRef
from vidqueue.services import Services
from vidqueue.worker.guards import Drain, Guards


async def test_attempts_that_begin_after_a_request_are_looked_at_by_one_renewal_at_a_time(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewals, running = list[int](), 0

    async def renew(connection: Any, refs: Sequence[AttemptRef], *, lease_s: float) -> dict[int, Wanted]:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0.02)
        running -= 1
        renewals.append(len(refs))
        return {ref.fence: Wanted(False, False) for ref in refs}

    monkeypatch.setattr(attempts, "renew", renew)
    async with Guards(services.database, services.event_feed, Drain(), services.settings.running) as guards:
        guards._request_heard_at = asyncio.get_running_loop().time()
        with ExitStack() as stack:
            begun = []
            for fence in range(20):
                begun.append(stack.enter_context(guards.over(AttemptRef(uuid4(), 1, fence))))
                await asyncio.sleep(0.003)

            async def all_are_renewed() -> bool:
                return renewals[-1:] == [20]

            await eventually(all_are_renewed)
            assert len(renewals) < 20
            assert not any(guard.ended.done() for guard in begun)
