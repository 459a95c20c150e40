"""Bulk actions: on all jobs that match and no other, in short transactions, undone before they begin, stopped later."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from tests.factory import Queue
from vidqueue.db.tables.bulk_actions import BulkActionRow
from vidqueue.errors import VidqueueError
from vidqueue.jobs import bulk, bulk_runner, control
from vidqueue.jobs.bulk import BulkRequest
from vidqueue.jobs.bulk_runner import BulkRunner
from vidqueue.ops.watchdog import Watchdog
from vidqueue.principal import LOCAL, Principal, Role
from vidqueue.services import Services

ANYBODY = Principal("root", Role.OPERATE, UUID(int=1))


async def ask(services: Services, verb: str, principal: Principal = LOCAL, **more: Any) -> UUID:
    """A bulk action that begins at once."""
    asked = BulkRequest.model_validate({"verb": verb, "jobs": {}, "delay_s": 0, **more})
    return (await bulk.create(services.database, asked, principal)).id


def runner(services: Services) -> BulkRunner:
    return BulkRunner(services.database, services.storage, Watchdog().register("bulk_actions"))


async def finished(services: Services, action_id: UUID) -> BulkActionRow:
    """The action after a runner has done all that is due."""
    runs = runner(services)
    while await runs.run_due():
        pass
    return await bulk.read(services.database, action_id, owner=None)


async def many(queue: Queue, count: int, **columns: str) -> None:
    """Queue many jobs by one statement."""
    values = {"processor": "'zoo'", "input": "'{}'", "owner": "'local'", "device": "'cpu'"} | columns
    await queue.sql(
        f"INSERT INTO vidqueue.jobs ({', '.join(values)}) SELECT {', '.join(values.values())} "
        f"FROM generate_series(1, {count})"
    )


async def states(queue: Queue) -> dict[str, int]:
    return {one["state"]: one["n"] for one in await queue.sql("SELECT state, count(*) n FROM vidqueue.jobs GROUP BY 1")}


async def test_all_jobs_that_match_are_changed_and_no_other(services: Services, queue: Queue) -> None:
    await many(queue, 450, tags="ARRAY['many']")
    await many(queue, 30)
    cancel = await ask(services, "cancel", jobs={"tag": "many"})
    late = await queue.submit(tags=("many",))
    done = await finished(services, cancel)
    assert (done.state, done.matched, done.looked, done.changed) == ("done", 450, 450, 450)
    assert (await queue.job(late)).state == "queued"
    assert await states(queue) == {"canceled": 450, "queued": 31}
    again = await finished(services, await ask(services, "cancel", jobs={"tag": "many"}))
    assert (again.state, again.changed) == ("done", 1)
    retried = await finished(services, await ask(services, "retry", jobs={"tag": "many"}))
    assert (retried.changed, await states(queue)) == (451, {"queued": 481})
    raised = await finished(services, await ask(services, "priority", jobs={"tag": "many"}, priority=7))
    assert raised.changed == 451
    assert (await queue.sql("SELECT count(*) n FROM vidqueue.jobs WHERE priority = 7"))[0]["n"] == 451
    await finished(services, await ask(services, "cancel"))
    deleted = await finished(services, await ask(services, "delete", jobs={"tag": "many"}))
    assert (deleted.changed, await states(queue)) == (451, {"canceled": 30})
    assert await queue.violations() == []


@pytest.mark.parametrize("selection", [
    {"processor": "zoo"}, {"text": "reel"}, {"owner": "local"}, {"state": ["queued"]},
    {"created_after": "2000-01-01T00:00:00Z"},
])  # fmt: skip
async def test_every_kind_of_filter_reaches_all_pages(
    services: Services, queue: Queue, monkeypatch: pytest.MonkeyPatch, selection: dict[str, Any]
) -> None:
    monkeypatch.setattr(bulk_runner, "STEP", 7)
    monkeypatch.setattr(bulk_runner, "COUNTED", 11)
    await many(queue, 29, title="'Reel'")
    done = await finished(services, await ask(services, "cancel", jobs=selection))
    assert (done.matched, done.changed, await states(queue)) == (29, 29, {"canceled": 29})


async def test_it_is_undone_before_it_begins_and_stopped_later(
    services: Services, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_runner, "STEP", 10)
    await many(queue, 30)
    waits = await ask(services, "cancel", delay_s=10)
    assert (await finished(services, waits)).matched == 30
    assert (await bulk.undo(services.database, waits, owner="local")).state == "undone"
    assert (await bulk.undo(services.database, waits, owner="local")).state == "undone"
    assert await states(queue) == {"queued": 30}
    await queue.sql("UPDATE vidqueue.bulk_actions SET begins_at = now()")
    assert (await finished(services, waits)).changed == 0
    runs = await ask(services, "cancel")
    assert await runner(services).step(runs)
    assert (await bulk.undo(services.database, runs, owner="local")).state == "stopped"
    assert not await runner(services).step(runs)
    assert await states(queue) == {"canceled": 10, "queued": 20}
    whole = await ask(services, "cancel")
    await finished(services, whole)
    with pytest.raises(VidqueueError, match="has ended"):
        await bulk.undo(services.database, whole, owner="local")


async def test_any_number_of_daemons_do_each_job_once(
    services: Services, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_runner, "STEP", 5)
    await many(queue, 100)
    action = await ask(services, "cancel")
    await asyncio.gather(*(finished(services, action) for _ in range(4)))
    done = await finished(services, action)
    assert (done.state, done.looked, done.changed) == ("done", 100, 100)
    assert await queue.violations() == []


async def test_nobody_acts_on_jobs_of_others_or_sees_their_actions(services: Services, queue: Queue) -> None:
    await many(queue, 3)
    await many(queue, 4, owner="'ann'")
    ann = Principal("ann", Role.SUBMIT, UUID(int=2))
    assert (await finished(services, await ask(services, "cancel", ann, jobs={"owner": "local"}))).changed == 0
    action = await ask(services, "cancel", ann)
    assert (await finished(services, action)).changed == 4
    with pytest.raises(VidqueueError, match="no bulk action"):
        await bulk.read(services.database, action, owner="local")
    with pytest.raises(VidqueueError, match="no bulk action"):
        await bulk.undo(services.database, action, owner="local")
    assert (await finished(services, await ask(services, "cancel", ANYBODY, jobs={"owner": "local"}))).changed == 3


async def test_what_cannot_be_meant_is_refused(services: Services, queue: Queue) -> None:
    del queue
    with pytest.raises(VidqueueError, match="No job in these states can be canceled"):
        await ask(services, "cancel", jobs={"state": ["failed"]})
    for wrong in ({"priority": 3}, {"jobs": {"state": ["lost"]}}, {"jobs": {"text": "x", "batch": str(UUID(int=1))}}):
        with pytest.raises(ValueError, match="1 validation error"):
            await ask(services, "cancel", **wrong)
    with pytest.raises(ValueError, match="priority"):
        await ask(services, "priority")


async def test_a_job_is_put_before_all_others(services: Services, queue: Queue) -> None:
    lane = await queue.lane()
    await many(queue, 5, priority="3", owner="'ann'")
    await many(queue, 5, priority="20")
    await queue.sql("UPDATE vidqueue.jobs SET queued_at = queued_at - interval '1 hour' WHERE priority = 3")
    chosen = await queue.submit()
    moved = await control.run_next(services.database, chosen, owner="local")
    assert (moved.position, moved.priority < 1000) == (1, True)
    ref = await queue.dispatch(lane)
    assert ref is not None
    assert ref.job_id == chosen
    with pytest.raises(VidqueueError, match="only a waiting job"):
        await control.run_next(services.database, chosen, owner="local")
    with pytest.raises(VidqueueError, match="There is no job"):
        await control.run_next(services.database, chosen, owner="bob")
